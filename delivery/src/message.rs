//! A message on its way out: what the log has of it, and the bytes made from that, once.

use std::sync::Arc;

use bytes::Bytes;
use eventlog::{Clock, Log, Record};
use schemas::senders::SendersView;
use schemas::settings::SettingsView;
use schemas::spool;
use schemas::verdict::Judged;
use schemas::{Position, SmtpReply, Timestamp};
use tokio::sync::OnceCell;

use crate::content::{self, Outgoing};
use crate::dkim::{self, Signers};
use crate::dns::Dns;
use crate::outcome::local;
use crate::tls::ClientTls;
use crate::users::Users;
use crate::{Config, header};

/// A message of `released`; clones share it.
pub(crate) type SharedMessage = Arc<Message>;

pub(crate) struct Message {
    pub judged: Judged,
    /// What stands in the record; empty when the message is in `bodies`.
    inline: Bytes,
    pub position: Position,
    pub stored_at: Timestamp,
    outgoing: OnceCell<Outgoing>,
}

/// What is needed to make the bytes.
pub(crate) struct Press {
    pub config: Config,
    pub log: Log,
    pub clock: Arc<dyn Clock>,
    pub dns: Dns,
    pub tls: ClientTls,
    pub settings: eventlog::View<SettingsView>,
    pub senders: eventlog::View<SendersView>,
    pub users: Users,
    pub signers: Signers,
}

impl Message {
    /// # Errors
    /// When the record is not one of `released`.
    pub(crate) fn from_record(record: &Record) -> Result<Self, spool::SpoolError> {
        let empty = Bytes::new();
        let (judged, inline) = spool::decode(record.value.as_ref().unwrap_or(&empty))?;
        Ok(Message {
            judged,
            inline,
            position: record.position,
            stored_at: record.appended_at,
            outgoing: OnceCell::new(),
        })
    }

    /// The message as it came.
    ///
    /// # Errors
    /// A transient reply of ours.
    pub(crate) async fn raw(&self, log: &Log) -> Result<Bytes, SmtpReply> {
        eventlog::bodies::load(log.as_ref(), &self.judged.envelope, self.inline.clone()).await.map_err(
            |error| local(451, (4, 3, 0), format!("The message cannot be read from the log: {error}")),
        )
    }

    /// The bytes that leave, made at the first call.
    ///
    /// # Errors
    /// A transient reply of ours; the next call tries again.
    pub(crate) async fn outgoing(&self, press: &Press) -> Result<&Outgoing, SmtpReply> {
        self.outgoing
            .get_or_try_init(|| async { Ok(press.make(&self.judged, self.raw(&press.log).await?).await) })
            .await
    }

    /// The same for a peer without 8BITMIME; none when it cannot be done.
    pub(crate) async fn outgoing_7bit(&self, press: &Press) -> Option<Outgoing> {
        let raw = self.raw(&press.log).await.ok()?;
        let converted = crate::convert::to_7bit(&raw)?;
        Some(press.make(&self.judged, converted.into()).await)
    }
}

impl Press {
    async fn make(&self, judged: &Judged, raw: Bytes) -> Outgoing {
        let (section_end, _) = header::split(&raw);
        let section = &raw[..section_end];
        let header_from = judged.message.header_from.as_ref();
        let author = dkim::author_signature(self.dns.authenticator(), &raw, header_from).await;
        let head = content::header_section(
            judged,
            section,
            &self.config.hostname,
            author.untouchable,
            &author.signed_fields,
        );
        let body =
            if section_end < raw.len() { raw.slice(section_end..) } else { Bytes::from_static(b"\r\n") };
        let mut signatures = Vec::new();
        let mut top = content::trace_field(judged, &self.config.hostname);
        if !author.untouchable {
            for signer in self.signers_for(judged) {
                match signer.sign(&head, &body) {
                    Ok((field, label)) => {
                        top.push_str(&field);
                        signatures.push(label);
                    }
                    Err(error) => {
                        tracing::error!(message.id = %judged.envelope.id, error, "a message could not be signed");
                    }
                }
            }
        }
        let is_8bit = !head.is_ascii() || !body.is_ascii();
        let mut whole = Vec::with_capacity(top.len() + head.len());
        whole.extend_from_slice(top.as_bytes());
        whole.extend_from_slice(&head);
        Outgoing { head: whole, body, signatures, is_8bit, as_it_came: author.untouchable }
    }

    fn signers_for(&self, judged: &Judged) -> Vec<Arc<dkim::Signer>> {
        let settings = self.settings.read();
        let user = self.users.get(&settings, &judged.envelope.user);
        let keys = dkim::keys_for(
            &settings,
            judged.message.header_from.as_ref(),
            &judged.envelope.domain,
            user.dkim_selector.as_deref(),
        );
        let signer = |key| match self.signers.get(key, self.config.cluster_key.as_ref()) {
            Ok(signer) => Some(signer),
            Err(error) => {
                tracing::error!(domain = %key.domain, selector = key.selector, error, "a DKIM key cannot be used, mail leaves unsigned");
                None
            }
        };
        keys.into_iter().filter_map(signer).collect()
    }
}
