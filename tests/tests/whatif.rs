//! What-if tells beforehand what other settings do: mail is sent, settings are tried, then they are applied and the same mail
//! is sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, ManualClock, NewRecord, SystemClock};
use mailweir::config::Config;
use mailweir::pipeline::{self, Pipeline};
use mailweir::socket::Client;
use mailweir::whatif::answer::{Answer, Request};
use mailweir_tests::mailweir::Mailweir;
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp;
use schemas::verdict::{Verdict, VerdictEvent};
use schemas::{Timestamp, Topic};
use serde_json::Value;

const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// One node in this process, which the command asks over its socket.
struct Node {
    directory: tempfile::TempDir,
    pipeline: Pipeline,
    sink: Sink,
}

impl Node {
    async fn start() -> Self {
        Self::start_with(Arc::new(SystemClock)).await
    }

    async fn start_with(clock: Arc<dyn Clock>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let sink = Sink::start();
        let text = format!(
            "data_dir = \"{}\"\n[log]\nmin_free = \"32MiB\"\n[ingress]\nhostname = \"smtp.hoster.example\"\n[[ingress.listener]]\nbind = \"127.0.0.1:0\"\ntls = \"none\"\n\
             [delivery]\nrelay_host = \"127.0.0.1:{}\"\n",
            directory.path().join("data").display(),
            sink.port
        );
        let path = directory.path().join("mailweir.toml");
        std::fs::write(&path, text).expect("the configuration");
        let config = Config::load(&path).expect("a good configuration");
        let roles = mailweir::roles::Roles::all();
        let pipeline = pipeline::start(&config, roles, clock).await.expect("it starts");
        Node { directory, pipeline, sink }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(Mailweir::binary());
        command.args(arguments).arg("--config").arg(self.directory.path().join("mailweir.toml"));
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("mailweir")
    }

    async fn ask(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ask(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Sends a message; its reply, and the id in it.
    async fn send(&self, mail: &Mail) -> (String, Option<String>) {
        let (port, mail) = (self.pipeline.smtp[0].port(), mail.clone());
        let arrived = self.sink.count();
        let send = move || {
            let (mut client, _) = smtp::Client::connect_from(mail.server, port)?;
            client.command("EHLO client.example")?;
            client.deliver(mail.from, &["ok@receiver.example"], &mail.message())
        };
        let reply = tokio::task::spawn_blocking(send).await.expect("a thread").expect("a reply");
        if reply.starts_with("250") {
            // One after the other: what is under way at one moment may slip past a limit.
            until("it is delivered", || async { (self.sink.count() > arrived).then_some(()) }).await;
        }
        let id = reply.trim().rsplit(' ').next().filter(|word| word.len() == 26).map(str::to_owned);
        (reply, id)
    }

    /// The ends of all partitions of all topics, once nothing is written any more.
    async fn ends(&self) -> BTreeMap<&'static str, Vec<u64>> {
        let log = self.pipeline.log();
        let look = || async {
            let mut ends = BTreeMap::new();
            for topic in Topic::ALL {
                ends.insert(topic.name(), log.ends(topic).await.expect("the log"));
            }
            ends
        };
        let last = tokio::sync::Mutex::new(look().await);
        until("the log is quiet", || async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let now = look().await;
            let before = std::mem::replace(&mut *last.lock().await, now.clone());
            (before == now).then_some(now)
        })
        .await
    }
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within 30 s"))
}

#[derive(Clone)]
struct Mail {
    name: &'static str,
    server: Ipv4Addr,
    from: &'static str,
    /// Lines of the header section.
    fields: String,
    body: &'static str,
}

impl Mail {
    /// An answer, short and harmless.
    fn letter(name: &'static str, server: Ipv4Addr, from: &'static str) -> Self {
        let fields = format!("Subject: Re: {name}\r\nDate: {}\r\n", smtp::date());
        Mail { name, server, from, fields, body: "See you on Monday." }
    }

    fn message(&self) -> Vec<u8> {
        let id: u64 = rand::random();
        format!(
            "From: {}\r\nTo: ok@receiver.example\r\nMessage-ID: <{id:016x}@a.example>\r\nIn-Reply-To: <1@receiver.example>\r\nReferences: <1@receiver.example>\r\n{}\r\n{}\r\n",
            self.from, self.fields, self.body
        )
        .into_bytes()
    }
}

