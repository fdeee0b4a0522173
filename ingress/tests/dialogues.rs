//! SMTP dialogues as data: every file of `dialogues/` is played against the session, line by line.
//!
//! `C: ` a line from the client (`\0`, `\r`, `\x..` are escapes) · `S: ` the next line of the reply, which must begin so, or
//! be so where a `$` ends it · `R: ` the newest recipient of the transaction ·
//! `D: ` the session asks for the message, and takes one · `B: ` it asks for a chunk, and takes it · `A: good|bad|full|blocked` it asks for a password to be checked, and is told so · `T: ` it starts TLS ·
//! `X: ` it closes · `# ` a comment. Directives at the top: `client: IP`, `tls: none|offered|on`, `auth-without-tls`,
//! `not-accepting: REASON`, `max-errors: N`, `max-recipients: N`, `unreadable-user`: the record of some user does not parse.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;

use ingress::session::{Action, AuthResult, Options, Session, World};
use schemas::envelope::Tls;
use schemas::limits::{Asked, Counters, Hashes};
use schemas::senders::{Lock, RecipientsRow, SenderRow, SendersView};
use schemas::settings::{
    DomainSettings, HeldAction, Limits, OutgoingUser, Setting, SettingsView, UserAuth, UserSettings,
};
use schemas::{Domain, EnhancedCode, Mailbox, SmtpReply, Timestamp, UserId};

const NOW: Timestamp = Timestamp(1_795_512_600_000);

#[test]
fn every_dialogue_goes_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).expect("the dialogues").flatten().map(|e| e.path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the dialogues are there");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a dialogue");
        let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        Player::new(&text, &name).play(&text);
    }
}

struct Player {
    name: String,
    session: Session,
    not_accepting: Option<String>,
    settings: SettingsView,
    senders: SendersView,
    /// Reply lines not looked at yet.
    said: VecDeque<String>,
    /// What the session wants besides replies, not looked at yet.
    wanted: VecDeque<Action>,
}

impl Player {
    fn new(text: &str, name: &str) -> Self {
        let directive = |key: &str| {
            text.lines().find_map(|line| {
                line.strip_prefix(key)?.strip_prefix(':').map(|value| value.trim().to_owned())
            })
        };
        let tls = directive("tls").unwrap_or_else(|| "none".into());
        let client: IpAddr =
            directive("client").map_or(IpAddr::from([192, 0, 2, 1]), |ip| ip.parse().expect("client"));
        let number =
            |key: &str, default: usize| directive(key).map_or(default, |n| n.parse().expect("a number"));
        let options = Options {
            hostname: "smtp.hoster.example".into(),
            can_start_tls: tls == "offered",
            auth_without_tls: text.lines().any(|line| line == "auth-without-tls"),
            max_errors: number("max-errors", 20) as u32,
            max_recipients: number("max-recipients", 1000),
        };
        let session = Session::new(options, client, (tls == "on").then(some_tls));
        let mut player = Player {
            name: name.to_owned(),
            said: VecDeque::new(),
            wanted: VecDeque::new(),
            not_accepting: directive("not-accepting"),
            settings: settings(),
            senders: senders(),
            session,
        };
        if text.lines().any(|line| line == "unreadable-user") {
            let later = player.settings.apply(b"outgoing_user/203.0.113.0/24", Some(b"?"), 100);
            later.expect_err("no setting");
        }
        player.hear(vec![Action::Reply(player.session.greeting())]);
        player
    }

