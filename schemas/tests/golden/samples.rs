//! One record of every shape that this version writes.

use std::collections::BTreeMap;

use schemas::attempt::{Attempt, AttemptCause, AttemptEvent, Egress, Outcome, RecipientResult};
use schemas::commands::{Action, Command, QueueSelect};
use schemas::envelope::{BodyType, Client, Envelope, Notify, Origin, Recipient, Ret, Tls};
use schemas::history::{
    Arrivals, Bulk, Contacts, Counted, Fingerprint, Rates, Text, day_of, five_minutes_of,
};
use schemas::limits::{Asked, Hashes};
use schemas::migration::{Migration, MigrationState};
use schemas::models::{Delta, Feedback, ModelRecord};
use schemas::outcomes::{Numbers, Outcomes};
use schemas::plan::Plan;
use schemas::quarantine::{QuarantineRow, QuarantineState};
use schemas::queue::{QueueEntry, QueuedRecipient};
use schemas::reply::Reply;
use schemas::senders::{BlockedMessage, HoldRow, Lock, LockChange, RecipientsRow, SenderRow};
use schemas::session::SessionRefusals;
use schemas::settings::{
    AutomaticLock, Change, CheckMode, DkimAlgorithm, DkimKey, DomainSettings, EgressPool, EgressSource,
    HeldAction, IdentityRule, Limits, Occurrence, OutgoingUser, QuarantineResponse, Setting, SpamAction,
    StaticRoute, UserAuth, UserSettings, WeightedSource,
};
use schemas::verdict::{
    AskedCheck, Basis, Classification, Disposition, Identity, Judged, MessageSummary, RemoveField, Symbol,
    Verdict, VerdictEvent,
};
use schemas::{
    Domain, EnhancedCode, Mailbox, MessageId, Position, ReversePath, SmtpReply, Timestamp, Topic, UserId,
};
use serde::Serialize;
use serde_json::Value;

const AT: Timestamp = Timestamp(1_795_512_600_123);

/// Name of the file, without its ending, and what stands in it.
pub fn all() -> Vec<(String, Value)> {
    let mut out = Vec::new();
    accepted(&mut out);
    verdicts(&mut out);
    delivery(&mut out);
    state(&mut out);
    settings(&mut out);
    commands(&mut out);
    replies(&mut out);
    models(&mut out);
    out
}

fn models(out: &mut Vec<(String, Value)>) {
    let feedback = Feedback {
        message_id: id("feedback"),
        domain: domain("customer.example"),
        is_spam: true,
        by: "root (cli)".into(),
        at: AT,
        format: 1,
        features: vec![vec![3, 4711], vec![], vec![524_287]],
    };
    put(out, "models/feedback", &ModelRecord::Feedback(feedback));
    let delta = Delta {
        number: 3,
        base: "default-582a1743".into(),
        at: AT,
        why: "2 corrections".into(),
        learnt: 12,
        agreed: 30,
        capped: 1,
        influence: [("customer.example".to_owned(), 1.5)].into(),
        influence_at: None,
        weights: vec![(3, -120), (4711, 64)],
    };
    put(out, "models/delta", &ModelRecord::Delta(delta.clone()));
    let fading = Delta { influence_at: Some(AT), ..delta };
    put(out, "models/delta_fading", &ModelRecord::Delta(fading));
    put(out, "models/rollback", &ModelRecord::Rollback { to: 2, by: "root (cli)".into(), at: AT });
}

