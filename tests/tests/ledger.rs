//! The ledger: what was answered 250 is delivered or bounced, whatever is killed meanwhile.
//!
//! Several clients send numbered messages and try again as mail servers do; the node is killed with `kill -9` and started
//! again at random; destinations refuse, defer, break off in the middle of DATA, and fall silent. In the end each accepted
//! recipient has exactly one terminal outcome and arrived at least once; duplicates are counted and explained.
//! LEDGER_MESSAGES and LEDGER_KILLS make it longer; LEDGER_MINUTES spreads them over a time (tests/long).

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mailweir_tests::ledger::{self, Entry};
use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::wait;

const CLIENTS: usize = 4;

#[test]
fn nothing_that_was_accepted_is_lost_however_often_it_is_killed() {
    let messages = ledger::number("LEDGER_MESSAGES", 1600);
    let kills = ledger::number("LEDGER_KILLS", 10);
    let (began, time) =
        (Instant::now(), Duration::from_secs(60 * ledger::number("LEDGER_MINUTES", 0) as u64));
    let due = |n: usize| began + time.mul_f64(n as f64 / messages as f64);
    let sink = Sink::start();
    let delivery =
        format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]\ndata_timeout = \"3s\"", sink.port);
    let mut node = Mailweir::start(&Setup { delivery, ..Setup::default() }, &ledger::settings());
    let port = node.port;
    let taken: Mutex<HashMap<usize, Entry>> = Mutex::default();
    let done = AtomicUsize::new(0);
    let mut killed = 0;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (taken, done) = (&taken, &done);
            scope.spawn(move || {
                for n in (client..messages).step_by(CLIENTS) {
                    std::thread::park_timeout(due(n).saturating_duration_since(Instant::now()));
                    let entry = ledger::send_until_answered(&[port], n);
                    taken.lock().expect("ledger").insert(n, entry);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Killed at random points of equal stretches of the run.
        let stretch = messages / (kills + 1);
        let mut next = rand::random_range(0..=stretch);
        while done.load(Ordering::Relaxed) < messages {
            if killed < kills && done.load(Ordering::Relaxed) >= next {
                std::thread::park_timeout(Duration::from_millis(rand::random_range(0..20)));
                node.kill();
                node.run();
                killed += 1;
                next = killed * stretch + rand::random_range(0..=stretch);
            }
            wait::pause();
        }
    });
    let taken = taken.into_inner().expect("ledger");
    assert_eq!(taken.len(), messages);
    assert!(killed + 2 >= kills, "killed {killed} times only");
    // What waits for a receiver that fell silent takes its time, the more of it the longer this went on.
    let lines = node.wait_for_outcomes(ledger::recipients(messages), Duration::from_secs(120) + time / 2);
    let again = ledger::check(&lines, &sink, &taken);
    // What was on its way when it was killed, over 20 connections, and what stood before its next commit.
    assert!(again.delivered <= killed * 60, "{} deliveries were made again", again.delivered);
    println!(
        "{} messages, {killed} kills: none lost; taken twice because our 250 was lost on its way: {}; delivered again because the \
         process died between the remote 250 and its next commit, or the receiver fell silent after it had the message: {}",
        taken.len(),
        again.taken,
        again.delivered
    );
    assert_eq!(node.terminate(), Some(0));
}
