//! The SMTP dialogue as a pure state machine: lines and results in, actions out; no I/O, no clock.
//!
//! One file per stage: `ehlo`, `starttls`, `auth`, `mail`, `rcpt`, `data`. `command` parses lines.

mod auth;
pub mod command;
mod data;
mod ehlo;
mod limits;
mod mail;
mod rcpt;
mod starttls;

pub use data::MessageProblem;

use schemas::envelope::{BodyType, Recipient, Ret, Tls};
use schemas::limits::Hashes;
use schemas::senders::SendersView;
use schemas::settings::{Effective, SettingsView};
use schemas::{Domain, EnhancedCode, ReversePath, SmtpReply, Timestamp, UserId};

use command::Command;

/// The words agreed upon, which have no enhanced status code.
pub const TOO_MANY_CONNECTIONS: &str =
    "Too many concurrent SMTP connections from this IP address; please try again later.";
/// Commands between two messages; more than the recipients of the largest envelope need.
const MAX_COMMANDS: u32 = 10_000;

/// What a session is told about its listener and the limits, once.
#[derive(Clone, Debug)]
pub struct Options {
    pub hostname: String,
    /// STARTTLS can be offered.
    pub can_start_tls: bool,
    pub auth_without_tls: bool,
    pub max_errors: u32,
    pub max_recipients: usize,
}

/// The world as it is at this moment.
pub struct World<'a> {
    pub settings: &'a SettingsView,
    pub senders: &'a SendersView,
    pub now: Timestamp,
    /// Why no mail is taken in just now, for the client's log.
    pub not_accepting: Option<&'a str>,
}

/// What the connection must do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Reply(SmtpReply),
    /// Start TLS, then tell the session.
    StartTls,
    /// Check a login, then call `authenticated`.
    CheckPassword {
        login: String,
        password: String,
    },
    /// Read the message up to its end, then call `message_done`.
    ReceiveMessage,
    /// Read so many octets of the message.
    ReceiveChunk {
        size: u64,
        last: bool,
    },
    /// Read and throw away so many octets: a refused BDAT.
    DiscardChunk {
        size: u64,
    },
    Close,
}

/// Who the client is.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionUser {
    pub id: UserId,
    pub domain: Domain,
    pub login: Option<String>,
    pub effective: Effective,
}

/// A mail transaction (RFC 5321 3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    pub user: SessionUser,
    pub reverse_path: ReversePath,
    pub recipients: Vec<Recipient>,
    /// Those who were not written to before, where a limit asks for it.
    pub new_recipients: Hashes,
    pub ret: Option<Ret>,
    pub envid: Option<String>,
    pub body_type: BodyType,
    pub smtputf8: bool,
    /// Bytes of the envelope as it will be written, roughly.
    pub envelope_bytes: usize,
    /// A BDAT has begun: DATA is out of order, RCPT too.
    pub in_chunks: bool,
}

/// What came of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// The login as the user's id has it.
    Good(String),
    Bad,
    /// Too many failures: the reason, for the client.
    Blocked(String),
    /// The password is right, but this login has all its connections from this address.
    TooManyConnections,
    /// Cannot be checked now.
    Unavailable,
}

/// The state of a session.
#[derive(Debug)]
pub struct Session {
    options: Options,
    client_ip: std::net::IpAddr,
    helo: Option<String>,
    esmtp: bool,
    tls: Option<Tls>,
    login: Option<String>,
    auth: Option<auth::Dialogue>,
    transaction: Option<Transaction>,
    errors: u32,
    /// Since the last message.
    commands: u32,
    /// Stable code of the last refusal, for the `sessions` topic; taken by the connection.
    refused: Option<(&'static str, SmtpReply)>,
}

impl Session {
    #[must_use]
    pub fn new(options: Options, client_ip: std::net::IpAddr, tls: Option<Tls>) -> Self {
        Session {
            options,
            client_ip,
            helo: None,
            esmtp: false,
            tls,
            login: None,
            auth: None,
            transaction: None,
            errors: 0,
            commands: 0,
            refused: None,
        }
    }

    /// The greeting.
    #[must_use]
    pub fn greeting(&self) -> SmtpReply {
        SmtpReply { code: 220, enhanced: None, text: format!("{} ESMTP Mailweir", self.options.hostname) }
    }