    fn play(mut self, text: &str) {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{}:{}", self.name, number + 1);
            let (kind, rest) = line.split_at(line.len().min(2));
            let rest = rest.strip_prefix(' ').unwrap_or(rest);
            match kind {
                "S:" => self.expect_reply(rest, &place),
                "C:" => self.client_says(&unescaped(rest), &place),
                "D:" => {
                    let wanted = self.take_wanted(&place);
                    assert_eq!(wanted, Action::ReceiveMessage, "{place}");
                    let done =
                        self.session.message_done(SmtpReply::new(250, EnhancedCode(2, 0, 0), "queued"));
                    self.hear(done);
                }
                "B:" => match self.take_wanted(&place) {
                    Action::ReceiveChunk { size, last: false } => {
                        let done = self.session.chunk_done(size);
                        self.hear(done);
                    }
                    Action::ReceiveChunk { last: true, .. } => {
                        let done =
                            self.session.message_done(SmtpReply::new(250, EnhancedCode(2, 0, 0), "queued"));
                        self.hear(done);
                    }
                    Action::DiscardChunk { .. } => {}
                    other => panic!("{place}: it wants {other:?}"),
                },
                "A:" => {
                    let Action::CheckPassword { login, .. } = self.take_wanted(&place) else {
                        panic!("{place}: no password is to be checked")
                    };
                    let result = match rest {
                        "good" => AuthResult::Good(login.to_lowercase()),
                        "bad" => AuthResult::Bad,
                        "full" => AuthResult::TooManyConnections,
                        _ => AuthResult::Blocked("Too many failed logins".into()),
                    };
                    let actions = self.session.authenticated(result);
                    self.hear(actions);
                }
                "T:" => {
                    assert_eq!(self.take_wanted(&place), Action::StartTls, "{place}");
                    self.session.tls_started(some_tls());
                }
                "R:" => {
                    let newest = self.session.transaction().and_then(|t| t.recipients.last());
                    let newest = newest.map(|recipient| recipient.forward_path.to_string());
                    assert_eq!(newest.as_deref(), Some(rest), "{place}");
                }
                "X:" => assert_eq!(self.take_wanted(&place), Action::Close, "{place}"),
                _ => {}
            }
        }
        assert!(
            self.said.is_empty() && self.wanted.is_empty(),
            "{}: left over: {:?} {:?}",
            self.name,
            self.said,
            self.wanted
        );
    }

    fn client_says(&mut self, line: &[u8], place: &str) {
        assert!(self.said.is_empty(), "{place}: replies that the dialogue does not name: {:?}", self.said);
        let world = World {
            settings: &self.settings,
            senders: &self.senders,
            now: NOW,
            not_accepting: self.not_accepting.as_deref(),
        };
        let actions = self.session.line(line, &world);
        self.hear(actions);
    }

    fn hear(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reply(reply) => {
                    let lines: Vec<&str> = reply.text.split('\n').collect();
                    for (index, text) in lines.iter().enumerate() {
                        let separator = if index + 1 == lines.len() { ' ' } else { '-' };
                        let enhanced = reply.enhanced.map_or_else(String::new, |e| format!("{e} "));
                        self.said.push_back(format!("{}{separator}{enhanced}{text}", reply.code));
                    }
                }
                other => self.wanted.push_back(other),
            }
        }
    }

    fn expect_reply(&mut self, expected: &str, place: &str) {
        let said =
            self.said.pop_front().unwrap_or_else(|| panic!("{place}: no reply, expected `{expected}`"));
        let good = match expected.strip_suffix('$') {
            Some(whole) => said == whole,
            None => said.starts_with(expected),
        };
        assert!(good, "{place}: said `{said}`, expected `{expected}`");
    }

    fn take_wanted(&mut self, place: &str) -> Action {
        self.wanted.pop_front().unwrap_or_else(|| panic!("{place}: the session wants nothing"))
    }
}

fn some_tls() -> Tls {
    Tls { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into(), verified: false }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        match (*byte, after.first()) {
            (b'\\', Some(b'0')) => (out.push(0), rest = &after[1..]).1,
            (b'\\', Some(b'r')) => (out.push(b'\r'), rest = &after[1..]).1,
            (b'\\', Some(b'x')) => {
                let hex = std::str::from_utf8(&after[1..3]).expect("hex");
                out.push(u8::from_str_radix(hex, 16).expect("hex"));
                rest = &after[3..];
            }
            _ => (out.push(*byte), rest = after).1,
        }
    }
    out
}

