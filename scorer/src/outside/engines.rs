//! Engines of others that are asked about each message: Rspamd, SpamAssassin, ClamAV. All at once and under one deadline, over
//! a bounded number of connections each.
//!
//! What an engine says becomes symbols (`weigh`). One that says nothing, for whatever reason, is down for this message, and
//! `when_down` says what that means. One that is down again and again is not asked any more (`breaker`) until it answers a
//! ping that no message waits for; so a dead engine costs mail one deadline, not one for each message.

mod breaker;
mod clamd;
mod connection;
mod rspamd;
mod spamd;
mod weigh;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use schemas::Envelope;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::evidence;
use crate::outside::{Findings, Unchecked, unless_defective};

use breaker::Breaker;
use connection::{Failure, Idle};
use weigh::weigh;

pub use connection::Address;
pub use metrics::EngineMetrics;
pub use rspamd::Target as RspamdTarget;
pub use weigh::{Answer, DEFAULT_WEIGHT, Weights};

mod metrics;

/// Failures in a row after which an engine is not asked; fewer with fewer connections, all of which may hang at once.
const FAILURES_IN_A_ROW: u32 = 3;
/// A ping that is not answered within this time is not waited for.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// One of the engines that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rspamd,
    SpamAssassin,
    ClamAv,
}

impl Kind {
    /// The name of its symbol.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Kind::Rspamd => "RSPAMD",
            Kind::SpamAssassin => "SPAMASSASSIN",
            Kind::ClamAv => "CLAMAV",
        }
    }

    /// As it stands in the configuration and in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Kind::Rspamd => "rspamd",
            Kind::SpamAssassin => "spamassassin",
            Kind::ClamAv => "clamav",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Rspamd => "Rspamd",
            Kind::SpamAssassin => "SpamAssassin",
            Kind::ClamAv => "ClamAV",
        })
    }
}

/// What becomes of mail that an engine says nothing of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// It is judged without it.
    #[default]
    Ignore,
    /// It is held and asked about again, for a time; what is not answered by then is treated as by `Reject`.
    Defer,
    /// It goes to quarantine, unless something else decides already. Not for too much mail at once: that passes, and what it
    /// leaves over is treated as by `Defer`.
    Reject,
}

/// Where an engine is, and by which protocol it is asked.
#[derive(Clone, Debug)]
pub enum Peer {
    Rspamd(RspamdTarget),
    Spamd(Address),
    Clamd(Address),
}

/// One engine, as it is configured.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    pub peer: Peer,
    pub max_connections: usize,
    /// Larger messages are not sent to it, and pass without its word.
    pub max_message_bytes: usize,
    pub when_down: WhenDown,
    pub weights: Weights,
}

impl EngineConfig {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.peer {
            Peer::Rspamd(_) => Kind::Rspamd,
            Peer::Spamd(_) => Kind::SpamAssassin,
            Peer::Clamd(_) => Kind::ClamAv,
        }
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        match &self.peer {
            Peer::Rspamd(target) => &target.address,
            Peer::Spamd(address) | Peer::Clamd(address) => address,
        }
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// Why not, for a person.
    pub async fn ping(&self) -> Result<(), String> {
        let answered = async {
            match &self.peer {
                Peer::Rspamd(target) => rspamd::ping(target).await,
                Peer::Spamd(address) => spamd::ping(address).await,
                Peer::Clamd(address) => clamd::ping(address).await,
            }
        };
        timeout(PING_TIMEOUT, answered)
            .await
            .unwrap_or(Err(Failure::TimedOut))
            .map_err(|error| error.to_string())
    }
}

/// All engines of a node. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Engines(Vec<Arc<Engine>>);

impl Engines {
    #[must_use]
    pub fn new(configs: Vec<EngineConfig>, metrics: &EngineMetrics) -> Self {
        let made = configs.into_iter().map(|config| Engine::new(config, metrics.clone()));
        Engines(made.map(Arc::new).collect())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `true` when every engine whose answer held messages wait for is asked.
    #[must_use]
    pub fn are_asked_again(&self) -> bool {
        self.0
            .iter()
            .filter(|engine| engine.config.when_down != WhenDown::Ignore)
            .all(|engine| !engine.is_left_alone())
    }

    /// What they say of a message, all of them `within` this time.
    pub async fn ask(&self, envelope: &Envelope, message: &Bytes, within: Duration) -> Findings {
        let all = join_all(self.0.iter().map(|engine| async move {
            // Its buffers are large; a group of messages moves only where they are.
            let asking = Box::pin(async { engine.findings(&engine.ask(envelope, message, within).await) });
            let findings = unless_defective(&envelope.id, engine.kind.code(), asking).await;
            findings.unwrap_or_else(|| engine.is_defective())
        }));
        all.await.into_iter().fold(Findings::default(), |mut all, findings| {
            all.add(findings);
            all
        })
    }
}

/// What asking came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered(Answer),
    /// Why it is down for this message.
    Down(String),
    /// It had too much to do for this one.
    Busy(String),
    /// It is not for such messages.
    Unsuitable(String),
}