    /// One command line, without its CRLF.
    pub fn line(&mut self, line: &[u8], world: &World<'_>) -> Vec<Action> {
        if self.auth.is_some() {
            return self.auth_line(line);
        }
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            return vec![
                Action::Reply(reply(421, (4, 7, 0), "Too many commands without a message")),
                Action::Close,
            ];
        }
        let command = match command::parse(line) {
            Ok(command) => command,
            Err(problem) if command::verb_is(line, "BDAT") => {
                // How many octets follow cannot be told, and they are no commands.
                return self.error(problem.reply()).into_iter().chain([Action::Close]).collect();
            }
            Err(problem) => return self.error(problem.reply()),
        };
        if self.transaction.as_ref().is_some_and(|t| t.in_chunks) && !command.fits_between_chunks() {
            return self.error(reply(
                503,
                (5, 5, 1),
                "A BDAT transfer is under way: only BDAT, RSET, NOOP and QUIT",
            ));
        }
        match command {
            Command::Ehlo(name) => self.ehlo(&name, true, world),
            Command::Helo(name) => self.ehlo(&name, false, world),
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => self.auth_command(&mechanism, initial.as_deref(), world),
            Command::Mail { path, parameters } => self.mail(path, &parameters, world),
            Command::Rcpt { path, parameters } => self.rcpt(path, &parameters, world),
            Command::Data => self.data(world),
            Command::Bdat { size, last } => self.bdat(size, last, world),
            Command::Rset => {
                self.transaction = None;
                say(reply(250, (2, 0, 0), "Reset"))
            }
            Command::Noop => say(reply(250, (2, 0, 0), "OK")),
            Command::Vrfy => say(reply(252, (2, 0, 0), "Cannot VRFY, but will take mail for delivery")),
            Command::Help => say(reply(214, (2, 0, 0), "See RFC 5321, 6409 and 3030")),
            Command::Quit => vec![Action::Reply(reply(221, (2, 0, 0), "Bye")), Action::Close],
        }
    }

    /// A line that was longer than allowed; the rest of it has been read and thrown away.
    pub fn line_too_long(&mut self) -> Vec<Action> {
        self.auth = None;
        self.refuse("line_too_long", reply(500, (5, 5, 2), "Line too long"))
    }

    /// Whether a client must wait for the reply to this line before it sends more: after DATA (RFC 2920 3.1), because
    /// a message sent too early is read as commands when DATA is refused.
    #[must_use]
    pub fn must_wait_after(&self, line: &[u8]) -> bool {
        self.auth.is_none() && command::verb_is(line, "DATA")
    }

    /// A client that did not wait.
    pub fn out_of_step(&mut self) -> Vec<Action> {
        let refusal = reply(554, (5, 5, 0), "Wait for the reply to DATA before you send more");
        self.refused = Some(("out_of_step", refusal.clone()));
        vec![Action::Reply(refusal), Action::Close]
    }

    /// A line that did not end with CRLF.
    pub fn bare_line_end(&mut self) -> Vec<Action> {
        self.auth = None;
        self.refuse("bare_line_end", reply(500, (5, 5, 2), "Lines end with CR LF"))
    }

    /// Stable code and reply of what was refused since the last call.
    pub fn take_refusal(&mut self) -> Option<(&'static str, SmtpReply)> {
        self.refused.take()
    }

    /// The user that a refusal is booked on, if any.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Longest line expected now is one of an AUTH dialogue.
    #[must_use]
    pub fn in_auth(&self) -> bool {
        self.auth.is_some()
    }

    #[must_use]
    pub fn helo(&self) -> &str {
        self.helo.as_deref().unwrap_or_default()
    }

    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The name of the protocol for the trace field (RFC 3848, RFC 6531).
    #[must_use]
    pub fn protocol(&self) -> String {
        let utf8 = self.transaction.as_ref().is_some_and(|t| t.smtputf8);
        let base = match (utf8, self.esmtp) {
            (true, _) => "UTF8SMTP",
            (false, true) => "ESMTP",
            (false, false) => "SMTP",
        };
        let secured = if self.tls.is_some() { "S" } else { "" };
        let authenticated = if self.login.is_some() { "A" } else { "" };
        format!("{base}{secured}{authenticated}")
    }

    /// The user as things stand: the login, else the address. None: nobody we know.
    fn user(&self, world: &World<'_>) -> Option<SessionUser> {
        let user = match &self.login {
            Some(login) => world.settings.user_by_login(login)?,
            None => world.settings.user_by_ip(self.client_ip)?,
        };
        Some(SessionUser {
            id: user.id(),
            domain: user.domain.clone(),
            login: self.login.clone(),
            effective: world.settings.effective(user),
        })
    }

    /// An error of the client's; too many end the session.
    fn error(&mut self, reply: SmtpReply) -> Vec<Action> {
        self.refuse("protocol", reply)
    }

    fn refuse(&mut self, code: &'static str, refusal: SmtpReply) -> Vec<Action> {
        self.refused = Some((code, refusal.clone()));
        self.errors += 1;
        if self.errors >= self.options.max_errors {
            let last = reply(421, (4, 7, 0), "Too many errors");
            return vec![Action::Reply(refusal), Action::Reply(last), Action::Close];
        }
        say(refusal)
    }
}

fn say(reply: SmtpReply) -> Vec<Action> {
    vec![Action::Reply(reply)]
}

fn reply(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> SmtpReply {
    SmtpReply::new(code, EnhancedCode(enhanced.0, enhanced.1, enhanced.2), text)
}
