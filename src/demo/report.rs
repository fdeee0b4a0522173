//! What became of the batch: each message held against the outcome it must have, and the table that says so.

use std::collections::{BTreeMap, HashMap, HashSet};

use mail_auth::hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator};
use reporter::store::query::LogLine;

use super::messages::{Expected, Item};
use super::receiver::Received;
use super::sender::Answer;
use super::site::{Site, client};
use crate::config::Config;

/// What the log and the receiving server say.
pub struct Outcome {
    lines: HashMap<String, Vec<LogLine>>,
    own: Vec<LogLine>,
    received: Vec<Received>,
    /// Items whose every recipient has a terminal outcome.
    pub finished: usize,
    /// Messages of our own that must have been sent by then: bounces and reports.
    expected_own: usize,
}

impl Outcome {
    /// # Errors
    /// When the node does not answer.
    pub async fn read(
        config: &Config,
        site: &Site,
        items: &[Item],
        answers: &[Answer],
    ) -> anyhow::Result<Self> {
        let query = [("limit", "100000".to_owned()), ("own", "true".to_owned())];
        let all: Vec<LogLine> = client(config).get("/v1/log", &query).await?;
        let (own, theirs): (Vec<_>, Vec<_>) = all.into_iter().partition(|line| line.own);
        let mut lines: HashMap<String, Vec<LogLine>> = HashMap::new();
        for line in theirs {
            lines.entry(line.message_id.clone()).or_default().push(line);
        }
        let mut outcome =
            Outcome { lines, own, received: site.receiver.received(), finished: 0, expected_own: 0 };
        outcome.finished =
            items.iter().zip(answers).filter(|(item, answer)| outcome.is_finished(item, answer)).count();
        let bounces = items.iter().filter(|item| item.expected == Expected::Bounced).count();
        outcome.expected_own = bounces + items.iter().filter(|item| item.what.starts_with("spam")).count();
        Ok(outcome)
    }

    /// Every bounce and report that must come has arrived.
    #[must_use]
    pub fn own_mail_is_done(&self) -> bool {
        self.own.iter().filter(|line| line.outcome == "delivered").count() >= self.expected_own
    }

    fn lines_of(&self, answer: &Answer) -> &[LogLine] {
        answer.message_id().and_then(|id| self.lines.get(id)).map_or(&[], Vec::as_slice)
    }

    fn is_finished(&self, item: &Item, answer: &Answer) -> bool {
        let lines = self.lines_of(answer);
        matches!(answer, Answer::Failed { .. })
            || (lines.len() == item.recipients.len() && lines.iter().all(|line| line.outcome != "queued"))
    }

    /// Whether an item came out as it must; the reason when it did not.
    fn verify(&self, item: &Item, answer: &Answer) -> Result<(), String> {
        let lines = self.lines_of(answer);
        let all = |outcome: &str| {
            lines.len() == item.recipients.len() && lines.iter().all(|line| line.outcome == outcome)
        };
        let arrived = |recipient: &String| {
            let id = lines.first().and_then(|line| line.header_message_id.clone()).unwrap_or_default();
            self.received
                .iter()
                .filter(|r| r.recipients.contains(recipient) && contains(&r.message, &id))
                .count()
        };
        let good = match (item.expected, answer) {
            (Expected::Delivered, Answer::Accepted { .. }) => {
                all("delivered") && item.recipients.iter().all(|r| arrived(r) == 1)
            }
            (Expected::Bounced, Answer::Accepted { .. }) => {
                all("failed") && item.recipients.iter().all(|r| arrived(r) == 0)
            }
            (Expected::Blocked, Answer::Refused { .. }) => {
                all("quarantined") && item.recipients.iter().all(|r| arrived(r) == 0)
            }
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(format!("{}: answered {answer:?}, log says {:?}", item.what, outcomes(lines)))
        }
    }
}

fn outcomes(lines: &[LogLine]) -> Vec<(&str, &str)> {
    lines.iter().map(|line| (line.forward_path.as_str(), line.outcome.as_str())).collect()
}