fn put<T: Serialize>(out: &mut Vec<(String, Value)>, name: &str, record: &T) {
    out.push((name.to_owned(), serde_json::to_value(record).unwrap()));
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn id(of: &str) -> MessageId {
    MessageId::derived(of, AT)
}

fn user() -> UserId {
    UserId("192.0.2.0/28".into())
}

fn tls() -> Tls {
    Tls { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into(), verified: true }
}

fn position(topic: Topic) -> Position {
    Position { topic, partition: 3, offset: 4711 }
}

fn reply(code: u16, text: &str) -> SmtpReply {
    SmtpReply { code, enhanced: Some(EnhancedCode((code / 100) as u8, 7, 1)), text: text.into() }
}

fn client(full: bool) -> Client {
    Client {
        address: if full { "[2001:db8::1]:40000" } else { "192.0.2.1:40000" }.parse().unwrap(),
        helo: "mail.customer.example".into(),
        protocol: if full { "UTF8SMTPSA" } else { "ESMTP" }.into(),
        login: full.then(|| "shop@customer.example".into()),
        tls: full.then(tls),
    }
}

fn envelope(origin: Option<Origin>) -> Envelope {
    Envelope {
        id: id("one"),
        accepted_at: AT,
        node: "node1".into(),
        reply_partition: None,
        user: user(),
        domain: domain("customer.example"),
        client: client(false),
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient { forward_path: mailbox("a@one.example"), notify: None, orcpt: None }],
        ret: None,
        envid: None,
        body_type: BodyType::SevenBit,
        smtputf8: false,
        size_bytes: 1234,
        chunks: Vec::new(),
        origin,
    }
}

fn full_envelope() -> Envelope {
    Envelope {
        reply_partition: Some(2),
        client: client(true),
        reverse_path: ReversePath::Mailbox(mailbox("ü@customer.example")),
        recipients: vec![Recipient {
            forward_path: mailbox("\"a b\"@[192.0.2.9]"),
            notify: Some(Notify { success: true, failure: true, delay: false }),
            orcpt: Some("rfc822;a+2Bb@one.example".into()),
        }],
        ret: Some(Ret::Headers),
        envid: Some("QQ314159".into()),
        body_type: BodyType::EightBitMime,
        smtputf8: true,
        chunks: vec![position(Topic::Bodies)],
        ..envelope(None)
    }
}

fn accepted(out: &mut Vec<(String, Value)>) {
    put(out, "accepted/envelope", &envelope(None));
    put(out, "accepted/envelope_with_everything", &full_envelope());
    put(out, "accepted/dsn", &envelope(Some(Origin::Dsn { message_id: id("two") })));
    put(out, "accepted/feedback_report", &envelope(Some(Origin::FeedbackReport { message_id: id("two") })));
    put(out, "accepted/notice", &envelope(Some(Origin::Notice { event: "lock/shop".into() })));
}

fn summary(full: bool) -> MessageSummary {
    MessageSummary {
        id: id("one"),
        accepted_at: AT,
        user: user(),
        domain: domain("customer.example"),
        identity: Identity("shop@customer.example".into()),
        reverse_path: ReversePath::Mailbox(mailbox("bounce@customer.example")),
        header_from: full.then(|| domain("xn--bcher-kva.example")),
        classification: if full { Classification::Spam } else { Classification::Clean },
        observed_as: None,
        size_bytes: 1234,
        header_message_id: full.then(|| "x@customer.example".into()),
        client_queue_id: full.then(|| "4QwErT0".into()),
        subject: full.then(|| "Grüße".into()),
        own: false,
        forwarded: false,
    }
}

fn symbols() -> Vec<Symbol> {
    vec![
        Symbol { name: "GTUBE".into(), weight: 1.0, evidence: "the test string".into() },
        Symbol { name: "DATE_OFF".into(), weight: 0.25, evidence: String::new() },
    ]
}

fn verdict(disposition: Disposition, full: bool) -> VerdictEvent {
    VerdictEvent::Judged(Verdict {
        message: summary(full),
        at: AT,
        disposition,
        score: 0.5,
        symbols: symbols(),
        identity_source: "header:X-AuthUser".into(),
        policy_version: 17,
        model_version: full.then(|| "2026-11-01".into()),
        client: client(full),
        recipients: vec![mailbox("a@one.example")],
        accepted: position(Topic::Accepted),
        basis: None,
    })
}

/// With everything that its decision stood on.
fn verdict_with_basis() -> VerdictEvent {
    let VerdictEvent::Judged(mut verdict) = verdict(Disposition::Quarantine, true) else { unreachable!() };
    verdict.basis = Some(Basis {
        asked: Vec::new(),
        spam: 0.875,
        suspect: 0.5,
        model: Some((0.96875, 0.5)),
        author: Some(mailbox("shop@customer.example")),
        unchecked: vec!["raw_subject".into()],
        sender_rules: 7,
        attachment_rules: 8,
        unweighed: vec![(1, 0.125)],
        told_250: true,
        limits: BTreeMap::from([("messages_per_hour".to_owned(), (3, 500))]),
    });
    VerdictEvent::Judged(verdict)
}