fn mail() -> Vec<Mail> {
    let letter = |name, server| Mail::letter(name, server, "office@a.example");
    let old = "Subject: Re: minutes\r\nDate: Tue, 24 Nov 2020 09:30:00 +0000\r\nno field\r\n".to_owned();
    let twice = format!("Subject: Re: minutes\r\nSubject: again\r\nDate: {}\r\n", smtp::date());
    let mut all = vec![
        letter("minutes", ONE),
        Mail { fields: old, ..letter("malformed", ONE) },
        Mail::letter("listed", ONE, "bulk@a.example"),
        Mail { fields: twice, ..letter("twice", ONE) },
        Mail { body: GTUBE, ..letter("spam", ONE) },
    ];
    all.extend(["first", "second", "third", "fourth", "fifth"].map(|name| letter(name, TWO)));
    all
}

fn settings(of_domain: &str, of_two: &str) -> String {
    format!(
        "[[domain]]\nname = \"a.example\"\n{of_domain}\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"{ONE}\"\n\
         [[outgoing_user]]\ndomain = \"a.example\"\nip = \"{TWO}\"\n{of_two}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_beforehand_is_what_happens() {
    let node = Node::start().await;
    let now = node.file("now.toml", &settings("", ""));
    node.ask(&["apply", "--yes", &now]).await;
    let mut ids = BTreeMap::new();
    let mut passed = BTreeSet::new();
    for mail in mail() {
        let (reply, id) = node.send(&mail).await;
        ids.insert(id.unwrap_or_else(|| panic!("{}: {reply}", mail.name)), mail.name);
        if reply.starts_with("250") {
            passed.insert(mail.name);
        }
    }
    assert_eq!(passed.len(), 8, "all but the spam, and the one with two Subjects: {passed:?}");

    let tried = node.file(
        "tried.toml",
        &settings(
            "spam_threshold = 0.15\nblock_senders = [\"bulk@a.example\"]\nchecks = { duplicate_header = \"off\" }",
            "limits = { messages_per_hour = 3 }",
        ),
    );
    let before = node.ends().await;
    let answer = node.json(&["whatif", "--policy", &tried, "--since", "1h", "--suggest"]).await;
    let text = node.ask(&["whatif", "--policy", &tried]).await;
    assert_eq!(node.ends().await, before, "what-if writes nothing");

    let totals = &answer["totals"];
    assert_eq!((&totals["messages"], &totals["recomputed"]), (&10.into(), &10.into()), "{answer:#}");
    let named = |change: &str| -> BTreeSet<&str> {
        let rows = answer["users"].as_array().expect("users");
        let examples = rows.iter().flat_map(|row| row["examples"].as_array().expect("examples"));
        examples
            .filter(|example| example["change"] == change)
            .map(|example| ids[example["id"].as_str().expect("an id")])
            .collect()
    };
    let (blocked, passes) = (named("blocked"), named("passed"));
    assert_eq!(blocked, ["listed", "malformed"].into(), "{answer:#}");
    assert_eq!(passes, ["twice"].into(), "{answer:#}");
    let two = answer["users"].as_array().expect("users").iter().find(|row| row["user"] == "127.0.0.3/32");
    let hit = &two.unwrap_or_else(|| panic!("{answer:#}"))["limits"][0];
    assert_eq!(
        (&hit["limit"], &hit["messages"], &hit["largest_burst"]),
        (&"messages_per_hour".into(), &2.into(), &5.into())
    );
    assert_eq!(ids[hit["first_id"].as_str().expect("an id")], "fourth");
    assert!(text.contains("spam_threshold: 0.15") && text.contains("127.0.0.2/32"), "{text}");
    assert!(answer["suggestions"].as_array().is_some_and(|users| users.len() == 2));

    node.ask(&["apply", "--yes", &tried]).await;
    for mail in mail() {
        let (reply, _) = node.send(&mail).await;
        let code = match mail.name {
            "fourth" | "fifth" => "450",
            name if blocked.contains(name) || name == "spam" => "550",
            _ => "250",
        };
        assert!(reply.starts_with(code), "{}: {reply}", mail.name);
    }
    // The same settings once more change nothing, of the mail before or after, but what they changed of the mail before.
    let again = node.json(&["whatif", "--policy", &tried, "--since", "1h"]).await;
    assert_eq!(again["diff"], serde_json::json!([]));
    assert_eq!(again["totals"]["messages"], 18);
    assert_eq!(again["totals"]["changes"]["unchanged"], 15);
    node.pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_verdict_does_not_say_enough_the_message_is_asked() {
    let node = Node::start().await;
    let off = settings("checks = { duplicate_header = \"off\" }", "");
    let off = node.file("off.toml", &off);
    node.ask(&["apply", "--yes", &off]).await;
    for mail in mail().into_iter().filter(|mail| ["twice", "minutes"].contains(&mail.name)) {
        assert!(node.send(&mail).await.0.starts_with("250"));
    }
    let tried = node.file("tried.toml", &settings("", ""));
    let answer = node.json(&["whatif", "--policy", &tried]).await;
    assert_eq!(answer["totals"]["from_bodies"], 2, "{answer:#}");
    assert_eq!(answer["totals"]["changes"]["newly_blocked"], serde_json::json!({"duplicate_header": 1}));
    let none = node.json(&["whatif", "--policy", &tried, "--max-bodies", "0"]).await;
    assert_eq!((&none["totals"]["recomputed"], &none["totals"]["not_read"]), (&0.into(), &2.into()));
    let rescored = node.json(&["whatif", "--rescore"]).await;
    assert_eq!(rescored["totals"]["changes"]["unchanged"], 2, "{rescored:#}");

    for (file, expected) in [
        (settings("spam_threshold = 7", ""), "spam_threshold"),
        (
            "[[domain]]\nname = \"a.example\"\nspm_action = \"observe\"\n".to_owned(),
            "did you mean `spam_action`",
        ),
    ] {
        let file = node.file("bad.toml", &file);
        let output = node.command(&["whatif", "--policy", &file]).await;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(node.command(&["whatif"]).await.status.code(), Some(1), "nothing to try");
    assert_eq!(node.command(&["whatif", "--model", "x"]).await.status.code(), Some(2));
    node.pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_before_counts_and_what_an_older_version_wrote_is_told() {
    let start = SystemClock.now();
    let clock = ManualClock::starting_at(start);
    let node = Node::start_with(Arc::new(clock.clone())).await;
    let file =
        node.file("now.toml", &settings("", "limits = { messages_per_hour = 3 }\nover_limit = \"hold\""));
    node.ask(&["apply", "--yes", &file]).await;
    let letters: Vec<Mail> = mail().into_iter().filter(|mail| mail.server == TWO).collect();
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for letter in &letters[..2] {
        node.send(letter).await;
    }
    clock.advance(minutes(30));
    node.send(&letters[2]).await;
    let told = |since: Timestamp| {
        let node = &node;
        let text = settings("", "limits = { messages_per_hour = 2 }");
        async move {
            let request = Request {
                policy: Some(control::api::SettingsFile { text, ..Default::default() }),
                since,
                examples: 5,
                rescore: false,
                model: None,
                max_bodies: 10,
                suggest: false,
            };
            let client = Client::new(node.directory.path().join("data/control.sock"), "test".into());
            let answer: Answer = client.post("/v1/whatif", &request).await.expect("an answer");
            answer.totals
        }
    };
    let totals = told(start.plus(minutes(20))).await;
    assert_eq!((totals.messages, totals.over_limit), (1, 1), "two were sent in the half hour before");
    assert_eq!(told(start.minus(minutes(1))).await.messages, 3);

    let judged = judged(&node).await;
    let counted: Vec<_> =
        judged.iter().map(|verdict| verdict.basis.as_ref().expect("a basis").limits.clone()).collect();
    let of_hour = |count| BTreeMap::from([("messages_per_hour".to_owned(), (count, 3))]);
    assert_eq!(counted, [of_hour(0), of_hour(1), of_hour(2)]);

    let mut old = Verdict { basis: None, ..judged[0].clone() };
    old.accepted.offset = 1 << 40;
    let value = serde_json::to_vec(&VerdictEvent::Judged(old)).expect("JSON");
    let record = NewRecord::new(Topic::Verdicts, "127.0.0.3/32", "old", value);
    node.pipeline.log().append(vec![record]).await.expect("appended");
    let totals = told(start.minus(minutes(1))).await;
    assert_eq!((totals.messages, totals.too_old, totals.recomputed), (4, 1, 3));
    assert_eq!(totals.over_limit, 2, "it counts all the same");
    let text = node.ask(&["whatif", "--policy", &file]).await;
    assert!(text.contains("1 verdicts are too old to be recomputed"), "{text}");
    node.pipeline.stop().await;
}

/// The verdicts in the log, in their order.
async fn judged(node: &Node) -> Vec<Verdict> {
    let log = node.pipeline.log();
    let mut verdicts = Vec::new();
    let mut table = log.table(Topic::Verdicts, None).await.expect("the topic");
    loop {
        for event in table.next(100).await.expect("records") {
            let record = match event {
                eventlog::TableEvent::CaughtUp => return verdicts,
                eventlog::TableEvent::Row(record) => record,
            };
            let event = serde_json::from_slice(&record.value.expect("a value")).expect("an event");
            if let VerdictEvent::Judged(verdict) = event {
                verdicts.push(verdict);
            }
        }
    }
}
