//! MAIL FROM: who may begin a transaction.

use schemas::envelope::{BodyType, Ret};
use schemas::limits::Hashes;
use schemas::verdict::Identity;
use schemas::{ReversePath, SmtpReply};

use super::command::{Parameter, is_xtext};
use super::{Action, Session, SessionUser, Transaction, World, limits, reply, say};

/// What MAIL carries besides the path.
#[derive(Default)]
struct MailParameters {
    size: Option<u64>,
    body_type: BodyType,
    smtputf8: bool,
    ret: Option<Ret>,
    envid: Option<String>,
}

impl Session {
    pub(super) fn mail(
        &mut self,
        path: ReversePath,
        parameters: &[Parameter],
        world: &World<'_>,
    ) -> Vec<Action> {
        if self.helo.is_none() {
            return self.error(reply(503, (5, 5, 1), "EHLO first"));
        }
        if self.transaction.is_some() {
            return self.error(reply(503, (5, 5, 1), "One transaction at a time: RSET first"));
        }
        if let Some(why) = world.not_accepting {
            return self.refuse_for_now("log_unavailable", reply(451, (4, 3, 0), why));
        }
        let Some(user) = self.user(world) else {
            if world.settings.may_lack_a_user() {
                let text = "The settings cannot be read as a whole now, try again later";
                return self.refuse_for_now("settings_unreadable", reply(451, (4, 3, 0), text));
            }
            return self.refuse(
                "unauthorised",
                reply(550, (5, 7, 1), "Message submission is for authorised users only!"),
            );
        };
        let parsed = match mail_parameters(parameters) {
            Ok(parsed) => parsed,
            Err(problem) => return self.error(problem),
        };
        let needs_utf8 = path.mailbox().is_some_and(schemas::Mailbox::needs_smtputf8);
        if needs_utf8 && !parsed.smtputf8 {
            return self.error(reply(553, (5, 6, 7), "A non-ASCII address needs SMTPUTF8"));
        }
        if let Some(refusal) = locked(&user, &path, world) {
            return self.refuse_for_now("locked", refusal);
        }
        if let Some(refusal) = limits::refusal(&user, 1, world) {
            return self.refuse_for_now("limit", refusal);
        }
        if parsed.size.is_some_and(|size| size > user.effective.max_message_bytes) {
            let text = format!("The message is larger than {} bytes", user.effective.max_message_bytes);
            return self.refuse("size", reply(552, (5, 3, 4), text));
        }
        self.transaction = Some(Transaction {
            user,
            reverse_path: path,
            recipients: Vec::new(),
            new_recipients: Hashes::default(),
            ret: parsed.ret,
            envid: parsed.envid,
            body_type: parsed.body_type,
            smtputf8: parsed.smtputf8,
            envelope_bytes: 2048,
            in_chunks: false,
        });
        say(reply(250, (2, 1, 0), "OK"))
    }

    /// A refusal that is not the client's mistake: it counts no error.
    pub(super) fn refuse_for_now(&mut self, code: &'static str, refusal: SmtpReply) -> Vec<Action> {
        self.refused = Some((code, refusal.clone()));
        say(refusal)
    }
}

/// The refusal for a locked user, or an identity that is known before the message: the login or the reverse-path.
fn locked(user: &SessionUser, path: &ReversePath, world: &World<'_>) -> Option<SmtpReply> {
    // Identities that the scorer found are in lower case.
    let path = path.mailbox().map(ToString::to_string);
    let lower = path.as_ref().map(|path| path.to_lowercase()).filter(|lower| Some(lower) != path.as_ref());
    let candidates = [user.login.clone(), path, lower];
    let of_user = world.senders.lock(&user.id, None, world.now);
    let lock = of_user.or_else(|| {
        candidates
            .into_iter()
            .flatten()
            .find_map(|name| world.senders.lock(&user.id, Some(&Identity(name)), world.now))
    })?;
    Some(reply(450, (4, 7, 1), format!("Sender is locked for now: {}", lock.reason)))
}

fn mail_parameters(parameters: &[Parameter]) -> Result<MailParameters, SmtpReply> {
    let mut parsed = MailParameters::default();
    let bad = |keyword: &str| reply(501, (5, 5, 4), format!("Bad value of {keyword}"));
    for Parameter { keyword, value } in parameters {
        match (keyword.as_str(), value.as_deref()) {
            // `parse` alone would take a sign.
            ("SIZE", Some(value)) if value.bytes().all(|b| b.is_ascii_digit()) => {
                parsed.size = Some(value.parse().map_err(|_| bad(keyword))?);
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("7BIT") => {
                parsed.body_type = BodyType::SevenBit;
            }
            ("BODY", Some(value)) if value.eq_ignore_ascii_case("8BITMIME") => {
                parsed.body_type = BodyType::EightBitMime;
            }
            ("BODY", _) => return Err(reply(501, (5, 5, 4), "BODY is 7BIT or 8BITMIME")),
            ("SMTPUTF8", None) => parsed.smtputf8 = true,
            ("RET", Some(value)) if value.eq_ignore_ascii_case("FULL") => parsed.ret = Some(Ret::Full),
            ("RET", Some(value)) if value.eq_ignore_ascii_case("HDRS") => parsed.ret = Some(Ret::Headers),
            ("ENVID", Some(value)) if !value.is_empty() && value.len() <= 100 && is_xtext(value) => {
                parsed.envid = Some(value.to_owned());
            }
            ("AUTH", Some(value)) if value == "<>" || is_xtext(value) => {} // RFC 4954 5: trusted by nobody here
            ("SIZE" | "SMTPUTF8" | "RET" | "ENVID" | "AUTH", _) => return Err(bad(keyword)),
            _ => return Err(reply(555, (5, 5, 4), format!("Parameter {keyword} is not supported"))),
        }
    }
    Ok(parsed)
}
