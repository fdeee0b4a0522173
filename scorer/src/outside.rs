//! What others say of a message. They are asked about many messages at once, before these are judged one after the other: a
//! slow answer costs its message what is left of the deadline, and no partition more.

pub mod alignment;
pub mod dns;
pub mod dns_lists;
pub mod engines;
mod memory;
mod names;
mod pause;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use schemas::MessageId;
use schemas::verdict::{Classification, Symbol};
use tokio::time::Instant;

use self::alignment::{Alignment, Authentication};
use self::dns_lists::DnsLists;
use crate::judge::Case;

use engines::Engines;

/// Whom to ask. By default nobody.
#[derive(Clone, Debug)]
pub struct Outside {
    /// What has not been said by then is not waited for.
    pub deadline: Duration,
    pub dns_lists: Option<Arc<DnsLists>>,
    pub alignment: Option<Arc<Alignment>>,
    pub engines: Engines,
}

impl Default for Outside {
    fn default() -> Self {
        // Half of the time that a session waits for its verdict by default.
        Outside {
            deadline: Duration::from_millis(2500),
            dns_lists: None,
            alignment: None,
            engines: Engines::default(),
        }
    }
}

/// What they said of one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    pub symbols: Vec<Symbol>,
    pub is_virus: bool,
    /// What a check of [`ASKED`](crate::checks::ASKED) found; what it means is for the policy to say.
    pub checks: Vec<(Classification, Symbol)>,
    /// None where nobody was asked, or DNS does not say.
    pub authentication: Option<Authentication>,
    /// Somebody who must be asked has not said anything.
    pub unchecked: Option<Unchecked>,
}

/// What becomes of a message that somebody who must be asked has said nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unchecked {
    /// It is asked about again later.
    Later,
    /// It goes nowhere.
    Blocks,
}

impl Findings {
    /// Takes up what somebody else said.
    pub fn add(&mut self, others: Findings) {
        self.symbols.extend(others.symbols);
        self.checks.extend(others.checks);
        self.is_virus |= others.is_virus;
        self.authentication = self.authentication.take().or(others.authentication);
        self.unchecked = self.unchecked.max(others.unchecked);
    }
}

impl Outside {
    /// `true` when there is nobody to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dns_lists.is_none() && self.alignment.is_none() && self.engines.is_empty()
    }

    /// Asks about all of them at once; the answers stand in their order. With each case, its message as it is shared.
    pub async fn ask(&self, cases: &[(Case<'_>, Bytes)]) -> Vec<Findings> {
        if self.is_empty() {
            return vec![Findings::default(); cases.len()];
        }
        join_all(cases.iter().map(|(case, message)| self.ask_about(case, message))).await
    }

    async fn ask_about(&self, case: &Case<'_>, message: &Bytes) -> Findings {
        let id = &case.envelope.id;
        let listed = unless_defective(id, "DNS lists", async {
            match &self.dns_lists {
                Some(lists) => lists.ask_about(case, Instant::now() + self.deadline).await,
                None => Vec::new(),
            }
        });
        let aligned = unless_defective(id, "alignment", async {
            match &self.alignment {
                Some(alignment) => alignment.ask_about(case, Instant::now() + self.deadline).await,
                None => alignment::Found::default(),
            }
        });
        let engines = self.engines.ask(case.envelope, message, self.deadline);
        let (listed, aligned, mut findings) = tokio::join!(listed, aligned, engines);
        let (listed, aligned) = (listed.unwrap_or_default(), aligned.unwrap_or_default());
        findings.checks.extend(listed.into_iter().map(|symbol| (Classification::ListedHost, symbol)));
        findings.checks.extend(aligned.dmarc.map(|symbol| (Classification::Dmarc, symbol)));
        findings.symbols.extend(aligned.spf);
        findings.authentication = aligned.authentication;
        findings
    }
}

/// What others answer may be anything. A defect in reading it costs a message what this one of them says, not what the rest
/// say, nor the partition its scorer: then None.
async fn unless_defective<T>(id: &MessageId, asked: &str, asking: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(asking).catch_unwind().await;
    if done.is_err() {
        tracing::error!(message.id = %id, asked, "a defect of the scorer: what was answered cannot be read");
    }
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::engines::{Address, EngineConfig, EngineMetrics, Peer, Weights, WhenDown};
    use super::*;
    use crate::samples::{envelope, policy};

    #[tokio::test]
    async fn a_defect_costs_a_message_what_one_of_them_says_and_an_engine_with_one_is_down() {
        let engine = |peer, max_message_bytes| EngineConfig {
            peer,
            max_connections: 1,
            max_message_bytes,
            when_down: WhenDown::Reject,
            weights: Weights::default(),
        };
        let nobody = || Address::parse("127.0.0.1:1").unwrap();
        let engines = vec![engine(Peer::Clamd(nobody()), 0), engine(Peer::Spamd(nobody()), 1000)];
        let outside = Outside {
            // No clock goes so far: whoever adds it to the time panics. One of the engines does not come to that.
            deadline: Duration::MAX,
            dns_lists: Some(Arc::new(DnsLists::new(
                Vec::new(),
                dns::resolver(&["127.0.0.1:1".parse().unwrap()]).unwrap(),
            ))),
            alignment: None,
            engines: Engines::new(engines, &EngineMetrics::default()),
        };
        let (envelope, policy) = (envelope("a@b.example", &[]), policy("{}"));
        let message = Bytes::from_static(b"From: a@b.example\r\n\r\nhello");
        let case = Case { envelope: &envelope, message: &message, policy: &policy };
        let findings = outside.ask(&[(case, message.clone())]).await.remove(0);
        let names: Vec<&str> = findings.symbols.iter().map(|symbol| symbol.name.as_str()).collect();
        assert_eq!(
            (names.as_slice(), findings.unchecked),
            (&["CLAMAV_SKIPPED", "SPAMASSASSIN_DOWN"][..], Some(Unchecked::Blocks))
        );
    }
}