fn verdicts(out: &mut Vec<(String, Value)>) {
    put(out, "verdicts/judged_release", &verdict(Disposition::Release, false));
    put(out, "verdicts/judged_quarantine", &verdict(Disposition::Quarantine, true));
    put(out, "verdicts/judged_hold", &verdict(Disposition::Hold, false));
    put(out, "verdicts/judged_with_its_basis", &verdict_with_basis());
    let mut asked = verdict_with_basis();
    if let VerdictEvent::Judged(Verdict { basis: Some(basis), .. }) = &mut asked {
        basis.asked.push(AskedCheck { symbol: 1, check: Classification::Dmarc, weight: 0.2 });
    }
    put(out, "verdicts/judged_with_asked_checks", &asked);
    let VerdictEvent::Judged(mut forwarded) = verdict(Disposition::Release, false) else { return };
    forwarded.message.forwarded = true;
    put(out, "verdicts/judged_forwarded", &VerdictEvent::Judged(forwarded));
    let (message, by, command_id) = (summary(true), "root@node1 (cli)".to_owned(), "c1".to_owned());
    let released = VerdictEvent::Released {
        message: message.clone(),
        by: by.clone(),
        at: AT,
        command_id: command_id.clone(),
    };
    put(out, "verdicts/released", &released);
    put(out, "verdicts/closed", &VerdictEvent::Closed { message, by, at: AT, command_id, confirmed: true });
    let lock = |identity| VerdictEvent::Lock {
        user: user(),
        domain: domain("customer.example"),
        identity,
        locked: true,
        by: "policy".into(),
        at: AT,
        reason: "5 blocked messages in 10 minutes".into(),
        evidence: Vec::new(),
    };
    put(out, "verdicts/lock_identity", &lock(Some(Identity("shop@customer.example".into()))));
    put(out, "verdicts/lock_user", &lock(None));
    let mut with_evidence = lock(None);
    if let VerdictEvent::Lock { evidence, .. } = &mut with_evidence {
        evidence.push(blocked_message());
    }
    put(out, "verdicts/lock_with_evidence", &with_evidence);
    let judged = |full: bool| Judged {
        envelope: if full { full_envelope() } else { envelope(None) },
        message: summary(full),
        score: 0.5,
        symbols: symbols(),
        remove_fields: if full {
            vec![RemoveField { name: "X-AuthUser".into(), index: 1 }]
        } else {
            Vec::new()
        },
        released_by: full.then(|| "root@node1 (cli)".into()),
        kept: full,
    };
    put(out, "released/judged", &judged(false));
    put(out, "released/judged_with_everything", &judged(true));
    let mut observed = judged(false);
    observed.message.classification = Classification::ObserveOnly;
    observed.message.observed_as = Some(Classification::DuplicateHeader);
    put(out, "released/judged_observed", &observed);
}

fn attempt(cause: AttemptCause, full: bool, outcomes: &[Outcome]) -> AttemptEvent {
    let result = |(index, outcome): (usize, &Outcome)| RecipientResult {
        index: index as u32,
        forward_path: mailbox("a@one.example"),
        outcome: *outcome,
        reply: reply(if *outcome == Outcome::Delivered { 250 } else { 451 }, "first line\nsecond line"),
        local: !full,
        next_attempt: (*outcome == Outcome::Deferred).then_some(AT),
    };
    AttemptEvent::Attempt(Attempt {
        id: format!("{}/one.example/1", id("one")),
        message: summary(full),
        node: "node1".into(),
        site: "one.example".into(),
        at: AT,
        duration_ms: 250,
        number: 1,
        cause,
        remote_host: full.then(|| "mx.one.example".into()),
        remote_address: full.then(|| "198.51.100.7:25".parse().unwrap()),
        egress: full.then(|| Egress {
            ip: "192.0.2.200".parse().ok(),
            ehlo: "out1.hoster.example".into(),
            pool: Some("default".into()),
        }),
        tls: full.then(tls),
        tls_note: (!full).then(|| "not offered".into()),
        signatures: if full { vec!["d=customer.example s=s1 a=rsa-sha256".into()] } else { Vec::new() },
        recipients: outcomes.iter().enumerate().map(result).collect(),
    })
}

