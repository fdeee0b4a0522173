//! The demo's clients: three outgoing users that send the batch over SMTP with STARTTLS, as their mail servers would.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::StreamExt;
use indicatif::ProgressBar;
use mail_send::SmtpClientBuilder;
use mail_send::smtp::message::Parameters;

use super::messages::{Item, Sender};
use super::site::{PASSWORD_OF_DOMAIN, PASSWORD_OF_MAILBOX};

/// Connections at a time.
const CONCURRENT: usize = 6;

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The id it was queued as.
    Accepted { id: String },
    /// 5yz, with the reference in it.
    Refused { reply: String, reference: Option<String> },
    /// Nothing, or not yet.
    Failed { why: String },
}

impl Answer {
    /// Our id of the message, however it was answered.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        match self {
            Answer::Accepted { id } => Some(id),
            Answer::Refused { reference, .. } => reference.as_deref(),
            Answer::Failed { .. } => None,
        }
    }
}

/// Sends every message; the answers in the order of the items.
pub async fn send_all(items: &[Item], address: SocketAddr, bar: &ProgressBar) -> Vec<Answer> {
    let bar = Arc::new(bar.clone());
    let sends = items.iter().map(|item| {
        let bar = Arc::clone(&bar);
        async move {
            let answer =
                send(item, address).await.unwrap_or_else(|error| Answer::Failed { why: error.to_string() });
            bar.inc(1);
            answer
        }
    });
    futures_util::stream::iter(sends).buffered(CONCURRENT).collect().await
}

async fn send(item: &Item, address: SocketAddr) -> anyhow::Result<Answer> {
    let mut builder = SmtpClientBuilder::new(address.ip().to_string(), address.port())
        .map_err(|error| anyhow::anyhow!(error))?
        .allow_invalid_certs()
        .implicit_tls(false)
        .helo_host("server1.hoster.example");
    builder = match item.sender {
        // The server is known by its address, and needs no login.
        Sender::Server => builder.local_ip(IpAddr::from([127, 0, 0, 2])),
        Sender::Domain => builder.credentials(("shop.example".to_owned(), PASSWORD_OF_DOMAIN.to_owned())),
        Sender::Mailbox => {
            builder.credentials(("orders@shop.example".to_owned(), PASSWORD_OF_MAILBOX.to_owned()))
        }
    };
    let mut client = builder.connect().await?;
    let parameters = Parameters::new();
    client.mail_from(&item.reverse_path, &parameters).await?;
    for recipient in &item.recipients {
        client.rcpt_to(recipient, &parameters).await?;
    }
    let answer = match client.data(&item.message).await {
        Ok(response) => Answer::Accepted { id: last_word(&response.message) },
        Err(mail_send::Error::UnexpectedReply(response)) => {
            let reply = format!("{} {}", response.code, response.message.trim());
            let reference = response.message.contains(", ref ").then(|| last_word(&response.message));
            Answer::Refused { reply, reference }
        }
        Err(error) => return Err(error.into()),
    };
    // The answer is in; how the goodbye goes does not matter.
    let _ = client.quit().await;
    Ok(answer)
}

fn last_word(text: &str) -> String {
    text.split_whitespace().last().unwrap_or_default().to_owned()
}
