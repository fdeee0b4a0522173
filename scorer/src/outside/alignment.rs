//! What receivers will find out about the From domain when a message comes from this relay: does SPF of its sender's domain
//! name our addresses, is there a DKIM signature, and does that satisfy DMARC (RFC 9989)?

mod judgement;
mod key;
mod ours;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use eventlog::View;
use mail_auth::dkim::Signature;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, DmarcResult, MessageAuthenticator, SpfOutput, SpfResult};
use schemas::settings::{CheckMode, SettingsView};
use schemas::verdict::{Classification, Symbol};
use schemas::{Domain, ReversePath};
use tokio::time::Instant;

use self::judgement::{Dmarc, Spf, Standing};
use self::key::Published;
use self::ours::{Primary, SignedBy, Source};
use super::dns::{self, KEPT_AT_LEAST, KEPT_AT_MOST, LOOK_UP_TIMEOUT};
use super::memory::Memory;
use super::pause::Pause;
use crate::classifier::links;
use crate::facts::{Author, Facts};
use crate::header::HeaderSection;
use crate::judge::Case;

/// Standings kept, looked up at a time, and that wait for their turn.
const MAX_KEPT: usize = 20_000;
const AT_A_TIME: usize = 64;
const MAX_WAITING: usize = 512;
/// How long a message waits for what is only counted; the answer is there for the next one.
const WAIT: Duration = Duration::from_millis(500);
/// Of our addresses, so many are looked at.
const MAX_SOURCES: usize = 8;
/// Signatures of a message that are looked at.
const MAX_SIGNATURES: usize = 3;

/// Asks DNS about From domains.
pub struct Alignment {
    resolver: Arc<MessageAuthenticator>,
    settings: View<SettingsView>,
    node: Node,
    primary: Primary,
    standings: Memory<Question, Standing>,
    pause: Arc<Pause>,
}

/// The node, as receivers see it.
#[derive(Clone, Debug)]
pub struct Node {
    /// In EHLO, where an egress source has no name of its own.
    pub hostname: String,
    /// Where receivers see mail come from; empty: the egress sources, else the primary address.
    pub addresses: Vec<IpAddr>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub dmarc: Option<Symbol>,
    pub spf: Option<Symbol>,
    pub authentication: Option<Authentication>,
}

/// How receivers can tell that a message is of its From domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// The domain, or the one above it, has a DMARC record.
    pub has_dmarc: bool,
    /// There is an aligned DKIM signature. `None`: one that the message brings along was not verified.
    pub has_dkim: Option<bool>,
}

/// What the answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    from: Domain,
    /// `None`: the null reverse-path, of which SPF judges the EHLO name.
    reverse_path: Option<Domain>,
    sources: Vec<Source>,
    signed_by: Option<SignedBy>,
}