fn delivery(out: &mut Vec<(String, Value)>) {
    let tried = [Outcome::Delivered, Outcome::Deferred, Outcome::Failed];
    put(out, "attempts/tried", &attempt(AttemptCause::Tried, true, &tried));
    put(out, "attempts/expired", &attempt(AttemptCause::Expired, false, &[Outcome::Failed]));
    put(out, "attempts/removed", &attempt(AttemptCause::Removed, false, &[Outcome::Removed]));
    let entry = |full: bool| QueueEntry {
        message: summary(full),
        node: "node1".into(),
        site: "one.example".into(),
        recipients: vec![QueuedRecipient {
            index: 0,
            forward_path: mailbox("a@one.example"),
            last_reply: full.then(|| reply(451, "later")),
        }],
        queued_at: AT,
        tries: u32::from(full),
        next_attempt: AT,
        expires_at: Timestamp(AT.0 + 345_600_000),
        held: full,
        delay_notice_sent: full,
        route: full.then(|| "relay.example:2525".into()),
        position: position(Topic::Released),
        stored_at: AT,
        passed_on_at: None,
        moved: false,
    };
    put(out, "queue/entry", &entry(false));
    put(out, "queue/entry_with_everything", &entry(true));
    put(out, "queue/entry_passed_on", &QueueEntry { passed_on_at: Some(AT), ..entry(false) });
    put(out, "queue/entry_moved", &QueueEntry { moved: true, ..entry(false) });
}

fn state(out: &mut Vec<(String, Value)>) {
    for (name, state) in [
        ("in", QuarantineState::In),
        ("released", QuarantineState::Released),
        ("confirmed", QuarantineState::Confirmed),
        ("removed", QuarantineState::Removed),
    ] {
        let row = QuarantineRow {
            message: summary(true),
            state,
            recipients: vec![mailbox("a@one.example")],
            symbols: symbols(),
            since: AT,
            by: "policy".into(),
            position: position(Topic::Quarantined),
        };
        put(out, &format!("quarantine/{name}"), &row);
    }
    let row = |identity: Option<Identity>| SenderRow {
        user: user(),
        domain: domain("customer.example"),
        identity_source: if identity.is_some() { "received".into() } else { String::new() },
        first_seen: AT,
        last_seen: AT,
        released: 12,
        quarantined: 3,
        lock: identity.is_some().then(|| Lock {
            since: AT,
            until: Some(Timestamp(AT.0 + 3_600_000)),
            by: "policy".into(),
            reason: "spam".into(),
        }),
        counters: schemas::limits::Counters::default(),
        outcomes: Outcomes::default(),
        held: 0,
        blocked_at: Vec::new(),
        blocked: Vec::new(),
        automatic_unlocks: 0,
        lock_history: vec![LockChange { at: AT, locked: true, by: "policy".into(), reason: "spam".into() }],
        identity,
    };
    put(out, "senders/user", &row(None));
    put(out, "senders/identity", &row(Some(Identity("shop@customer.example".into()))));
    let mut blocked = row(Some(Identity("shop@customer.example".into())));
    blocked.blocked_at = vec![AT, AT];
    blocked.automatic_unlocks = 1;
    put(out, "senders/identity_with_blocks", &blocked);
    blocked.blocked = vec![blocked_message()];
    put(out, "senders/identity_with_evidence", &blocked);
    let mut limited = row(None);
    let limits = Limits { messages_per_hour: Some(5), recipients_per_day: Some(9), ..Limits::default() };
    let three = Asked { recipients: 3, ..Asked::default() };
    limited.counters.count(AT, &three, &limits);
    limited.held = 2;
    put(out, "senders/user_with_counters", &limited);
    let mut bounced = row(None);
    let limits = Limits { invalid_recipients_percent: Some(10), ..Limits::default() };
    bounced.counters.count(AT, &three, &limits);
    bounced.counters.count_invalid(AT, 1, &limits);
    bounced.outcomes.add(AT, Numbers { sent: 3, invalid: 1, refused: 1 });
    put(out, "senders/user_with_invalid_recipients", &bounced);
    let mut recipients = RecipientsRow::default();
    let hashes: Hashes = [7, 4_000_000_000].into_iter().collect();
    recipients.distinct.add(AT, &hashes);
    put(out, "recipients/recipients", &recipients);
    let hold = HoldRow {
        message: summary(true),
        recipients: 3,
        recipient_hashes: Hashes::default(),
        since: AT,
        why: "5 of 5 messages per hour".into(),
        unchecked: false,
        score: 0.1,
        symbols: vec![Symbol { name: "DATE_OFF".into(), weight: 0.1, evidence: String::new() }],
        remove_fields: vec![RemoveField { name: "X-Account".into(), index: 0 }],
        position: position(Topic::Accepted),
        stored_at: AT,
    };
    put(out, "holds/hold", &hold);
    let unchecked = HoldRow { why: "Rspamd: no answer in time".into(), unchecked: true, ..hold.clone() };
    put(out, "holds/hold_unchecked", &unchecked);
    put(out, "holds/hold_with_recipients", &HoldRow { recipient_hashes: hashes, ..hold });
    histories(out);
}

