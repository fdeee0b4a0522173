//! Mail of our own, DSNs, reports and notices: what stands in front of one in `released`.

use crate::envelope::{BodyType, Client, Origin, Recipient};
use crate::verdict::{Classification, Identity, Judged, MessageSummary};
use crate::{Domain, Envelope, Mailbox, MessageId, ReversePath, Timestamp, UserId};

/// A message of our own, as far as it is not like all others.
pub struct OwnMail<'a> {
    pub id: MessageId,
    pub at: Timestamp,
    pub node: &'a str,
    pub hostname: &'a str,
    /// The domain of the outgoing user whom it is about.
    pub domain: &'a Domain,
    /// Domain of its From field, when that is one.
    pub header_from: Option<Domain>,
    pub to: &'a Mailbox,
    pub subject: String,
    pub origin: Origin,
    pub body_type: BodyType,
    pub smtputf8: bool,
    pub size_bytes: usize,
}

impl OwnMail<'_> {
    /// It passes without being judged, goes to one recipient, and nobody is told when it fails: its reverse-path is null.
    #[must_use]
    pub fn judged(self) -> Judged {
        let size_bytes = self.size_bytes as u64;
        let message = MessageSummary {
            id: self.id,
            accepted_at: self.at,
            user: UserId::own_mail(),
            domain: self.domain.clone(),
            identity: Identity("mailweir".into()),
            reverse_path: ReversePath::Null,
            header_from: self.header_from,
            classification: Classification::Own,
            observed_as: None,
            size_bytes,
            header_message_id: Some(format!("{}@{}", self.id, self.hostname)),
            client_queue_id: None,
            subject: Some(self.subject),
            own: true,
            forwarded: false,
        };
        let envelope = Envelope {
            id: self.id,
            accepted_at: self.at,
            node: self.node.to_owned(),
            reply_partition: None,
            user: UserId::own_mail(),
            domain: self.domain.clone(),
            client: Client {
                address: ([127, 0, 0, 1], 0).into(),
                helo: String::new(),
                protocol: String::new(),
                login: None,
                tls: None,
            },
            reverse_path: ReversePath::Null,
            recipients: vec![Recipient { forward_path: self.to.clone(), notify: None, orcpt: None }],
            ret: None,
            envid: None,
            body_type: self.body_type,
            smtputf8: self.smtputf8,
            size_bytes,
            chunks: Vec::new(),
            origin: Some(self.origin),
        };
        Judged {
            envelope,
            message,
            score: 0.0,
            symbols: Vec::new(),
            remove_fields: Vec::new(),
            released_by: None,
            kept: false,
        }
    }
}
