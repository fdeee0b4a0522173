//! From records of `accepted` to messages that can be judged: read, with the policy of their user, and with what others say
//! of them.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::{LogError, Record, bodies};
use schemas::{Envelope, Topic, spool};

use crate::judge::Case;
use crate::outside::{Findings, Outside};
use crate::policy::{self, Policy};
use crate::run::Member;

/// Messages that others are asked about together are not more than about this, in bytes: so much is in memory.
pub const MAX_TOGETHER_BYTES: usize = 16 * 1024 * 1024;

/// A record that is taken up.
pub struct Taken<'a> {
    pub record: &'a Record,
    /// None where the record is not one of `accepted`, or does not parse: then it can be neither judged nor delivered.
    pub message: Option<Message>,
}

/// A message to be judged.
pub struct Message {
    pub envelope: Envelope,
    /// What stands in the record itself.
    pub inline: Bytes,
    /// The message, or why it is gone.
    pub whole: Result<Bytes, String>,
    pub policy: Arc<Policy>,
    pub findings: Findings,
}

/// Asks others about all of these at once.
pub async fn ask_outside<'a>(outside: &Outside, messages: impl Iterator<Item = &'a mut Message>) {
    // Mail of our own is asked of nobody.
    let mut asked: Vec<&mut Message> =
        messages.filter(|message| message.envelope.origin.is_none() && message.whole.is_ok()).collect();
    let cases: Vec<(Case<'_>, Bytes)> = asked
        .iter()
        .filter_map(|message| {
            let whole = message.whole.as_ref().ok()?;
            let case = Case { envelope: &message.envelope, message: whole, policy: &message.policy };
            Some((case, whole.clone()))
        })
        .collect();
    let findings = outside.ask(&cases).await;
    for (message, findings) in asked.iter_mut().zip(findings) {
        message.findings = findings;
    }
}

impl Member {
    /// Reads the first of `records`, and as many after it as others are asked about together, whatever stands between them:
    /// asking depends on nothing that is decided meanwhile.
    pub async fn read_together<'a>(&mut self, records: &'a [Record]) -> Result<Vec<Taken<'a>>, LogError> {
        let mut taken: Vec<Taken<'a>> = Vec::new();
        let mut bytes = 0;
        for record in records {
            if record.position.topic != Topic::Accepted {
                taken.push(Taken { record, message: None });
                continue;
            }
            let message = self.read(record).await?;
            bytes += message.as_ref().and_then(|m| m.whole.as_ref().ok()).map_or(0, Bytes::len);
            taken.push(Taken { record, message });
            // With nobody to ask, none has to wait until the next is read.
            if self.outside.is_empty() || bytes >= MAX_TOGETHER_BYTES {
                break;
            }
        }
        if !self.outside.is_empty() {
            ask_outside(&self.outside, taken.iter_mut().filter_map(|taken| taken.message.as_mut())).await;
        }
        Ok(taken)
    }

    async fn read(&mut self, record: &Record) -> Result<Option<Message>, LogError> {
        let value = record.value.clone().unwrap_or_default();
        let (envelope, inline): (Envelope, Bytes) = match spool::decode(&value) {
            Ok(decoded) => decoded,
            Err(error) => {
                // It stands in `accepted` until its retention is over.
                self.metrics.undecodable.inc();
                tracing::error!(position = %record.position, %error, "an accepted record does not parse, it is passed over");
                return Ok(None);
            }
        };
        self.load(envelope, inline).await.map(Some)
    }

    /// The message of this envelope, with its policy and its body.
    pub async fn load(&mut self, envelope: Envelope, inline: Bytes) -> Result<Message, LogError> {
        let policy = self.policy(&envelope);
        let whole = match bodies::load(self.log.as_ref(), &envelope, inline.clone()).await {
            Ok(whole) => Ok(whole),
            Err(error @ LogError::Damaged { .. }) => {
                self.metrics.bodies_lost.inc();
                tracing::error!(message.id = %envelope.id, %error, "the body of an accepted message is gone");
                Err(error.to_string())
            }
            Err(error) => return Err(error),
        };
        Ok(Message { envelope, inline, whole, policy, findings: Findings::default() })
    }

    fn policy(&mut self, envelope: &Envelope) -> Arc<Policy> {
        let settings = &self.settings;
        self.policies.of(envelope, || policy::effective(&settings.read(), &envelope.user, &envelope.domain))
    }
}