struct Engine {
    config: EngineConfig,
    kind: Kind,
    places: Semaphore,
    http: Idle<rspamd::Http>,
    sessions: Idle<clamd::Session>,
    breaker: Mutex<Breaker>,
    metrics: EngineMetrics,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Engine {
    fn new(config: EngineConfig, metrics: EngineMetrics) -> Self {
        let places = config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let threshold = FAILURES_IN_A_ROW.min(u32::try_from(places).unwrap_or(u32::MAX));
        let kind = config.kind();
        metrics.is_open(kind, false);
        Engine {
            config,
            kind,
            places: Semaphore::new(places),
            http: Idle::default(),
            sessions: Idle::default(),
            breaker: Mutex::new(Breaker::new(threshold)),
            metrics,
        }
    }

    async fn ask(self: &Arc<Self>, envelope: &Envelope, message: &Bytes, within: Duration) -> Outcome {
        let max = self.config.max_message_bytes;
        if message.len() > max {
            return Outcome::Unsuitable(format!("{} bytes, over max_message_bytes = {max}", message.len()));
        }
        let deadline = Instant::now() + within;
        if self.is_left_alone() {
            return self.left_alone();
        }
        // Before it waits for a place: who is answered meanwhile shows that the engine is well.
        let answers = self.breaker().answers();
        let place = timeout_at(deadline, self.places.acquire()).await;
        let began = Instant::now();
        // At the deadline all places become free at once; too late for those who waited.
        let Some(_place) = place.ok().and_then(Result::ok).filter(|_| began < deadline) else {
            self.metrics.not_asked(self.kind, "busy");
            return Outcome::Busy("all connections were busy".into());
        };
        // Those before it may have found it dead.
        if self.is_left_alone() {
            return self.left_alone();
        }
        let answered = timeout_at(deadline, self.exchange(envelope, message)).await;
        self.metrics.asked(self.kind, began.elapsed());
        match answered.unwrap_or(Err(Failure::TimedOut)) {
            Ok(answer) => {
                self.breaker().succeeded();
                self.metrics.is_open(self.kind, false);
                match answer {
                    Answer::TooLarge => Outcome::Unsuitable("over its own maximum (StreamMaxLength)".into()),
                    answer => Outcome::Answered(answer),
                }
            }
            Err(failure) => {
                self.metrics.failed(self.kind);
                tracing::debug!(engine = %self.kind, message.id = %envelope.id, %failure, "no answer");
                // One that was asked late, because others came first, had no fair time to answer.
                if matches!(failure, Failure::TimedOut) && began.elapsed() < within / 2 {
                    return Outcome::Busy("no answer in what was left of the time, others came first".into());
                }
                self.failed(&failure, answers);
                Outcome::Down(failure.to_string())
            }
        }
    }

    async fn exchange(&self, envelope: &Envelope, message: &Bytes) -> Result<Answer, Failure> {
        match &self.config.peer {
            Peer::Rspamd(target) => rspamd::ask(target, &self.http, envelope, message).await,
            Peer::Spamd(address) => spamd::ask(address, message).await,
            Peer::Clamd(address) => clamd::ask(address, &self.sessions, message).await,
        }
    }

    fn left_alone(&self) -> Outcome {
        self.metrics.not_asked(self.kind, "down");
        Outcome::Down("not asked: it failed again and again".into())
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_left_alone(&self) -> bool {
        self.breaker().is_open()
    }

    fn failed(self: &Arc<Self>, failure: &Failure, answers: u64) {
        let Some(opening) = self.breaker().failed(answers) else { return };
        self.metrics.is_open(self.kind, true);
        let (engine, address) = (self.kind, self.config.address());
        tracing::warn!(%engine, %address, %failure, "an engine fails again and again, it is left alone until it answers a ping");
        tokio::spawn(close_when_it_answers(Arc::downgrade(self), opening));
    }

    /// Its answer, or something on the way to it, made the scorer panic.
    fn is_defective(&self) -> Findings {
        self.metrics.failed(self.kind);
        self.findings(&Outcome::Down("a defect of the scorer: its answer cannot be read".into()))
    }

    /// Puts down what asking came to.
    fn findings(&self, outcome: &Outcome) -> Findings {
        let mut findings = Findings::default();
        let symbol =
            |suffix, why: &str| evidence::symbol(&format!("{}_{suffix}", self.kind.symbol()), 0.0, why);
        match outcome {
            Outcome::Answered(answer) => {
                let (symbols, is_virus) = weigh(self.kind, &self.config.weights, answer);
                findings.symbols = symbols;
                findings.is_virus = is_virus;
            }
            Outcome::Unsuitable(why) => findings.symbols.push(symbol("SKIPPED", why)),
            Outcome::Down(why) | Outcome::Busy(why) => {
                findings.symbols.push(symbol("DOWN", why));
                let unchecked = match self.config.when_down {
                    WhenDown::Ignore => None,
                    WhenDown::Reject if !matches!(outcome, Outcome::Busy(_)) => Some(Unchecked::Blocks),
                    WhenDown::Defer | WhenDown::Reject => Some(Unchecked::Later),
                };
                findings.unchecked = unchecked;
            }
        }
        findings
    }
}

/// Pings an engine that is left alone until it answers, or nobody wants to know any more.
async fn close_when_it_answers(engine: Weak<Engine>, opening: u64) {
    loop {
        let Some(pause) = engine.upgrade().and_then(|engine| engine.breaker().pause(opening)) else { return };
        tokio::time::sleep(pause).await;
        let Some(engine) = engine.upgrade() else { return };
        let answered = engine.config.ping().await.is_ok();
        engine.breaker().pinged(opening, answered);
        if answered {
            engine.metrics.is_open(engine.kind, false);
            tracing::info!(engine = %engine.kind, "it answers again, it is asked again");
        }
    }
}

#[cfg(test)]
mod tests;
