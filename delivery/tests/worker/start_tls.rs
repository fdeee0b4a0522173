//! STARTTLS that comes to nothing: mail goes on in the clear (RFC 7435), with a note of why. Each domain has one server.

use std::time::Duration;

use crate::MAIL;
use crate::peer::{Peer, StartTls};
use crate::rig::Rig;

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_in_the_clear_where_tls_does_not_come_about() {
    for (start_tls, connections, note) in [
        (StartTls::Answers("454 4.7.0 not now"), 1, "refused: 454 4.7.0 not now"),
        (StartTls::Answers("502 5.5.1 not here"), 1, "refused: 502 5.5.1 not here"),
        (StartTls::Drops, 2, "closed the connection"),
        (StartTls::Hangs, 2, "handshake took too long"),
    ] {
        let peer = Peer::start_with_tls(start_tls).await;
        let mut rig = Rig::start_with(|config| config.connect_timeout = Duration::from_millis(500)).await;
        rig.route("x.example", peer.port).await;
        rig.release(&["ok@x.example"], MAIL).await;
        rig.wait_for("an attempt", async |rig: &Rig| !rig.attempts().await.is_empty()).await;
        let attempt = rig.attempts().await.remove(0);
        assert_eq!(attempt.recipients[0].reply.code, 250, "{start_tls:?}: {attempt:?}");
        let told = attempt.tls_note.unwrap_or_default();
        assert!(attempt.tls.is_none() && told.contains(note), "{start_tls:?}: {told}");
        assert_eq!((peer.connections(), peer.to("ok@").len()), (connections, 1), "{start_tls:?}");
        rig.stop().await;
    }
}
