//! What an operator relies on: health and metrics, a graceful stop, a full disk, a new certificate, backup and restore.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mailweir_tests::mailweir::{Mailweir, Setup};
use mailweir_tests::sink::Sink;
use mailweir_tests::{certificate, smtp, wait};

const SETTINGS: &str =
    "[[domain]]\nname = \"a.example\"\n[[outgoing_user]]\ndomain = \"a.example\"\nip = \"127.0.0.1/32\"\n";

fn relay_to(sink: &Sink) -> String {
    format!("relay_host = \"127.0.0.1:{}\"\nretry = [\"1s\"]", sink.port)
}

fn send(node: &Mailweir, to: &str) -> String {
    smtp::send(node.port, "x@a.example", &[to], &smtp::message("x@a.example", to, "Hi", "Text"))
        .unwrap_or_else(|error| format!("(connection: {error})"))
}

#[test]
fn health_metrics_and_a_graceful_stop() {
    let sink = Sink::start();
    let mut node = Mailweir::start(&Setup { delivery: relay_to(&sink), ..Setup::default() }, SETTINGS);
    assert!(send(&node, "ok@b.example").starts_with("250"));
    node.wait_for_outcomes(1, Duration::from_secs(20));
    let (status, metrics) = node.get("/metrics").expect("metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("mailweir_ingress_accepted_total 1") && metrics.ends_with("# EOF\n"),
        "{metrics}"
    );
    assert_eq!(
        node.get("/health").map(|(status, body)| (status, body.contains("\"accepting\":true"))),
        Some((200, true))
    );
    // An idle client is told, and the process ends in order.
    let (mut idle, _) = smtp::Client::connect(node.port).expect("a connection");
    assert_eq!(node.terminate(), Some(0));
    assert!(idle.reply().expect("a goodbye").starts_with("421 4.3.2"));
    node.run();
    assert_eq!(node.log_lines(&[]).len(), 1, "what was known is known");
}

