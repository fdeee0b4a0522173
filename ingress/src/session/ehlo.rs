//! EHLO and HELO.

use schemas::SmtpReply;

use super::{Action, Session, World, say};

impl Session {
    pub(super) fn ehlo(&mut self, name: &str, esmtp: bool, world: &World<'_>) -> Vec<Action> {
        self.helo = Some(name.to_owned());
        self.esmtp = esmtp;
        self.transaction = None;
        if !esmtp {
            return say(SmtpReply { code: 250, enhanced: None, text: self.options.hostname.clone() });
        }
        let mut lines = vec![
            self.options.hostname.clone(),
            "PIPELINING".to_owned(),
            self.size(world),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            "CHUNKING".to_owned(),
            "DSN".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
        ];
        if self.options.can_start_tls && self.tls.is_none() {
            lines.push("STARTTLS".to_owned());
        }
        if self.auth_offered() {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
        say(SmtpReply { code: 250, enhanced: None, text: lines.join("\n") })
    }

    /// The user's maximum where it is certain who that is. Where AUTH may still come, no number (RFC 1870 4): a client that
    /// took it for its own would bounce by itself what its login may send, and clients seldom say EHLO again after AUTH.
    /// With or without a number they declare their sizes at MAIL FROM, where the user's own maximum is enforced.
    fn size(&self, world: &World<'_>) -> String {
        let is_certain = self.login.is_some() || !self.auth_offered();
        match self.user(world).filter(|_| is_certain) {
            Some(user) => format!("SIZE {}", user.effective.max_message_bytes),
            None => "SIZE".to_owned(),
        }
    }

    pub(super) fn auth_offered(&self) -> bool {
        self.tls.is_some() || self.options.auth_without_tls
    }
}
