//! STARTTLS (RFC 3207). What a client sent behind the command is refused by the connection, never carried over.

use schemas::envelope::Tls;

use super::{Action, Session, reply};

impl Session {
    pub(super) fn start_tls(&mut self) -> Vec<Action> {
        if self.tls.is_some() {
            return self.error(reply(503, (5, 5, 1), "TLS is on already"));
        }
        if !self.options.can_start_tls {
            return self.error(reply(502, (5, 5, 1), "STARTTLS is not offered here"));
        }
        if self.transaction.is_some() {
            return self.error(reply(503, (5, 5, 1), "Not within a mail transaction"));
        }
        vec![Action::Reply(reply(220, (2, 0, 0), "Ready to start TLS")), Action::StartTls]
    }

    /// TLS is up: everything said before is forgotten (RFC 3207 4.2).
    pub fn tls_started(&mut self, tls: Tls) {
        self.tls = Some(tls);
        self.helo = None;
        self.esmtp = false;
        self.login = None;
        self.auth = None;
        self.transaction = None;
    }
}
