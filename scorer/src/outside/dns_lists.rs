//! DNS lists (RFC 5782): whether a host in a message is on one. A list is believed only while its test points say that it
//! works (`watch`), and nothing but the return codes that were configured counts (`answer`).

mod answer;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use ipnet::Ipv4Net;
use mail_auth::MessageAuthenticator;
use schemas::settings::CheckMode;
use schemas::verdict::{Classification, Symbol};
use tokio::time::Instant;

use super::dns::{self, Answer};
use super::memory::Memory;
use super::names::{self, Named};
use super::pause::Pause;
use crate::evidence;
use crate::facts::Facts;
use crate::judge::Case;

/// Weight of a list that is given none: a host that a good list names is a strong hint, and no proof that the customer is
/// at fault.
pub const DEFAULT_WEIGHT: f32 = 0.4;

/// Answers kept, of all lists.
const MAX_KEPT: usize = 50_000;
/// Lookups under way.
const AT_A_TIME: usize = 256;
/// And wait, of all messages that are asked about.
const MAX_WAITING: usize = 4096;
/// Of a name (RFC 1035, 2.3.4), the final dot left out.
const MAX_NAME_BYTES: usize = 253;

/// What a list is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Registered domains.
    Domain,
    /// Hosts that are bare addresses.
    Ip,
}

/// One list, as it is configured.
#[derive(Clone)]
pub struct DnsList {
    /// Without dots around it.
    pub zone: String,
    pub kind: Kind,
    /// Answers that count; others do not.
    pub codes: Vec<Ipv4Net>,
    /// A label before the zone, for access that is paid for: a secret.
    pub key: Option<String>,
    /// Of its symbol.
    pub weight: f32,
    pub symbol: String,
    /// What it lists so that one can see that it works; absent: what RFC 5782 says.
    pub test_point: Option<String>,
}

impl std::fmt::Debug for DnsList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_ref().map(|_| "(hidden)");
        f.debug_struct("DnsList")
            .field("zone", &self.zone)
            .field("kind", &self.kind)
            .field("codes", &self.codes)
            .field("key", &key)
            .field("weight", &self.weight)
            .field("symbol", &self.symbol)
            .field("test_point", &self.test_point)
            .finish()
    }
}

impl DnsList {
    /// The symbol of a list that is given none: `DNS_LIST_` and its zone.
    #[must_use]
    pub fn default_symbol(zone: &str) -> String {
        let name = zone.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        format!("DNS_LIST_{}", name.collect::<String>())
    }

    /// The name to look up; `None` when it would be too long for DNS.
    fn name(&self, question: &str) -> Option<String> {
        let name = match &self.key {
            Some(key) => format!("{question}.{key}.{}", self.zone),
            None => format!("{question}.{}", self.zone),
        };
        (name.len() <= MAX_NAME_BYTES).then_some(name)
    }
}

/// The lists of this process.
pub struct DnsLists {
    lists: Vec<Arc<Watched>>,
    resolver: Arc<MessageAuthenticator>,
    memory: Memory<String, Answer>,
}

/// A list, and how it does.
struct Watched {
    list: DnsList,
    believed: AtomicBool,
    pause: Pause,
}

impl std::fmt::Debug for DnsLists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lists.iter().map(|watched| &watched.list)).finish()
    }
}

impl DnsLists {
    /// None of them is believed before it was looked at: see [`DnsLists::keep_watch`].
    #[must_use]
    pub fn new(lists: Vec<DnsList>, resolver: Arc<MessageAuthenticator>) -> Self {
        let watched =
            |list| Arc::new(Watched { list, believed: AtomicBool::new(false), pause: Pause::default() });
        DnsLists {
            lists: lists.into_iter().map(watched).collect(),
            resolver,
            memory: Memory::new(MAX_KEPT, AT_A_TIME, MAX_WAITING),
        }
    }

    /// One symbol for each list that names a host of the message. What has not answered by `until` says nothing.
    pub async fn ask_about(&self, case: &Case<'_>, until: Instant) -> Vec<Symbol> {
        let is_off = case.policy.asked_mode(Classification::ListedHost) == CheckMode::Off;
        if is_off || !self.lists.iter().any(|watched| watched.is_believed()) {
            return Vec::new();
        }
        let names = names::of(&Facts::of(case.envelope, case.message));
        let asked = self.lists.iter().map(|watched| self.ask_list(watched, &names, until));
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask_list(&self, watched: &Arc<Watched>, names: &[Named], until: Instant) -> Option<Symbol> {
        if !watched.is_believed() {
            return None;
        }
        let list = &watched.list;
        let asked = names.iter().filter_map(|named| {
            let name = list.name(&answer::question(list.kind, &named.host)?)?;
            let answer = tokio::time::timeout_at(until, self.look_up(watched, name));
            Some(async move { (named, answer.await.ok().flatten().unwrap_or(Answer::Failed)) })
        });
        let answers = join_all(asked).await;
        // It may have turned out meanwhile that it is not to be believed.
        if watched.is_believed() { found(list, &answers) } else { None }
    }

    async fn look_up(&self, watched: &Arc<Watched>, name: String) -> Option<Answer> {
        let (watched, resolver) = (Arc::clone(watched), Arc::clone(&self.resolver));
        self.memory.get(name.clone(), || async move { watched.look_up(&resolver, &name).await }).await
    }
}

impl Watched {
    fn is_believed(&self) -> bool {
        self.believed.load(Ordering::Relaxed)
    }