impl std::fmt::Debug for Alignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Alignment").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Alignment {
    #[must_use]
    pub fn new(resolver: Arc<MessageAuthenticator>, settings: View<SettingsView>, node: Node) -> Self {
        Alignment {
            resolver,
            settings,
            node,
            primary: Primary::default(),
            standings: Memory::new(MAX_KEPT, AT_A_TIME, MAX_WAITING),
            pause: Arc::default(),
        }
    }

    /// What is found about a message. What is not known by `until` is not found.
    pub async fn ask_about(&self, case: &Case<'_>, until: Instant) -> Found {
        let until = match case.policy.asked_mode(Classification::Dmarc) {
            CheckMode::Off => return Found::default(),
            CheckMode::Count => until.min(Instant::now() + WAIT),
            CheckMode::Block => until,
        };
        let Some(question) = self.question(case) else { return Found::default() };
        tokio::time::timeout_at(until, self.find(case, question)).await.unwrap_or_default()
    }

    fn question(&self, case: &Case<'_>) -> Option<Question> {
        let facts = Facts::of(case.envelope, case.message);
        let from = only_domain(facts.authors())?;
        let settings = self.settings.read();
        let sources = match &self.node.addresses[..] {
            [] => ours::sources(&settings, case.policy.delivery_pool.as_deref(), || self.primary.addresses()),
            given => given.iter().map(|ip| Source { ip: *ip, ehlo: None }).collect(),
        };
        let signed_by =
            ours::signed_by(&settings, from, &case.envelope.domain, case.policy.dkim_selector.as_deref());
        let reverse_path = match &case.envelope.reverse_path {
            ReversePath::Mailbox(mailbox) => Some(mailbox.domain().clone()),
            ReversePath::Null => None,
        };
        // An address that only we know by this name says nothing of what receivers see.
        (!sources.is_empty()).then(|| Question { from: from.clone(), reverse_path, sources, signed_by })
    }

    async fn find(&self, case: &Case<'_>, question: Question) -> Found {
        let from = question.from.clone();
        let asked = Asked {
            resolver: Arc::clone(&self.resolver),
            pause: Arc::clone(&self.pause),
            hostname: self.node.hostname.clone(),
            question: question.clone(),
            timeout: LOOK_UP_TIMEOUT,
        };
        let Some(standing) = self.standings.get(question, || asked.look_up()).await else {
            return Found::default();
        };
        let (dmarc, is_signed) = match &standing.dmarc {
            Dmarc::Fails(policy) => {
                let is_signed = is_signed(&self.resolver, case.message, &from).await;
                let fails = is_signed == Some(false);
                (fails.then(|| judgement::dmarc_symbol(&from, *policy, &standing)), is_signed)
            }
            _ if standing.is_signed => (None, None),
            // Where DMARC does not depend on it, no signature is verified.
            _ => (None, (!carries_signature(case.message, &from)).then_some(false)),
        };
        let authentication = standing.authentication(is_signed);
        Found { dmarc, spf: judgement::spf_symbol(&standing), authentication }
    }
}

/// Whether the message carries a signature of its own that is valid and aligned. `None`: DNS does not say.
async fn is_signed(resolver: &MessageAuthenticator, message: &[u8], from: &Domain) -> Option<bool> {
    if HeaderSection::split(message).first("dkim-signature").is_none() {
        return Some(false);
    }
    let Some(mut parsed) = AuthenticatedMessage::parse(message) else { return Some(false) };
    parsed.dkim_headers.retain(|found| may_align(&found.header.d.to_lowercase(), from));
    parsed.dkim_headers.truncate(MAX_SIGNATURES);
    if parsed.dkim_headers.is_empty() {
        return Some(false);
    }
    let outputs = resolver.verify_dkim(&parsed).await;
    let spf = SpfOutput::new(String::new());
    let parameters = DmarcParameters::new(&parsed, &outputs, "", &spf);
    match resolver.verify_dmarc(parameters).await.dkim_result() {
        DmarcResult::Pass => Some(true),
        DmarcResult::TempError(_) => None,
        _ => Some(false),
    }
}

/// Whether a signature of `signer` (in small letters) can be aligned with `from` at all. Which of them is, the tree walk says
/// (RFC 9989, 4.10): a domain under which others register may well sign for them.
fn may_align(signer: &str, from: &Domain) -> bool {
    let is_under = |name: &str, above: &str| name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'));
    let from = from.as_str();
    signer == from
        || is_under(from, signer)
        || is_under(signer, from)
        || links::registered(signer) == links::registered(from)
}

/// Whether a message has a signature of the domain of its author, or of one with the same owner, valid or not.
fn carries_signature(message: &[u8], from: &Domain) -> bool {
    let header = HeaderSection::split(message);
    header.all("dkim-signature").any(|field| {
        let text = field.text();
        let tags = text.split(';').filter_map(|tag| tag.split_once('='));
        let mut signers = tags.filter(|(name, _)| name.trim() == "d").map(|(_, d)| d.trim().to_lowercase());
        signers.any(|signer| may_align(&signer, from))
    })
}

/// The domain of the authors, where they have one in common: DMARC says nothing of others (RFC 9989, 5.3.1).
fn only_domain(authors: &[Author]) -> Option<&Domain> {
    let mut domains = authors.iter().filter_map(|author| match author {
        Author::Mailbox(mailbox) => Some(mailbox.domain()),
        Author::Invalid(_) => None,
    });
    let first = domains.next().filter(|domain| domain.literal_ip().is_none())?;
    domains.all(|domain| domain == first).then_some(first)
}