fn histories(out: &mut Vec<(String, Value)>) {
    let day = |days: u64| AT.plus(std::time::Duration::from_secs(days * 86_400));
    let mut rates = Rates::new(AT);
    let mut contacts = Contacts::default();
    for number in 0..20u16 {
        let counted =
            Counted { recipients: 3, strangers: 1, domains: &[number % 5, 40_000], from_domain: Some(7) };
        rates.count(day(u64::from(number)), &counted);
        contacts.remember(number * 3000, day_of(day(u64::from(number) * 4)));
    }
    rates.count(day(40), &Counted::default());
    put(out, "history_rates/rates", &rates);
    put(out, "history_contacts/contacts", &contacts);
    let mut arrivals = Arrivals::default();
    arrivals.add(five_minutes_of(AT), 3);
    arrivals.add(five_minutes_of(AT) + 2, 1);
    put(out, "history_arrivals/arrivals", &arrivals);
    let mut bulk = Bulk::default();
    bulk.add(day_of(AT), 4_000_000_000, 5100);
    bulk.add(day_of(AT) + 1, 4_000_000_000, 100);
    bulk.add(day_of(AT) + 1, 7, 1);
    put(out, "history_bulk/bulk", &bulk);
    let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8 * 8));
    let identities = [1, 4711, 65_535].into_iter().collect();
    put(out, "history_text/text", &Text { fingerprint, first: AT, last: day(1), identities });
}

fn user_settings() -> UserSettings {
    let list = |text: &str| Some(vec![text.to_owned()]);
    UserSettings {
        identification: Some(vec![
            IdentityRule::Auto,
            IdentityRule::Envelope,
            IdentityRule::User,
            IdentityRule::Header {
                name: "X-AuthUser".into(),
                occurrence: Occurrence::Last,
                regex: None,
                remove: false,
            },
            IdentityRule::Header {
                name: "Received".into(),
                occurrence: Occurrence::First,
                regex: Some("for <(.*)>".into()),
                remove: true,
            },
        ]),
        limits: Some(Limits {
            messages_per_minute: Some(1),
            messages_per_hour: Some(2),
            messages_per_day: Some(3),
            messages_per_month: Some(4),
            recipients_per_day: Some(5),
            distinct_recipients_per_day: Some(6),
            ..Limits::default()
        }),
        over_limit: Some(HeldAction::Hold),
        automatic_lock: None,
        max_connections: Some(10),
        spam_action: Some(SpamAction::Observe),
        spam_threshold: None,
        quarantine_response: Some(QuarantineResponse::Accept),
        require_valid_sender: Some(true),
        from_domains: Some(vec![domain("customer.example")]),
        allow_senders: list("boss@customer.example"),
        block_senders: list("bad.example"),
        allow_recipients: list("one.example"),
        block_recipients: list("two.example"),
        blocked_extensions: list("exe"),
        max_message_bytes: Some(52_428_800),
        max_retry_days: Some(4.5),
        delivery_pool: Some("bulk".into()),
        dkim_selector: Some("s1".into()),
        checks: Some([("date_off".to_owned(), CheckMode::Block)].into()),
        weights: None,
    }
}

