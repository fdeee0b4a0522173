//! The envelope of a transaction, for a peer with these capabilities: who can be sent to at all, and the parameters of
//! MAIL and RCPT (RFC 1870, RFC 3461, RFC 6152, RFC 6531).

use schemas::envelope::{BodyType, Recipient, Ret};
use schemas::{Envelope, SmtpReply};

use crate::content::Outgoing;
use crate::outcome::local;
use crate::reply::Capabilities;

/// The paths of this transaction, or what it says in its header section, need SMTPUTF8.
#[must_use]
pub fn needs_utf8(envelope: &Envelope, recipients: &[u32], outgoing: &Outgoing) -> bool {
    message_needs_utf8(envelope, outgoing)
        || recipients
            .iter()
            .filter_map(|index| envelope.recipients.get(*index as usize))
            .any(|recipient| recipient.forward_path.needs_smtputf8())
}

fn message_needs_utf8(envelope: &Envelope, outgoing: &Outgoing) -> bool {
    envelope.reverse_path.mailbox().is_some_and(schemas::Mailbox::needs_smtputf8)
        || (envelope.smtputf8 && !outgoing.head.is_ascii())
}

/// Why none of the recipients can be sent to, in a reply of ours.
#[must_use]
pub fn refusal(envelope: &Envelope, outgoing: &Outgoing, peer: &Capabilities) -> Option<SmtpReply> {
    if !peer.smtputf8 && message_needs_utf8(envelope, outgoing) {
        return Some(no_utf8());
    }
    let size = outgoing.size_bytes() as u64;
    let limit = peer.size.filter(|limit| size > *limit)?;
    let text = format!("The message has {size} bytes, the receiving server takes {limit}");
    Some(local(552, (5, 3, 4), text))
}

/// Why this recipient cannot be sent to, in a reply of ours.
#[must_use]
pub fn recipient_refusal(envelope: &Envelope, index: u32, peer: &Capabilities) -> Option<SmtpReply> {
    match envelope.recipients.get(index as usize) {
        None => {
            let text = "The queue entry names a recipient that the envelope does not have";
            Some(local(451, (4, 3, 0), text))
        }
        Some(recipient) => (!peer.smtputf8 && recipient.forward_path.needs_smtputf8()).then(no_utf8),
    }
}

fn no_utf8() -> SmtpReply {
    let text = "The receiving server does not support internationalised addresses (SMTPUTF8)";
    local(550, (5, 6, 7), text)
}

/// The argument of MAIL FROM.
#[must_use]
pub fn mail(envelope: &Envelope, outgoing: &Outgoing, utf8: bool, peer: &Capabilities) -> String {
    let mut out = format!("<{}>", envelope.reverse_path);
    if peer.declares_size {
        out.push_str(&format!(" SIZE={}", outgoing.size_bytes()));
    }
    if peer.eight_bit_mime && (outgoing.is_8bit || envelope.body_type == BodyType::EightBitMime) {
        out.push_str(" BODY=8BITMIME");
    }
    if utf8 {
        out.push_str(" SMTPUTF8");
    }
    if peer.dsn {
        match envelope.ret {
            Some(Ret::Full) => out.push_str(" RET=FULL"),
            Some(Ret::Headers) => out.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = envelope.envid.as_ref().filter(|envid| is_parameter(envid)) {
            out.push_str(&format!(" ENVID={envid}"));
        }
    }
    out
}

/// The argument of RCPT TO.
#[must_use]
pub fn recipient(recipient: &Recipient, peer: &Capabilities) -> String {
    let mut out = format!("<{}>", recipient.forward_path);
    if !peer.dsn {
        return out;
    }
    if let Some(notify) = recipient.notify {
        let wanted = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        let words: Vec<&str> = wanted.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        out.push_str(" NOTIFY=");
        out.push_str(&if words.is_empty() { "NEVER".to_owned() } else { words.join(",") });
    }
    if let Some(orcpt) = recipient.orcpt.as_ref().filter(|orcpt| is_parameter(orcpt)) {
        out.push_str(&format!(" ORCPT={orcpt}"));
    }
    out
}

/// The value of an ESMTP parameter (RFC 5321 4.1.2): nothing that could end it. Ingress takes no other; this is the last
/// place to make sure.
fn is_parameter(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '=')
}