/// A question on its way.
struct Asked {
    resolver: Arc<MessageAuthenticator>,
    pause: Arc<Pause>,
    hostname: String,
    question: Question,
    /// For all that is looked up.
    timeout: Duration,
}

impl Asked {
    async fn look_up(self) -> (Standing, Duration) {
        if !self.pause.lets_ask(std::time::Instant::now()) {
            return (Standing::unknown(), Duration::ZERO);
        }
        let standing = tokio::time::timeout(self.timeout, self.standing()).await;
        let standing = standing.unwrap_or_else(|_| Standing::unknown());
        if standing.dmarc != Dmarc::Unknown {
            self.pause.answered();
            return (standing, KEPT_AT_MOST);
        }
        // What one domain's own servers do not answer must not keep others from being asked about.
        if dns::is_there(&self.resolver).await {
            self.pause.answered();
        } else if self.pause.failed(self.question.from.as_str(), std::time::Instant::now()) {
            tracing::warn!("DNS does not answer: From domains are not looked up for some seconds");
        }
        (Standing::unknown(), KEPT_AT_LEAST)
    }

    async fn standing(&self) -> Standing {
        let signed_by = self.question.signed_by.as_ref();
        let published = async {
            match signed_by {
                Some(signed_by) => Some(key::published(&self.resolver, &signed_by.keys).await),
                None => None,
            }
        };
        let (spf, published) = tokio::join!(self.spf(), published);
        // The domain of a signature that receivers can verify.
        let signer =
            signed_by.filter(|_| published == Some(Published::Yes)).map(|signed_by| &signed_by.domain);
        let dmarc = match &published {
            Some(Published::Unknown) => Dmarc::Unknown,
            _ => self.dmarc(&spf, signer).await,
        };
        let is_signed = signer.is_some_and(|domain| may_align(domain.as_str(), &self.question.from));
        let lost_key = if let Some(Published::No(lost)) = published { Some(lost) } else { None };
        Standing { spf, dmarc, is_signed, lost_key }
    }

    /// What SPF says of each of our addresses.
    async fn spf(&self) -> Spf {
        let mut spf = Spf { domain: String::new(), results: Vec::new() };
        for source in self.question.sources.iter().take(MAX_SOURCES) {
            let ehlo = source.ehlo.as_deref().unwrap_or(&self.hostname);
            let output = match &self.question.reverse_path {
                Some(domain) => {
                    // A macro that asks for the local-part is answered for one; what it says is kept for all.
                    let sender = format!("postmaster@{domain}");
                    let asked = SpfParameters::verify_mail_from(source.ip, ehlo, &self.hostname, &sender);
                    self.resolver.verify_spf(asked).await
                }
                None => {
                    let asked = SpfParameters::verify_ehlo(source.ip, ehlo, &self.hostname);
                    self.resolver.verify_spf(asked).await
                }
            };
            // Sources have EHLO names of their own: the one that passes is the one to be aligned.
            let passes_first = output.result() == SpfResult::Pass && spf.best() != Some(SpfResult::Pass);
            if spf.domain.is_empty() || passes_first {
                output.domain().clone_into(&mut spf.domain);
            }
            spf.results.push((source.ip, output.result()));
        }
        spf
    }

    /// Whether DMARC passes with these results of SPF and a signature of ours by that domain.
    async fn dmarc(&self, spf: &Spf, signed_by: Option<&Domain>) -> Dmarc {
        let message = format!("From: <postmaster@{}>\r\n\r\n", self.question.from);
        let Some(message) = AuthenticatedMessage::parse(message.as_bytes()) else { return Dmarc::Unknown };
        let signature = signed_by.map(|domain| Signature { d: domain.to_string(), ..Signature::default() });
        let dkim: Vec<DkimOutput<'_>> =
            signature.iter().map(|signature| DkimOutput::pass().with_signature(signature)).collect();
        let result = spf.best().unwrap_or(SpfResult::None);
        let output = SpfOutput::new(spf.domain.clone()).with_result(result);
        let parameters = DmarcParameters::new(&message, &dkim, &spf.domain, &output);
        judgement::dmarc(&self.resolver.verify_dmarc(parameters).await)
    }
}

#[cfg(test)]
mod tests;