fn settings(out: &mut Vec<(String, Value)>) {
    put(out, "settings/defaults", &Setting::Defaults { settings: user_settings() });
    let automatic_lock = Some(AutomaticLock {
        identity: Some(true),
        user: Some(false),
        blocked_messages: Some(5),
        within_minutes: Some(10),
        timeout_minutes: Some(60),
        max_unlocks: Some(2),
        notice: Some(true),
    });
    let settings = UserSettings { automatic_lock, ..UserSettings::default() };
    put(out, "settings/defaults_with_automatic_lock", &Setting::Defaults { settings });
    let limits = Limits {
        distinct_recipients_per_day: Some(500),
        invalid_recipients_per_day: Some(100),
        invalid_recipients_percent: Some(10),
        invalid_recipients_min_sample: Some(50),
        ..Limits::default()
    };
    let settings = UserSettings { limits: Some(limits), ..UserSettings::default() };
    put(out, "settings/defaults_with_limits_of_recipients", &Setting::Defaults { settings });
    let threshold = UserSettings { spam_threshold: Some(0.75), ..UserSettings::default() };
    put(out, "settings/defaults_threshold", &Setting::Defaults { settings: threshold });
    let weights =
        Some(std::collections::BTreeMap::from([("CONTENT".into(), 0.5), ("RAW_SUBJECT".into(), 2.0)]));
    let settings = UserSettings { weights, ..UserSettings::default() };
    put(out, "settings/defaults_weights", &Setting::Defaults { settings });
    put(
        out,
        "settings/domain",
        &Setting::Domain(DomainSettings {
            name: domain("customer.example"),
            abuse_address: Some(mailbox("abuse@hoster.example")),
            settings: UserSettings::default(),
        }),
    );
    let outgoing = |auth| {
        Setting::OutgoingUser(OutgoingUser {
            domain: domain("customer.example"),
            auth,
            settings: UserSettings::default(),
        })
    };
    put(out, "settings/outgoing_user_ip", &outgoing(UserAuth::Ip { range: "192.0.2.0/28".parse().unwrap() }));
    let password = UserAuth::Password {
        login: "shop@customer.example".into(),
        password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA".into(),
    };
    put(out, "settings/outgoing_user_password", &outgoing(password));
    let ip = "192.0.2.10".parse().unwrap();
    let source = EgressSource { node: "node1".into(), ip, ehlo: Some("out1.hoster.example".into()) };
    put(out, "settings/egress_source", &Setting::EgressSource(source));
    let pool = EgressPool { name: "bulk".into(), sources: vec![WeightedSource { ip, weight: 2 }] };
    put(out, "settings/egress_pool", &Setting::EgressPool(pool));
    for (name, algorithm) in [("rsa", DkimAlgorithm::RsaSha256), ("ed25519", DkimAlgorithm::Ed25519Sha256)] {
        let key = DkimKey {
            domain: domain("customer.example"),
            selector: "s1".into(),
            algorithm,
            sealed_private_key: "k1:bm9uY2U=:Y2lwaGVydGV4dA==".into(),
            public_key: "cHVibGlj".into(),
            created_at: None,
        };
        put(out, &format!("settings/dkim_key_{name}"), &Setting::DkimKey(key.clone()));
        let dated = DkimKey { created_at: Some(AT), ..key };
        put(out, &format!("settings/dkim_key_{name}_dated"), &Setting::DkimKey(dated));
    }
    let route = StaticRoute { domain: domain("two.example"), host: "mail.two.example:25".into() };
    put(out, "settings/route", &Setting::Route(route));
    let change = Change {
        key: "domain/customer.example".into(),
        at: AT,
        by: "root@node1 (cli)".into(),
        before: Some(serde_json::json!({"kind": "domain", "name": "customer.example"})),
        after: Some(
            serde_json::json!({"kind": "domain", "name": "customer.example", "abuse_address": "a@b.example"}),
        ),
    };
    put(out, "changes/change", &change);
}