#[test]
fn a_log_in_json_is_json_line_by_line_and_warns_of_a_certificate_that_ends_soon() {
    let sink = Sink::start();
    let setup = Setup { delivery: relay_to(&sink), logging: "format = \"json\"".into(), ..Setup::default() };
    let mut node = Mailweir::start(&setup, SETTINGS);
    assert!(send(&node, "ok@b.example").starts_with("250"));
    let thirteen_days = Duration::from_secs(13 * 86_400 + 3600);
    certificate::make_for(node.directory.path(), "smtp.hoster.example", thirteen_days);
    let is_warning = |line: &serde_json::Value| {
        line["level"] == "WARN" && line["fields"]["message"] == "the certificate expires in 13 days"
    };
    let lines = || -> Vec<serde_json::Value> {
        let text = node.log_text();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    };
    wait::until("the end is warned of", Duration::from_secs(20), || {
        lines().iter().any(is_warning).then_some(())
    });
    assert_eq!(node.terminate(), Some(0));
    let lines: Vec<serde_json::Value> =
        node.log_text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &lines {
        let has = |key: &str| line[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(has("timestamp") && has("level") && has("target"), "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    assert!(lines.iter().any(|line| line["fields"]["message"] == "stopped"), "{lines:?}");
}

#[test]
fn a_second_process_on_the_same_directory_is_told_who_has_it() {
    let sink = Sink::start();
    let node = Mailweir::start(&Setup { delivery: relay_to(&sink), ..Setup::default() }, SETTINGS);
    let output = Command::new(Mailweir::binary())
        .args(["run", "--config"])
        .arg(node.config())
        .output()
        .expect("mailweir");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&node.pid().to_string()), "{said}");
    assert!(send(&node, "ok@b.example").starts_with("250"), "the first one goes on");
}

/// A small file system of its own, taken away at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(directory.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a tmpfs can be mounted: the tests run as root"
        );
        SmallDisk(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the process under test may not have ended yet.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_defers_mail_and_loses_none() {
    let disk = SmallDisk::mount("600m");
    let data = disk.path().join("data");
    let sink = Sink::start();
    let node = Mailweir::start(
        &Setup { delivery: relay_to(&sink), data_dir: Some(&data), ..Setup::default() },
        SETTINGS,
    );
    assert!(send(&node, "ok-before@b.example").starts_with("250"));
    // Filled to the last byte: below min_free, and then without room for a single write.
    let ballast = disk.path().join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=1M", "status=none"])
        .arg(format!("of={}", ballast.display()))
        .output()
        .expect("dd");
    assert!(!filled.status.success(), "dd goes on until the disk is full");
    let refused = wait::until("mail is deferred", Duration::from_secs(20), || {
        Some(send(&node, "ok-full@b.example")).filter(|reply| !reply.starts_with("250"))
    });
    assert!(refused.starts_with("451"), "a transient reply, not {refused}");
    assert_eq!(node.get("/health").map(|(status, _)| status), Some(503));
    std::fs::remove_file(&ballast).expect("room again");
    wait::until("mail is taken again", Duration::from_secs(60), || {
        Some(send(&node, "ok-after@b.example")).filter(|reply| reply.starts_with("250"))
    });
    wait::until("everything accepted arrives", Duration::from_secs(60), || {
        let received = sink.received();
        let has = |name: &str| received.iter().any(|r| r.recipients.iter().any(|to| to.starts_with(name)));
        (has("ok-before") && has("ok-after")).then_some(())
    });
}

/// One message holds the only place in delivery, so the others wait in the log.
#[test]
fn a_delivery_that_is_behind_is_told_by_health_and_status_as_by_the_451() {
    let sink = Sink::start();
    let setup = Setup {
        delivery: format!("{}\nmax_in_flight = 1", relay_to(&sink)),
        ingress: "max_lag = 3".into(),
        ..Setup::default()
    };
    let node = Mailweir::start(&setup, SETTINGS);
    assert!(send(&node, "stall@b.example").starts_with("250"));
    let refused = wait::until("no more mail is taken", Duration::from_secs(20), || {
        Some(send(&node, "ok@b.example")).filter(|reply| !reply.starts_with("250"))
    });
    assert!(refused.starts_with("451 4.3.0 Too much mail waits"), "{refused}");
    let (status, body) = node.get("/health").expect("health");
    assert_eq!((status, body.contains("delivery is ")), (503, true), "{body}");
    let status = Command::new(Mailweir::binary())
        .args(["status", "--config"])
        .arg(node.config())
        .output()
        .expect("mailweir");
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(!status.status.success() && said.contains("takes mail: no, delivery is "), "{said}");
}

#[test]
fn a_new_certificate_is_taken_without_a_restart() {
    let sink = Sink::start();
    let node = Mailweir::start(&Setup { delivery: relay_to(&sink), ..Setup::default() }, SETTINGS);
    let fingerprint = || {
        let connect = format!("127.0.0.1:{}", node.port);
        let shown = Command::new("openssl")
            .args(["s_client", "-starttls", "smtp", "-connect", &connect])
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        text.split("-----BEGIN CERTIFICATE-----")
            .nth(1)
            .map(|rest| rest.split("-----END").next().unwrap_or_default().to_owned())
            .expect("a certificate")
    };
    let before = fingerprint();
    let pid = node.pid();
    // A broken file changes nothing; a good pair is taken.
    std::fs::write(node.directory.path().join("smtp.hoster.example.pem"), "-----BEGIN nothing")
        .expect("written");
    assert_eq!(fingerprint(), before);
    let _ = certificate::make(node.directory.path(), "smtp.hoster.example");
    wait::until("the new certificate is shown", Duration::from_secs(20), || {
        (fingerprint() != before).then_some(())
    });
    assert_eq!(node.pid(), pid);
}

#[test]
fn a_backup_taken_while_running_brings_the_queue_back() {
    let sink = Sink::start();
    let mut node = Mailweir::start(
        &Setup {
            delivery: format!("{}\nmax_in_flight = 100", relay_to(&sink).replace("1s", "30m")),
            ..Setup::default()
        },
        SETTINGS,
    );
    for n in 0..5 {
        assert!(send(&node, &format!("defer-{n}@b.example")).starts_with("250"));
    }
    let queued = || node.json(&["queue"])["total"].as_u64();
    wait::until("five are queued after their first try", Duration::from_secs(20), || {
        (queued() == Some(5) && node.log_lines(&[]).iter().all(|line| line["tries"] == 1)).then_some(())
    });
    let backup = node.directory.path().join("backup");
    node.verb(&["backup", &backup.display().to_string()]);
    node.kill();
    for lost in ["log", "statistics.sqlite", "statistics.sqlite-wal", "statistics.sqlite-shm"] {
        let path = node.directory.path().join("data").join(lost);
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("gone");
        } else {
            drop(std::fs::remove_file(path));
        }
    }
    node.verb(&["restore", &backup.display().to_string()]);
    node.run();
    assert_eq!(node.json(&["queue"])["total"], 5);
    assert_eq!(
        wait::until("statistics are folded again", Duration::from_secs(20), || Some(
            node.log_lines(&[]).len()
        )
        .filter(|n| *n == 5)),
        5
    );
    node.verb(&["queue", "retry"]);
    node.verb(&["queue", "retry"]);
    wait::until("the queue is delivered", Duration::from_secs(30), || {
        node.verb(&["queue", "retry"]);
        (sink.count() == 5).then_some(())
    });
}