    async fn look_up(&self, resolver: &MessageAuthenticator, name: &str) -> (Answer, Duration) {
        if !self.pause.lets_ask(std::time::Instant::now()) {
            return (Answer::Failed, Duration::ZERO);
        }
        let asked = tokio::time::timeout(dns::LOOK_UP_TIMEOUT, dns::addresses(resolver, name));
        let (answer, holds) = asked.await.unwrap_or((Answer::Failed, dns::KEPT_AT_LEAST));
        if answer == Answer::Failed || answer::refuses(&answer) {
            if self.pause.failed(name, std::time::Instant::now()) {
                tracing::warn!(
                    zone = self.list.zone,
                    "a DNS list does not answer, it is left out for some seconds"
                );
            }
            return (Answer::Failed, dns::KEPT_AT_LEAST);
        }
        self.pause.answered();
        (answer, holds)
    }
}

/// The symbol of a list that names one of the hosts.
fn found(list: &DnsList, answers: &[(&Named, Answer)]) -> Option<Symbol> {
    let hits = answers.iter().filter_map(|(named, answer)| {
        let codes = answer::counted(&list.codes, answer);
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        (!codes.is_empty()).then(|| format!("{} in {} ({})", named.host, named.place, codes.join(", ")))
    });
    let hits: Vec<String> = hits.collect();
    let evidence = format!("on {}: {}", list.zone, hits.join(", "));
    (!hits.is_empty()).then(|| evidence::symbol(&list.symbol, list.weight, &evidence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::names::Host;
    use crate::samples::{envelope, policy};

    fn list(key: Option<&str>) -> DnsList {
        DnsList {
            zone: "dbl.example.net".into(),
            kind: Kind::Domain,
            codes: vec!["127.0.1.0/24".parse().unwrap()],
            key: key.map(str::to_owned),
            weight: DEFAULT_WEIGHT,
            symbol: DnsList::default_symbol("dbl.example.net"),
            test_point: None,
        }
    }

    #[test]
    fn the_key_stands_before_the_zone_and_is_shown_nowhere() {
        assert_eq!(list(None).name("a.example").as_deref(), Some("a.example.dbl.example.net"));
        let with_key = list(Some("s3cret"));
        assert_eq!(with_key.name("a.example").as_deref(), Some("a.example.s3cret.dbl.example.net"));
        assert_eq!(with_key.name(&"a.".repeat(130)), None, "too long for DNS");
        let shown = format!("{with_key:?}");
        assert!(shown.contains("dbl.example.net") && !shown.contains("s3cret"), "{shown}");
        let named = Named { host: Host::Domain("bad.example".into()), place: "a link" };
        let answers = [(&named, Answer::Addresses(Arc::new(["127.0.1.2".parse().unwrap()])))];
        let symbol = found(&with_key, &answers).unwrap();
        assert_eq!(symbol.name, "DNS_LIST_DBL_EXAMPLE_NET");
        assert_eq!(symbol.evidence, "on dbl.example.net: bad.example in a link (127.0.1.2)");
    }

    #[test]
    fn one_symbol_names_all_that_is_listed() {
        let named = |name: &str| Named { host: Host::Domain(name.into()), place: "a link" };
        let (a, b, c) = (named("a.example"), named("b.example"), named("c.example"));
        let says = |code: &str| Answer::Addresses(Arc::new([code.parse().unwrap()]));
        let symbol =
            found(&list(None), &[(&a, says("127.0.1.2")), (&b, Answer::Failed), (&c, says("127.0.1.4"))]);
        let evidence = "on dbl.example.net: a.example in a link (127.0.1.2), c.example in a link (127.0.1.4)";
        assert_eq!(symbol.unwrap().evidence, evidence);
        assert_eq!(found(&list(None), &[(&a, says("127.0.0.2")), (&b, Answer::Failed)]), None);
        assert_eq!(found(&list(None), &[]), None);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_waited_for() {
        // Nobody reads from it.
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = dns::resolver(&[silent.local_addr().unwrap()]).unwrap();
        let lists = DnsLists::new(vec![list(None)], resolver);
        let (envelope, policy) = (envelope("a@b.example", &[]), policy("{}"));
        let message = b"From: a@b.example\r\n\r\nhttps://bad.example/";
        let case = Case { envelope: &envelope, message, policy: &policy };
        lists.lists[0].believed.store(true, Ordering::Relaxed);
        let started = Instant::now();
        assert!(lists.ask_about(&case, started + Duration::from_millis(100)).await.is_empty());
        // The resolver itself gives up after two seconds.
        assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    }
}