#[cfg(test)]
mod tests {
    use schemas::envelope::Notify;
    use schemas::own_mail::OwnMail;
    use schemas::{Mailbox, MessageId, Timestamp};

    use super::*;

    fn outgoing(head: &str) -> Outgoing {
        let head = head.as_bytes().to_vec();
        let is_8bit = !head.is_ascii();
        let body = bytes::Bytes::from_static(b"\r\nbody\r\n");
        Outgoing { head, body, signatures: Vec::new(), is_8bit, as_it_came: false }
    }

    fn envelope(to: &[&str]) -> Envelope {
        let mailbox = |text: &&str| Mailbox::parse(text).unwrap();
        let own = OwnMail {
            id: MessageId::derived("x", Timestamp(0)),
            at: Timestamp(0),
            node: "n",
            hostname: "a.example",
            domain: &schemas::Domain::parse("a.example").unwrap(),
            header_from: None,
            to: &mailbox(&to[0]),
            subject: String::new(),
            origin: schemas::envelope::Origin::Unknown,
            body_type: schemas::envelope::BodyType::SevenBit,
            smtputf8: false,
            size_bytes: 0,
        };
        let mut envelope = own.judged().envelope;
        let recipient = |text| Recipient { forward_path: mailbox(text), notify: None, orcpt: None };
        envelope.recipients = to.iter().map(recipient).collect();
        envelope
    }

    #[test]
    fn only_who_needs_it_fails_where_smtputf8_is_missing() {
        let envelope = envelope(&["a@x.example", "jörg@x.example"]);
        let (plain, able) = (Capabilities::default(), Capabilities { smtputf8: true, ..Default::default() });
        let outgoing = outgoing("Subject: x\r\n");
        assert_eq!(refusal(&envelope, &outgoing, &plain), None);
        assert_eq!(recipient_refusal(&envelope, 0, &plain), None);
        assert_eq!(recipient_refusal(&envelope, 1, &plain).unwrap().code, 550);
        assert_eq!(recipient_refusal(&envelope, 1, &able), None);
        assert_eq!(recipient_refusal(&envelope, 2, &able).unwrap().code, 451);
        assert!(!needs_utf8(&envelope, &[0], &outgoing) && needs_utf8(&envelope, &[0, 1], &outgoing));
    }

    #[test]
    fn a_header_section_in_utf8_needs_it_when_the_client_said_so() {
        let mut envelope = envelope(&["a@x.example"]);
        let outgoing = outgoing("Subject: ü\r\n");
        assert_eq!(refusal(&envelope, &outgoing, &Capabilities::default()), None);
        envelope.smtputf8 = true;
        assert_eq!(refusal(&envelope, &outgoing, &Capabilities::default()).unwrap().code, 550);
    }

    #[test]
    fn parameters_go_only_to_whom_offers_them() {
        let mut envelope = envelope(&["a@x.example"]);
        envelope.ret = Some(Ret::Headers);
        envelope.envid = Some("id+2B".into());
        envelope.recipients[0].notify = Some(Notify { success: true, failure: true, delay: false });
        envelope.recipients[0].orcpt = Some("rfc822;b@x.example NOTIFY=NEVER".into());
        let outgoing = outgoing("Subject: ü\r\n");
        let nothing = Capabilities::default();
        assert_eq!(mail(&envelope, &outgoing, false, &nothing), "<>");
        assert_eq!(recipient(&envelope.recipients[0], &nothing), "<a@x.example>");
        let all = Capabilities {
            eight_bit_mime: true,
            dsn: true,
            declares_size: true,
            smtputf8: true,
            ..Default::default()
        };
        let said = mail(&envelope, &outgoing, true, &all);
        assert_eq!(said, "<> SIZE=21 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B");
        let said = recipient(&envelope.recipients[0], &all);
        assert_eq!(said, "<a@x.example> NOTIFY=SUCCESS,FAILURE", "what could end the parameter is left out");
    }
}