#[test]
fn queue_commands_hold_resume_and_remove() {
    let sink = Sink::start();
    let node = Mailweir::start(
        &Setup { delivery: relay_to(&sink).replace("1s", "30m"), ..Setup::default() },
        SETTINGS,
    );
    for name in ["defer-keep@b.example", "defer-drop@b.example"] {
        assert!(send(&node, name).starts_with("250"));
    }
    wait::until("both are queued", Duration::from_secs(20), || {
        (node.json(&["queue"])["total"] == 2).then_some(())
    });
    node.verb(&["queue", "hold", "--recipient", "defer-keep@b.example"]);
    node.verb(&["queue", "remove", "--yes", "--recipient", "defer-drop@b.example"]);
    let left = node.json(&["queue"]);
    assert_eq!((&left["total"], &left["entries"][0]["held"]), (&1.into(), &true.into()));
    node.verb(&["queue", "resume", "--recipient", "defer-keep@b.example"]);
    wait::until("what was held is delivered", Duration::from_secs(30), || {
        node.verb(&["queue", "retry"]);
        (sink.count() == 1).then_some(())
    });
    let lines = node.wait_for_outcomes(2, Duration::from_secs(20));
    assert!(
        lines.iter().any(|line| line["outcome"] == "removed")
            && lines.iter().any(|line| line["outcome"] == "delivered"),
        "{lines:?}"
    );
    let changes = node.ask(&["settings", "--changes"]);
    assert!(changes.contains("outgoing_user/127.0.0.1/32"), "{changes}");
}

#[test]
fn a_locked_user_is_deferred_and_an_unlocked_one_is_not() {
    let sink = Sink::start();
    let node = Mailweir::start(&Setup { delivery: relay_to(&sink), ..Setup::default() }, SETTINGS);
    node.verb(&["lock", "127.0.0.1/32", "--reason", "under investigation"]);
    let reply = wait::until("the lock is seen by ingress", Duration::from_secs(10), || {
        Some(send(&node, "ok@b.example")).filter(|r| !r.starts_with("250"))
    });
    assert!(reply.starts_with("450 4.7.1") && reply.contains("under investigation"), "{reply}");
    node.verb(&["unlock", "127.0.0.1/32"]);
    wait::until("mail is taken again", Duration::from_secs(10), || {
        Some(send(&node, "ok@b.example")).filter(|r| r.starts_with("250"))
    });
}
