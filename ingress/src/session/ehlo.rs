//! EHLO and HELO.

use schemas::SmtpReply;

use super::{Action, Session, say};

impl Session {
    pub(super) fn ehlo(&mut self, name: &str, esmtp: bool) -> Vec<Action> {
        self.helo = Some(name.to_owned());
        self.esmtp = esmtp;
        self.transaction = None;
        if !esmtp {
            return say(SmtpReply { code: 250, enhanced: None, text: self.options.hostname.clone() });
        }
        let mut lines = vec![
            self.options.hostname.clone(),
            "PIPELINING".to_owned(),
            format!("SIZE {}", self.options.announced_size),
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

    pub(super) fn auth_offered(&self) -> bool {
        self.tls.is_some() || self.options.auth_without_tls
    }
}
