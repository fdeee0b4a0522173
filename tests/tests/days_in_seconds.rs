//! Days of queue in seconds: whole pipelines in this process, on a clock that the test moves.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use control::api::{ApplyAnswer, ApplyRequest, CommandOutcome, QueueAnswer, QueueRequest, SettingsFile};
use eventlog::{Clock, ManualClock};
use mailweir::config::Config;
use mailweir::pipeline::{self, Pipeline};
use mailweir::socket::Client;
use mailweir_tests::sink::Sink;
use mailweir_tests::smtp;
use schemas::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3600);
const START: Timestamp = Timestamp(1_795_512_600_000);

/// One node whose process can be restarted, and its clock.
struct Node {
    /// Removed at the end.
    _directory: tempfile::TempDir,
    config: Config,
    clock: ManualClock,
    pipeline: Option<Pipeline>,
    sink: Sink,
}

impl Node {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let sink = Sink::start();
        let text = format!(
            "data_dir = \"{}\"\n[log]\nmin_free = \"32MiB\"\n[ingress]\nhostname = \"smtp.hoster.example\"\n[[ingress.listener]]\nbind = \"127.0.0.1:0\"\ntls = \"none\"\n\
             [delivery]\nrelay_host = \"127.0.0.1:{}\"\n",
            directory.path().display(),
            sink.port
        );
        let config = Config::parse(&PathBuf::from("test.toml"), &text).expect("a good configuration");
        let mut node = Node {
            _directory: directory,
            config,
            clock: ManualClock::starting_at(START),
            pipeline: None,
            sink,
        };
        node.restart().await;
        let text = "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n".to_owned();
        let file = SettingsFile { text, ..SettingsFile::default() };
        let request = ApplyRequest { file, expected_version: None };
        let applied: ApplyAnswer = node.client().post("/v1/settings/apply", &request).await.expect("applied");
        assert!(applied.in_force);
        node
    }

    async fn restart(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.stop().await;
        }
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        self.pipeline = Some(
            pipeline::start(&self.config, mailweir::roles::Roles::all(), clock).await.expect("it starts"),
        );
    }

    fn running(&self) -> &Pipeline {
        self.pipeline.as_ref().expect("it runs")
    }

    fn client(&self) -> Client {
        Client::new(self.config.control_socket(), "test".into())
    }

    async fn send(&self, to: &str) -> String {
        let port = self.running().smtp[0].port();
        let to = to.to_owned();
        let send =
            move || smtp::send(port, "x@a.example", &[&to], &smtp::message("x@a.example", &to, "Hi", "Text"));
        until("mail is taken", || {
            let send = send.clone();
            async move {
                let reply =
                    tokio::task::spawn_blocking(send).await.expect("the client").expect("a connection");
                reply.starts_with("250").then_some(reply)
            }
        })
        .await
    }

    async fn queue(&self) -> QueueAnswer {
        self.client().get("/v1/queue", &[]).await.expect("the queue")
    }

    async fn wait_for_tries(&self, tries: u32) {
        until(&format!("{tries} tries"), || async {
            self.queue().await.entries.first().is_some_and(|entry| entry.tries == tries).then_some(())
        })
        .await;
    }

    async fn wait_for_arrival(&self) {
        // Besides, a delay notice may go to the sender.
        let arrivals = || self.sink.recipients().iter().filter(|to| to.ends_with("@b.example")).count();
        until("it arrives", || async { (arrivals() == 1).then_some(()) }).await;
        until("the queue is empty", || async { (self.queue().await.total == 0).then_some(()) }).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_three_days_is_delivered_after_a_restart() {
    let mut node = Node::start().await;
    node.send("defer-three-days@b.example").await;
    node.wait_for_tries(1).await;
    node.pipeline.take().expect("it runs").stop().await;
    // Longer than `released` keeps its records: nothing else may have dropped the message.
    node.clock.advance(DAY * 3);
    node.restart().await;
    node.wait_for_tries(2).await;
    node.clock.advance(Duration::from_secs(600));
    node.wait_for_arrival().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_outlasts_the_retention_of_its_topic() {
    let node = Node::start().await;
    node.send("defer-held@b.example").await;
    node.wait_for_tries(1).await;
    let first_position = node.queue().await.entries[0].position;
    let held: CommandOutcome =
        node.client().post("/v1/queue/hold", &QueueRequest::default()).await.expect("held");
    assert_eq!(held.affected, 1);
    for _ in 0..20 {
        node.clock.advance(DAY / 2);
        let now = node.clock.now();
        until("the message is never older than half the retention", || async {
            let stored_at = node.queue().await.entries[0].stored_at;
            (now.since(stored_at) <= DAY).then_some(())
        })
        .await;
    }
    // Ten days later the first copy is gone, and the message is not. Each of these days was a leap, after which retention
    // waits until whoever queued something could write it anew; now time passes in small steps.
    until("retention took the first copy", || async {
        node.clock.advance(Duration::from_secs(10));
        let log = node.running().log();
        log.read(first_position).await.expect("the log reads").is_none().then_some(())
    })
    .await;
    assert_ne!(node.queue().await.entries[0].position, first_position);
    assert_eq!(node.sink.count(), 0, "what is held is not tried");
    let resumed: CommandOutcome =
        node.client().post("/v1/queue/resume", &QueueRequest::default()).await.expect("resumed");
    assert_eq!(resumed.affected, 1);
    node.wait_for_tries(2).await;
    node.clock.advance(Duration::from_secs(600));
    node.wait_for_arrival().await;
}

/// The subjects of what the sender was told, in order.
fn told(node: &Node) -> Vec<String> {
    let subject = |message: &[u8]| {
        let text = String::from_utf8_lossy(message).into_owned();
        text.lines().find_map(|line| line.strip_prefix("Subject: ").map(str::to_owned))
    };
    let to_sender = |r: &mailweir_tests::sink::Received| r.recipients == ["x@a.example"];
    let received = node.sink.received().into_iter().filter(to_sender);
    received.filter_map(|r| subject(&r.message)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_is_told_once_after_four_hours_and_again_when_it_is_given_up() {
    let node = Node::start().await;
    node.send("never@b.example").await;
    node.wait_for_tries(1).await;
    // Within four hours nobody is told, however often it is tried.
    for tries in 2..=5 {
        node.clock.advance(Duration::from_secs(40 * 60));
        node.wait_for_tries(tries).await;
    }
    assert_eq!(told(&node), Vec::<String>::new());
    node.clock.advance(Duration::from_secs(90 * 60));
    node.wait_for_tries(6).await;
    let delayed = "Delayed: your message has not been delivered yet";
    until("the sender is told of the delay", || async { (told(&node) == [delayed]).then_some(()) }).await;
    // Never a second time.
    for tries in 7..=9 {
        node.clock.advance(Duration::from_secs(5 * 3600));
        node.wait_for_tries(tries).await;
    }
    assert_eq!(told(&node), [delayed]);
    // After four days it is over.
    node.clock.advance(DAY * 4);
    let failed = "Undelivered: your message could not be delivered";
    until("the sender is told of the end", || async { (told(&node) == [delayed, failed]).then_some(()) })
        .await;
    until("the queue is empty", || async { (node.queue().await.total == 0).then_some(()) }).await;
    let notice = String::from_utf8_lossy(&node.sink.received()[0].message).into_owned();
    assert!(notice.contains("Action: delayed") && notice.contains("Status: 4.7.1"), "{notice}");
    let last = String::from_utf8_lossy(&node.sink.received()[1].message).into_owned();
    assert!(last.contains("Action: failed") && last.contains("never@b.example"), "{last}");
}