fn contains(message: &[u8], needle: &str) -> bool {
    !needle.is_empty() && message.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The table, and what did not come out as it must.
pub struct Summary {
    rows: BTreeMap<&'static str, Row>,
    received: usize,
    under_tls: usize,
    signed: usize,
    signatures_valid: usize,
    deferrals: u64,
    bounces: usize,
    reports: usize,
    problems: Vec<String>,
}

#[derive(Default)]
struct Row {
    sent: usize,
    accepted: usize,
    blocked: usize,
    delivered: usize,
    failed: usize,
    why: String,
}

impl Summary {
    /// Every message reached its one terminal outcome, and the right one.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Holds the batch against its outcome; signatures are verified as a receiver would, over DNS.
pub async fn summarise(items: &[Item], answers: &[Answer], outcome: &Outcome, site: &Site) -> Summary {
    let (signed, signatures_valid) = verify_signatures(&outcome.received, site).await;
    let mut summary = Summary {
        rows: BTreeMap::new(),
        received: outcome.received.len(),
        under_tls: outcome.received.iter().filter(|r| r.over_tls).count(),
        signed,
        signatures_valid,
        deferrals: outcome.lines.values().flatten().map(|line| u64::from(line.tries.saturating_sub(1))).sum(),
        bounces: outcome
            .received
            .iter()
            .filter(|r| contains(&r.message, "report-type=delivery-status"))
            .count(),
        reports: outcome
            .received
            .iter()
            .filter(|r| contains(&r.message, "report-type=feedback-report"))
            .count(),
        problems: Vec::new(),
    };
    for (item, answer) in items.iter().zip(answers) {
        let lines = outcome.lines_of(answer);
        let row = summary.rows.entry(item.what).or_default();
        row.sent += 1;
        row.accepted += usize::from(matches!(answer, Answer::Accepted { .. }));
        row.blocked += usize::from(matches!(answer, Answer::Refused { .. }));
        row.delivered += lines.iter().filter(|line| line.outcome == "delivered").count();
        row.failed += lines.iter().filter(|line| line.outcome == "failed").count();
        if let Answer::Refused { .. } = answer {
            row.why = lines.first().map_or_else(String::new, |line| line.classification.clone());
        }
        if let Err(problem) = outcome.verify(item, answer) {
            summary.problems.push(problem);
        }
    }
    if !outcome.own_mail_is_done() {
        summary.problems.push("a bounce or feedback report did not arrive".into());
    }
    let own = outcome.own.iter().filter(|line| line.outcome == "delivered").count();
    if signed + own < summary.received {
        summary.problems.push(format!("{} messages arrived unsigned", summary.received - own - signed));
    }
    if signatures_valid < signed {
        summary.problems.push(format!(
            "{} messages arrived with a signature that does not verify",
            signed - signatures_valid
        ));
    }
    summary
}

/// Messages that arrived signed, and those whose every signature is valid.
async fn verify_signatures(received: &[Received], site: &Site) -> (usize, usize) {
    let mut server = NameServerConfig::udp(site.name_server().ip());
    for connection in &mut server.connections {
        connection.port = site.name_server().port();
    }
    let config = ResolverConfig::from_name_servers(vec![server]);
    let Ok(authenticator) = MessageAuthenticator::new(config, ResolverOpts::default()) else { return (0, 0) };
    let (mut signed, mut valid) = (0, 0);
    for message in received {
        let Some(parsed) = AuthenticatedMessage::parse(&message.message) else { continue };
        let results = authenticator.verify_dkim(&parsed).await;
        if results.iter().any(|result| result.signature().is_some()) {
            signed += 1;
            valid += usize::from(results.iter().all(|result| matches!(result.result(), DkimResult::Pass)));
        }
    }
    (signed, valid)
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = crate::cli::table::Table::new(&[
            "WHAT WAS SENT",
            "MESSAGES",
            "ACCEPTED",
            "BLOCKED",
            "WHY",
            "DELIVERED",
            "BOUNCED",
        ]);
        for (what, row) in &self.rows {
            let numbers = [row.sent, row.accepted, row.blocked].map(|n| n.to_string());
            let [sent, accepted, blocked] = numbers;
            table.row(vec![
                (*what).to_owned(),
                sent,
                accepted,
                blocked,
                row.why.clone(),
                row.delivered.to_string(),
                row.failed.to_string(),
            ]);
        }
        writeln!(f, "\n{table}")?;
        let clean = self.rows.values().map(|row| row.sent).sum::<usize>();
        let distinct: HashSet<_> = self.rows.keys().collect();
        writeln!(
            f,
            "{clean} messages of {} kinds; the receiving server took {} messages, {} of them under TLS",
            distinct.len(),
            self.received,
            self.under_tls
        )?;
        writeln!(
            f,
            "signed: {} arrived with a DKIM signature, {} of them verify",
            self.signed, self.signatures_valid
        )?;
        writeln!(f, "deferred and tried again: {}", self.deferrals)?;
        writeln!(
            f,
            "bounces (DSN) sent back: {}; feedback reports (ARF) to the abuse desk: {}",
            self.bounces, self.reports
        )?;
        if self.problems.is_empty() {
            writeln!(f, "Every message reached its one terminal outcome.")?;
        } else {
            writeln!(f, "NOT as it must be:")?;
            self.problems.iter().take(20).try_for_each(|problem| writeln!(f, "  {problem}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::messages::Sender;

    const ID: &str = "01K0000000000000000000000A";

    fn item(expected: Expected, recipients: &[&str]) -> Item {
        Item {
            what: "a letter",
            sender: Sender::Server,
            reverse_path: "a@shop.example".into(),
            recipients: recipients.iter().map(ToString::to_string).collect(),
            message: Vec::new(),
            expected,
        }
    }

    fn line(forward_path: &str, outcome: &str) -> LogLine {
        serde_json::from_value(serde_json::json!({
            "message_id": ID, "recipient": 0, "accepted_at": 0, "at": 0, "user": "u", "domain": "shop.example",
            "identity": "a", "reverse_path": "a@shop.example", "forward_path": forward_path,
            "classification": "clean", "outcome": outcome, "size_bytes": 1, "tries": 1,
            "header_message_id": "<1@shop.example>", "own": false,
        }))
        .unwrap()
    }

    fn arrived(recipients: &[&str]) -> Received {
        Received {
            recipients: recipients.iter().map(ToString::to_string).collect(),
            message: b"Message-ID: <1@shop.example>\r\n\r\n".to_vec(),
            over_tls: true,
        }
    }

    fn outcome(lines: Vec<LogLine>, received: Vec<Received>) -> Outcome {
        let lines = HashMap::from([(ID.to_owned(), lines)]);
        Outcome { lines, own: Vec::new(), received, finished: 0, expected_own: 0 }
    }

    fn accepted() -> Answer {
        Answer::Accepted { id: ID.into() }
    }

    #[test]
    fn a_message_is_right_only_with_all_it_must_have() {
        let (a, b) = ("a@there.example", "b@there.example");
        let both = item(Expected::Delivered, &[a, b]);
        let lines = || vec![line(a, "delivered"), line(b, "delivered")];
        let good = outcome(lines(), vec![arrived(&[a, b])]);
        assert_eq!(good.verify(&both, &accepted()), Ok(()));
        for (what, bad, answer) in [
            (
                "one recipient without outcome",
                outcome(vec![line(a, "delivered")], vec![arrived(&[a, b])]),
                accepted(),
            ),
            (
                "one failed",
                outcome(vec![line(a, "delivered"), line(b, "failed")], vec![arrived(&[a])]),
                accepted(),
            ),
            ("one did not arrive", outcome(lines(), vec![arrived(&[a])]), accepted()),
            ("one arrived twice", outcome(lines(), vec![arrived(&[a, b]), arrived(&[b])]), accepted()),
            ("no answer", outcome(lines(), vec![arrived(&[a, b])]), Answer::Failed { why: "gone".into() }),
        ] {
            assert!(bad.verify(&both, &answer).is_err(), "{what}");
        }
    }

    #[test]
    fn what_is_blocked_or_bounced_must_not_arrive() {
        let a = "a@there.example";
        let refused = Answer::Refused { reply: "550".into(), reference: Some(ID.into()) };
        for (expected, is, answer) in
            [(Expected::Blocked, "quarantined", refused), (Expected::Bounced, "failed", accepted())]
        {
            let item = item(expected, &[a]);
            assert_eq!(outcome(vec![line(a, is)], Vec::new()).verify(&item, &answer), Ok(()), "{is}");
            assert!(outcome(vec![line(a, is)], vec![arrived(&[a])]).verify(&item, &answer).is_err(), "{is}");
            assert!(outcome(vec![line(a, "delivered")], Vec::new()).verify(&item, &answer).is_err(), "{is}");
        }
    }
}
