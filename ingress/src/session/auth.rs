//! AUTH PLAIN (RFC 4616) and LOGIN (RFC 4954).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemas::SmtpReply;

use super::{Action, AuthResult, Session, TOO_MANY_CONNECTIONS, World, reply, say};

/// Where an AUTH dialogue stands.
#[derive(Debug)]
pub(super) enum Dialogue {
    Plain,
    LoginName,
    LoginPassword {
        login: String,
    },
    /// The password is being checked.
    Checking,
}

impl Session {
    pub(super) fn auth_command(
        &mut self,
        mechanism: &str,
        initial: Option<&str>,
        world: &World<'_>,
    ) -> Vec<Action> {
        if self.helo.is_none() || !self.esmtp {
            return self.error(reply(503, (5, 5, 1), "EHLO first"));
        }
        if self.login.is_some() {
            return self.error(reply(503, (5, 5, 1), "Authenticated already"));
        }
        if self.transaction.is_some() {
            return self.error(reply(503, (5, 5, 1), "Not within a mail transaction"));
        }
        if !self.auth_offered() {
            return self.error(reply(538, (5, 7, 11), "Start TLS first: passwords are only taken encrypted"));
        }
        if let Some(why) = world.not_accepting {
            return say(reply(454, (4, 7, 0), why));
        }
        match (mechanism, initial) {
            ("PLAIN", None) => self.ask(Dialogue::Plain, ""),
            ("LOGIN", None) => self.ask(Dialogue::LoginName, "Username:"),
            ("PLAIN", Some(initial)) => {
                self.auth = Some(Dialogue::Plain);
                self.auth_line(if initial == "=" { b"" } else { initial.as_bytes() })
            }
            ("LOGIN", Some(initial)) => {
                self.auth = Some(Dialogue::LoginName);
                self.auth_line(if initial == "=" { b"" } else { initial.as_bytes() })
            }
            _ => self.error(reply(504, (5, 5, 4), "Mechanisms: PLAIN, LOGIN")),
        }
    }

    /// A line of the dialogue.
    pub(super) fn auth_line(&mut self, line: &[u8]) -> Vec<Action> {
        let Some(dialogue) = self.auth.take() else { return Vec::new() };
        if line == b"*" {
            return self.error(reply(501, (5, 7, 0), "Authentication cancelled"));
        }
        let Some(text) = STANDARD.decode(line).ok().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return self.error(reply(501, (5, 5, 2), "Not base64 of UTF-8"));
        };
        match dialogue {
            Dialogue::Plain => {
                let parts: Vec<&str> = text.split('\0').collect();
                match parts[..] {
                    // Nobody may act for somebody else here (RFC 4616 2).
                    [other, login, _]
                        if !other.is_empty() && other.to_lowercase() != login.to_lowercase() =>
                    {
                        self.refuse("auth_failed", reply(535, (5, 7, 8), "No login may act as another"))
                    }
                    [_, login, password] if !login.is_empty() => {
                        self.check(login.to_owned(), password.to_owned())
                    }
                    _ => self.error(reply(
                        501,
                        (5, 5, 2),
                        "PLAIN wants: authorization-id NUL login NUL password",
                    )),
                }
            }
            Dialogue::LoginName => self.ask(Dialogue::LoginPassword { login: text }, "Password:"),
            Dialogue::LoginPassword { login } => self.check(login, text),
            Dialogue::Checking => Vec::new(),
        }
    }

    fn ask(&mut self, next: Dialogue, prompt: &str) -> Vec<Action> {
        self.auth = Some(next);
        say(SmtpReply { code: 334, enhanced: None, text: STANDARD.encode(prompt) })
    }

    fn check(&mut self, login: String, password: String) -> Vec<Action> {
        self.auth = Some(Dialogue::Checking);
        vec![Action::CheckPassword { login, password }]
    }

    /// What came of the check.
    pub fn authenticated(&mut self, result: AuthResult) -> Vec<Action> {
        self.auth = None;
        match result {
            AuthResult::Good(login) => {
                self.login = Some(login);
                say(reply(235, (2, 7, 0), "Authenticated"))
            }
            AuthResult::Bad => {
                self.refuse("auth_failed", reply(535, (5, 7, 8), "Login or password is wrong"))
            }
            AuthResult::Blocked(why) => self.refuse("auth_blocked", reply(454, (4, 7, 0), why)),
            AuthResult::TooManyConnections => {
                let refusal = SmtpReply { code: 421, enhanced: None, text: TOO_MANY_CONNECTIONS.into() };
                self.refused = Some(("too_many_connections", refusal.clone()));
                vec![Action::Reply(refusal), Action::Close]
            }
            AuthResult::Unavailable => say(reply(454, (4, 7, 0), "Cannot be checked now, try again")),
        }
    }
}
