//! RCPT TO: one recipient at a time.

use schemas::envelope::{Notify, Recipient};
use schemas::topics::MAX_ENVELOPE_BYTES;
use schemas::{Mailbox, SmtpReply};

use super::command::{ForwardPath, Parameter, Problem, is_xtext};
use super::{Action, Session, Transaction, World, limits, reply, say};

impl Session {
    pub(super) fn rcpt(
        &mut self,
        path: ForwardPath,
        parameters: &[Parameter],
        world: &World<'_>,
    ) -> Vec<Action> {
        let path = match path {
            ForwardPath::Mailbox(path) => path,
            ForwardPath::Postmaster => {
                match Mailbox::parse(&format!("postmaster@{}", self.options.hostname)) {
                    Ok(path) => path,
                    Err(error) => return self.error(Problem::Recipient(error.to_string()).reply()),
                }
            }
        };
        let max_recipients = self.options.max_recipients;
        let Some(transaction) = &mut self.transaction else {
            return self.error(reply(503, (5, 5, 1), "MAIL first"));
        };
        if let Some(why) = world.not_accepting {
            return self.refuse_for_now("log_unavailable", reply(451, (4, 3, 0), why));
        }
        if path.needs_smtputf8() && !transaction.smtputf8 {
            return self.error(reply(553, (5, 6, 7), "A non-ASCII address needs SMTPUTF8"));
        }
        if transaction.recipients.len() >= max_recipients {
            return self.refuse_for_now(
                "too_many_recipients",
                reply(452, (4, 5, 3), format!("At most {max_recipients} recipients")),
            );
        }
        let recipients = transaction.recipients.len() as u64 + 1;
        if let Some(refusal) = limits::refusal(&transaction.user, recipients, world) {
            return self.refuse_for_now("limit", refusal);
        }
        let (notify, orcpt) = match rcpt_parameters(parameters) {
            Ok(parsed) => parsed,
            Err(problem) => return self.error(problem),
        };
        let Transaction { user, new_recipients, .. } = transaction;
        if let Some(refusal) = limits::refusal_of_one_more(user, &path, new_recipients, world) {
            return self.refuse_for_now("limit", refusal);
        }
        // As JSON, with the names of its fields.
        let bytes = path.local_part().len()
            + path.domain().as_str().len()
            + orcpt.as_ref().map_or(0, String::len)
            + 96;
        if transaction.envelope_bytes + bytes > MAX_ENVELOPE_BYTES {
            return self.refuse_for_now(
                "envelope_too_large",
                reply(452, (4, 5, 3), "Too many recipients for one message"),
            );
        }
        transaction.envelope_bytes += bytes;
        transaction.recipients.push(Recipient { forward_path: path, notify, orcpt });
        say(reply(250, (2, 1, 5), "OK"))
    }
}

fn rcpt_parameters(parameters: &[Parameter]) -> Result<(Option<Notify>, Option<String>), SmtpReply> {
    let (mut notify, mut orcpt) = (None, None);
    for Parameter { keyword, value } in parameters {
        match (keyword.as_str(), value.as_deref()) {
            ("NOTIFY", Some(value)) => {
                notify =
                    Some(notify_of(value).ok_or_else(|| {
                        reply(501, (5, 5, 4), "NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY")
                    })?);
            }
            ("ORCPT", Some(value)) => {
                let good = value.len() <= 500
                    && value.split_once(';').is_some_and(|(kind, address)| {
                        !kind.is_empty()
                            && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                            && is_xtext(address)
                    });
                if !good {
                    return Err(reply(501, (5, 5, 4), "ORCPT is addr-type;xtext"));
                }
                orcpt = Some(value.to_owned());
            }
            ("NOTIFY" | "ORCPT", None) => {
                return Err(reply(501, (5, 5, 4), format!("{keyword} wants a value")));
            }
            _ => return Err(reply(555, (5, 5, 4), format!("Parameter {keyword} is not supported"))),
        }
    }
    Ok((notify, orcpt))
}

fn notify_of(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::default());
    }
    let mut notify = Notify::default();
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}