/// 192.0.2.0/24 is an IP user, 192.0.2.9 a narrower one with its own limits; shop@customer.example and customer.example log in.
fn settings() -> SettingsView {
    let domain = Domain::parse("customer.example").expect("a domain");
    let user =
        |auth, settings| Setting::OutgoingUser(OutgoingUser { domain: domain.clone(), auth, settings });
    let ip = |range: &str| UserAuth::Ip { range: range.parse().expect("a range") };
    let password =
        |login: &str| UserAuth::Password { login: login.into(), password_hash: "$argon2id$".into() };
    let small = UserSettings { max_message_bytes: Some(1000), ..UserSettings::default() };
    let limited = |over_limit| UserSettings {
        limits: Some(limits()),
        over_limit: Some(over_limit),
        ..UserSettings::default()
    };
    let of_recipients = |over_limit| UserSettings {
        limits: Some(limits_of_recipients()),
        over_limit: Some(over_limit),
        ..UserSettings::default()
    };
    let records = [
        Setting::Domain(DomainSettings {
            name: domain.clone(),
            abuse_address: None,
            settings: UserSettings::default(),
        }),
        user(ip("192.0.2.0/24"), UserSettings::default()),
        user(ip("192.0.2.9/32"), small),
        user(ip("198.51.100.66/32"), UserSettings::default()),
        user(ip("198.51.100.71/32"), limited(HeldAction::Defer)),
        user(ip("198.51.100.72/32"), limited(HeldAction::Reject)),
        user(ip("198.51.100.73/32"), limited(HeldAction::Hold)),
        user(ip("198.51.100.74/32"), limited(HeldAction::Defer)),
        user(ip("198.51.100.75/32"), of_recipients(HeldAction::Defer)),
        user(ip("198.51.100.76/32"), of_recipients(HeldAction::Reject)),
        user(ip("198.51.100.77/32"), of_recipients(HeldAction::Defer)),
        user(password("shop@customer.example"), UserSettings::default()),
        user(
            password("large@customer.example"),
            UserSettings { max_message_bytes: Some(200 << 20), ..UserSettings::default() },
        ),
        user(password("customer.example"), UserSettings::default()),
    ];
    let mut view = SettingsView::default();
    for (offset, record) in records.iter().enumerate() {
        let value = serde_json::to_vec(record).expect("JSON");
        view.apply(record.key().as_bytes(), Some(&value), offset as u64).expect("a setting");
    }
    view
}

/// Five messages an hour, eight recipients a day.
fn limits() -> Limits {
    Limits { messages_per_hour: Some(5), recipients_per_day: Some(8), ..Limits::default() }
}

/// Four different recipients a day, five who do not exist, ten percent of at least 20.
fn limits_of_recipients() -> Limits {
    Limits {
        distinct_recipients_per_day: Some(4),
        invalid_recipients_per_day: Some(5),
        invalid_recipients_percent: Some(10),
        invalid_recipients_min_sample: Some(20),
        ..Limits::default()
    }
}

fn to(recipients: u64) -> Asked {
    Asked { recipients, ..Asked::default() }
}

/// 198.51.100.66/32 is locked, 198.51.100.71 to 73 have sent five messages just now, 74 has sent one to six recipients, 75
/// wrote to three different ones, 76 to five who do not exist and 77 to three of 25.
fn senders() -> SendersView {
    let lock = Lock { since: NOW, until: None, by: "abuse desk".into(), reason: "sends spam".into() };
    let row = |user: &str| SenderRow {
        user: UserId(user.into()),
        domain: Domain::parse("customer.example").expect("a domain"),
        identity: None,
        identity_source: String::new(),
        first_seen: NOW,
        last_seen: NOW,
        released: 0,
        quarantined: 0,
        lock: None,
        counters: Counters::default(),
        outcomes: schemas::outcomes::Outcomes::default(),
        held: 0,
        blocked_at: Vec::new(),
        blocked: Vec::new(),
        automatic_unlocks: 0,
        lock_history: Vec::new(),
    };
    let mut rows = vec![SenderRow { lock: Some(lock), ..row("198.51.100.66/32") }];
    for user in ["198.51.100.71/32", "198.51.100.72/32", "198.51.100.73/32"] {
        let mut row = row(user);
        (0..5).for_each(|_| row.counters.count(NOW, &to(1), &limits()));
        rows.push(row);
    }
    let mut many = row("198.51.100.74/32");
    many.counters.count(NOW, &to(6), &limits());
    rows.push(many);
    for (user, sent, invalid) in [("198.51.100.76/32", 200, 5), ("198.51.100.77/32", 25, 3)] {
        let mut row = row(user);
        row.counters.count(NOW, &to(sent), &limits_of_recipients());
        row.counters.count_invalid(NOW, invalid, &limits_of_recipients());
        rows.push(row);
    }
    let mut view = SendersView::default();
    let mut written_to = RecipientsRow::default();
    let three = ["a@x.example", "b@x.example", "c@x.example"];
    let three = three.map(|recipient| Mailbox::parse(recipient).expect("a mailbox"));
    written_to.distinct.add(NOW, &Hashes::of(three.iter()));
    let key = schemas::senders::recipients_key(&UserId("198.51.100.75/32".into()));
    view.apply(&key, Some(&serde_json::to_vec(&written_to).expect("JSON"))).expect("a row");
    for row in rows {
        let key = schemas::senders::key(&row.user, None);
        view.apply(&key, Some(&serde_json::to_vec(&row).expect("JSON"))).expect("a row");
    }
    view
}
