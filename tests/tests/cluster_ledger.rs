//! The ledger over a cluster: two nodes of separate processes on three brokers, statistics in ClickHouse.
//!
//! Each kind of worker is killed with `kill -9`, a broker is lost and comes back, a scorer is stopped until its place is
//! taken and then woken, ClickHouse does not answer for a while; meanwhile clients send numbered messages to destinations
//! that refuse, defer, break off and fall silent. In the end every message that was taken has one outcome, arrived, and is
//! counted once. LEDGER_MESSAGES, LEDGER_MINUTES and LEDGER_ROUNDS make it longer (tests/long).

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mailweir_tests::cluster::Cluster;
use mailweir_tests::ledger::{self, Entry};

const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(180);
/// What is done to the cluster, one after the other, spread over the time in which mail is sent.
const BLOWS: [Blow; 14] = [
    Blow::Kill("node1", "scorer"),
    Blow::Kill("node2", "delivery"),
    Blow::Stop("node2", "scorer"),
    Blow::Kill("node1", "ingress"),
    Blow::Broker("kill 2"),
    Blow::Kill("node1", "delivery"),
    Blow::Continue("node2", "scorer"),
    Blow::Broker("start 2"),
    Blow::ClickHouse("STOP"),
    Blow::Kill("node2", "ingress"),
    Blow::ClickHouse("CONT"),
    Blow::Kill("node1", "reporter,control"),
    Blow::Kill("node2", "reporter"),
    Blow::Kill("node2", "scorer"),
];

#[derive(Clone, Copy, Debug)]
enum Blow {
    /// `kill -9`, and up again at once.
    Kill(&'static str, &'static str),
    /// Stopped as a hung machine is, so that another takes its place; and awake again as a zombie.
    Stop(&'static str, &'static str),
    Continue(&'static str, &'static str),
    Broker(&'static str),
    ClickHouse(&'static str),
}

fn strike(cluster: &mut Cluster, blow: Blow) {
    match blow {
        Blow::Kill(node, roles) => cluster.process(node, roles).kill_and_start_again(),
        Blow::Stop(node, roles) => cluster.process(node, roles).signal("STOP"),
        Blow::Continue(node, roles) => cluster.process(node, roles).signal("CONT"),
        Blow::Broker(order) => cluster.kafka.order(order),
        Blow::ClickHouse(signal) => cluster.clickhouse.signal(signal),
    }
}

#[test]
fn nothing_is_lost_whatever_of_the_cluster_is_struck() {
    let messages = ledger::number("LEDGER_MESSAGES", 800);
    let blows = BLOWS.repeat(ledger::number("LEDGER_ROUNDS", 1));
    let time =
        Duration::from_secs(60 * ledger::number("LEDGER_MINUTES", 0) as u64).max(Duration::from_secs(80));
    let mut cluster = Cluster::start(3, &ledger::settings());
    let doors = cluster.doors;
    let began = Instant::now();
    let due = |n: usize, of: usize| began + time.mul_f64(n as f64 / of as f64);
    let taken: Mutex<HashMap<usize, Entry>> = Mutex::default();
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (taken, done) = (&taken, &done);
            scope.spawn(move || {
                for n in (client..messages).step_by(CLIENTS) {
                    std::thread::park_timeout(due(n, messages).saturating_duration_since(Instant::now()));
                    let entry = ledger::send_until_answered(&doors, n);
                    taken.lock().expect("ledger").insert(n, entry);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for (number, blow) in blows.iter().enumerate() {
            let jitter = Duration::from_millis(rand::random_range(0..1000));
            std::thread::park_timeout(
                due(number + 1, blows.len() + 1).saturating_duration_since(Instant::now()) + jitter,
            );
            eprintln!(
                "{:>4} s, {} messages taken: {blow:?}",
                began.elapsed().as_secs(),
                done.load(Ordering::Relaxed)
            );
            strike(&mut cluster, *blow);
        }
    });
    let taken = taken.into_inner().expect("ledger");
    assert_eq!(taken.len(), messages);
    let rows = cluster.outcomes(ledger::recipients(messages), PATIENCE + time / 2);
    let again = ledger::check(&rows, &cluster.sink, &taken);
    // Each blow: what was on its way over 20 connections of each node, and what stood before its next commit.
    assert!(again.delivered <= blows.len() * 20, "{} deliveries were made again", again.delivered);
    println!(
        "{messages} messages, {} blows: none lost; taken twice because our answer was lost: {}; delivered again because a process died \
         between the remote 250 and its next commit, its partition moved meanwhile, or the receiver fell silent after it had the \
         message: {}",
        blows.len(),
        again.taken,
        again.delivered
    );
    let totals = cluster.rows(&["stats", "--group-by", "domain"]).expect("statistics");
    let sum = |key: &str| totals.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
    let count = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count() as u64;
    assert_eq!((sum("delivered"), sum("failed")), (count("delivered"), count("failed")), "{totals:?}");
    let ids: HashSet<&str> = rows.iter().filter_map(|row| row["message_id"].as_str()).collect();
    assert_eq!((sum("messages"), sum("recipients")), (ids.len() as u64, rows.len() as u64), "{totals:?}");
    for ((node, roles), mut process) in std::mem::take(&mut cluster.processes) {
        assert_eq!(process.terminate(), Some(0), "{roles} of {node}");
    }
}
