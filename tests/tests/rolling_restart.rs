//! A rolling restart of a cluster under mail: every process is stopped as its supervisor stops it and started again, one
//! after the other, and no client waits long for its verdict.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mailweir_tests::cluster::Cluster;
use mailweir_tests::{smtp, wait};

/// No verdict comes later than this, from the end of the message to its answer.
const LATEST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(120);
/// Outgoing users, enough for every partition to have some; each sends at this pace.
const USERS: u8 = 8;
const PACE: Duration = Duration::from_millis(400);
/// Between two restarts.
const REST: Duration = Duration::from_secs(6);
const ORDER: [(&str, &str); 8] = [
    ("node1", "reporter,control"),
    ("node2", "reporter"),
    ("node1", "delivery"),
    ("node2", "delivery"),
    ("node1", "scorer"),
    ("node2", "scorer"),
    ("node1", "ingress"),
    ("node2", "ingress"),
];

fn address(user: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, user)
}

fn settings() -> String {
    let user = |n| {
        format!(
            "[[domain]]\nname = \"user{n}.example\"\n[[outgoing_user]]\ndomain = \"user{n}.example\"\nip = \"{}/32\"\n",
            address(n)
        )
    };
    (1..=USERS).map(user).collect()
}

/// How long the answer to a message took.
struct Answer {
    at: Instant,
    took: Duration,
    reply: String,
}

/// Sends one message through the first door that takes connections.
fn send(doors: [u16; 2], user: u8, number: usize) -> Answer {
    let from = format!("app@user{user}.example");
    let message = smtp::message(&from, "somebody@dest.example", &format!("number {number}"), "Hello");
    wait::until("a door is open", PATIENCE, || {
        doors.into_iter().cycle().skip(number % 2).take(2).find_map(|door| {
            let (mut client, greeting) = smtp::Client::connect_from(address(user), door).ok()?;
            let is_open = greeting.starts_with("220") && client.command("EHLO client.example").is_ok();
            if !is_open {
                return None;
            }
            for line in [&format!("MAIL FROM:<{from}>"), "RCPT TO:<somebody@dest.example>", "DATA"] {
                if !client.command(line).ok()?.starts_with(['2', '3']) {
                    return None;
                }
            }
            client.send(&smtp::stuffed(&message)).ok()?;
            let sent = Instant::now();
            let reply = client.reply().unwrap_or_else(|error| error.to_string());
            Some(Answer { at: sent, took: sent.elapsed(), reply })
        })
    })
}

#[test]
fn no_verdict_is_late_while_every_process_is_restarted() {
    let mut cluster = Cluster::start(1, &settings());
    let doors = cluster.doors;
    let answers: Mutex<Vec<Answer>> = Mutex::default();
    let over = AtomicBool::new(false);
    let mut restarts = Vec::new();
    std::thread::scope(|scope| {
        for user in 1..=USERS {
            let (answers, over) = (&answers, &over);
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let began = Instant::now();
                    let answer = send(doors, user, number);
                    answers.lock().expect("answers").push(answer);
                    std::thread::park_timeout(PACE.saturating_sub(began.elapsed()));
                }
            });
        }
        std::thread::park_timeout(2 * REST);
        for (node, roles) in ORDER {
            let process = cluster.process(node, roles);
            let began = Instant::now();
            assert_eq!(process.terminate(), Some(0), "{roles} of {node}");
            let stopped = Instant::now();
            process.start_again();
            restarts.push((node, roles, began, stopped));
            std::thread::park_timeout(REST);
        }
        over.store(true, Ordering::Relaxed);
    });
    let answers = answers.into_inner().expect("answers");
    for (node, roles, began, stopped) in &restarts {
        let slowest = answers
            .iter()
            .filter(|answer| answer.at + answer.took > *began && answer.at < *began + REST)
            .map(|answer| answer.took)
            .max();
        println!("{roles} of {node}: stopped in {:?}, slowest answer {slowest:?}", *stopped - *began);
    }
    println!("{} messages", answers.len());
    let refused: Vec<&str> =
        answers.iter().filter(|a| !a.reply.starts_with("250")).map(|a| a.reply.as_str()).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let late: Vec<Duration> =
        answers.iter().map(|answer| answer.took).filter(|took| *took > LATEST).collect();
    assert!(late.is_empty(), "{late:?}");
    let rows = cluster.outcomes(answers.len(), PATIENCE);
    assert!(
        rows.len() == answers.len() && rows.iter().all(|row| row["outcome"] == "delivered"),
        "{}",
        rows.len()
    );
}