fn commands(out: &mut Vec<(String, Value)>) {
    let (user, message_id, node) = (user(), id("one"), "node1".to_owned());
    let (domain, reason) = (domain("customer.example"), "asked by phone".to_owned());
    let identity = Some(Identity("shop@customer.example".into()));
    let select = QueueSelect {
        message_id: Some(message_id),
        user: Some(user.clone()),
        domain: Some(domain.clone()),
        identity: identity.clone(),
        reverse_path: Some("<>".into()),
        recipient: Some("a@one.example".into()),
        site: Some("one.example".into()),
    };
    let lock = Action::Lock {
        user: user.clone(),
        domain: domain.clone(),
        identity: identity.clone(),
        until: Some(AT),
        reason: reason.clone(),
    };
    let whole_user = Action::Lock {
        user: user.clone(),
        domain: domain.clone(),
        identity: None,
        until: None,
        reason: reason.clone(),
    };
    for (name, action) in [
        ("release", Action::Release { user: user.clone(), message_id }),
        ("confirm", Action::Confirm { user: user.clone(), message_id }),
        ("remove", Action::Remove { user: user.clone(), message_id }),
        ("lock", lock),
        ("lock_user", whole_user),
        (
            "reset",
            Action::Reset {
                user: user.clone(),
                domain: domain.clone(),
                identity: identity.clone(),
                reason: reason.clone(),
            },
        ),
        (
            "unlock_by_link",
            Action::Unlock {
                user: user.clone(),
                domain: domain.clone(),
                identity: identity.clone(),
                reason: reason.clone(),
                since: Some(AT),
            },
        ),
        ("unlock", Action::Unlock { user, domain, identity, reason, since: None }),
        ("queue_retry", Action::QueueRetry { node: node.clone(), select: QueueSelect::default() }),
        ("queue_hold", Action::QueueHold { node: node.clone(), select: select.clone() }),
        ("queue_resume", Action::QueueResume { node: node.clone(), select: select.clone() }),
        ("queue_remove", Action::QueueRemove { node: node.clone(), select: select.clone() }),
        ("lane_read", Action::LaneRead { node: node.clone() }),
        ("queue_reroute", Action::QueueReroute { node, select, route: "relay.example:2525".into() }),
    ] {
        let command = Command {
            id: "c1".into(),
            by: "root@node1 (cli)".into(),
            at: AT,
            reply_partition: Some(2),
            action,
        };
        put(out, &format!("commands/{name}"), &command);
    }
}

fn replies(out: &mut Vec<(String, Value)>) {
    let session = Reply::Session { message_id: id("one"), reply: reply(550, "Blocked as spam") };
    put(out, "replies/session", &session);
    let plan = Plan { topic: Topic::Verdicts, partition: 3, first: 1000, next: 3000 };
    put(out, "plans/plan", &plan);
    for (name, state) in [("begun", MigrationState::Begun), ("done", MigrationState::Done)] {
        put(out, &format!("migration/{name}"), &Migration { node: "node1".into(), state, at: AT });
    }
    let command = Reply::Command { command_id: "c1".into(), ok: true, affected: 3, text: "3 entries".into() };
    put(out, "replies/command", &command);
    let refusals = SessionRefusals {
        node: "node1".into(),
        client_ip: "192.0.2.66".parse().unwrap(),
        user: Some(user()),
        reason: "too_many_connections".into(),
        minute: Timestamp(1_795_512_600_000),
        count: 7,
        reply: reply(421, "Too many concurrent SMTP connections"),
    };
    put(out, "sessions/refusals", &refusals);
}

fn blocked_message() -> BlockedMessage {
    BlockedMessage {
        id: id("blocked"),
        at: AT,
        classification: Classification::Spam,
        subject: "You won".into(),
        why: "CONTENT 0.99".into(),
    }
}
