use axum::http::StatusCode;
use control::api::{
    ApplyAnswer, ApplyRequest, ChangeKind, ChangesAnswer, PlanAnswer, SettingsAnswer, SettingsFile,
};
use schemas::UserId;
use schemas::settings::UserAuth;

use super::node::{ACTOR, Node};

const FILE: &str = r#"
[defaults]
spam_action = "enforce"
[[domain]]
name = "customer.example"
abuse_address = "abuse@hoster.example"
[[outgoing_user]]
domain = "customer.example"
ip = "192.0.2.0/28"
[[outgoing_user]]
domain = "customer.example"
login = "shop@customer.example"
password = "open sesame"
limits = { messages_per_hour = 500 }
[[egress_source]]
node = "node1"
ip = "192.0.2.10"
[[dkim_key]]
domain = "customer.example"
selector = "s1"
generate = true
algorithm = "ed25519"
"#;

fn file(text: &str) -> SettingsFile {
    SettingsFile { text: text.into(), ..SettingsFile::default() }
}

async fn plan(node: &Node, text: &str) -> PlanAnswer {
    node.post("/v1/settings/plan", &file(text)).await
}

async fn apply(node: &Node, text: &str) -> ApplyAnswer {
    let plan = plan(node, text).await;
    node.post("/v1/settings/apply", &ApplyRequest { file: file(text), expected_version: plan.version }).await
}

#[tokio::test]
async fn applying_a_file_twice_changes_nothing_the_second_time() {
    let node = Node::start().await;
    let planned = plan(&node, FILE).await;
    assert_eq!((planned.version, planned.diff.len()), (None, 6));
    assert!(planned.diff.iter().all(|entry| entry.kind == ChangeKind::Added));

    let applied = apply(&node, FILE).await;
    assert!(applied.in_force && applied.version.is_some());
    assert_eq!(applied.diff.len(), 6);
    // In force the moment the answer is there.
    let user = node.context.settings.read().user(&UserId("shop@customer.example".into())).cloned().unwrap();
    let UserAuth::Password { password_hash, .. } = user.auth else { panic!() };
    assert!(control::password::verifies("open sesame", &password_hash));
    let domain = schemas::Domain::parse("customer.example").unwrap();
    let made = node.context.settings.read().dkim_keys(&domain).next().unwrap().created_at;
    assert_eq!(made, Some(node.now()));

    let again = plan(&node, FILE).await;
    assert_eq!((again.version, again.diff), (applied.version, Vec::new()));
    let nothing = apply(&node, FILE).await;
    assert_eq!((nothing.version, nothing.diff), (applied.version, Vec::new()));

    let changes: ChangesAnswer = node.get("/v1/changes").await;
    assert_eq!(changes.total, 6);
    node.stop().await;
}

#[tokio::test]
async fn changes_tell_who_what_and_when() {
    let node = Node::start().await;
    apply(&node, FILE).await;
    node.clock.advance(std::time::Duration::from_secs(3600));
    let other = FILE
        .replace("messages_per_hour = 500", "messages_per_hour = 400")
        .replace("192.0.2.0/28", "192.0.2.16/28");
    let applied = apply(&node, &other).await;
    let kinds: Vec<(&str, ChangeKind)> = applied.diff.iter().map(|e| (e.key.as_str(), e.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("outgoing_user/192.0.2.0/28", ChangeKind::Removed),
            ("outgoing_user/192.0.2.16/28", ChangeKind::Added),
            ("outgoing_user/shop@customer.example", ChangeKind::Changed),
        ]
    );
    assert!(
        applied.diff[2].to_string().contains("limits.messages_per_hour: 500 -> 400"),
        "{}",
        applied.diff[2]
    );
    assert!(node.context.settings.read().user_by_ip("192.0.2.1".parse().unwrap()).is_none());

    // The history is followed in the background.
    let recent = loop {
        let recent: ChangesAnswer = node.get("/v1/changes?since=10m&key=outgoing_user/").await;
        if recent.total == 3 {
            break recent;
        }
        tokio::task::yield_now().await;
    };
    let changed = recent.changes.iter().find(|c| c.key.ends_with("shop@customer.example")).unwrap();
    assert_eq!((changed.by.as_str(), changed.at), (ACTOR, node.now()));
    let limit = |value: &Option<serde_json::Value>| {
        value.as_ref().unwrap()["settings"]["limits"]["messages_per_hour"].clone()
    };
    assert_eq!((limit(&changed.before), limit(&changed.after)), (500.into(), 400.into()));
    node.stop().await;
}

#[tokio::test]
async fn whoever_compared_with_older_settings_is_refused() {
    let node = Node::start().await;
    let mine = plan(&node, FILE).await;
    apply(&node, "[[domain]]\nname = \"other.example\"\n").await;
    let request = ApplyRequest { file: file(FILE), expected_version: mine.version };
    let (status, error, fix) = node.post_refused("/v1/settings/apply", &request).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(error.contains("have changed") && fix.contains("compare again"), "{error}; {fix}");
    let shown: SettingsAnswer = node.get("/v1/settings").await;
    assert_eq!(shown.settings.len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn two_who_apply_at_once_are_one_after_the_other() {
    let node = Node::start().await;
    let request = |name: &str| ApplyRequest {
        file: file(&format!("[[domain]]\nname = \"{name}\"\n")),
        expected_version: None,
    };
    let (first, second) = (request("one.example"), request("two.example"));
    let (a, b) = tokio::join!(node.context.writer.apply("a", first), node.context.writer.apply("b", second),);
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    node.stop().await;
}

#[tokio::test]
async fn secrets_leave_in_no_answer_and_stand_in_no_change() {
    let node = Node::start().await;
    let applied = apply(&node, FILE).await;
    let user = node.context.settings.read().user(&UserId("shop@customer.example".into())).cloned().unwrap();
    let UserAuth::Password { password_hash, .. } = user.auth else { panic!() };
    let domain = schemas::Domain::parse("customer.example").unwrap();
    let sealed = node.context.settings.read().dkim_keys(&domain).next().unwrap().sealed_private_key.clone();

    let mut seen = serde_json::to_string(&applied).unwrap();
    seen += &serde_json::to_string(&plan(&node, &FILE.replace("sesame", "barley")).await).unwrap();
    for path in ["/v1/settings", "/v1/changes", "/v1/dkim", "/v1/status", "/v1/identities"] {
        seen += &node.get::<serde_json::Value>(path).await.to_string();
    }
    let mut tail = node.log.tail(schemas::Topic::Changes, 0, eventlog::TailFrom::Offset(0)).await.unwrap();
    for record in tail.next(100).await.unwrap() {
        seen += std::str::from_utf8(&record.value.unwrap()).unwrap();
    }
    let broken =
        FILE.replace("[defaults]", "[defaults]\nmax_connections = 0").replace("password =", "passwd =");
    seen += &node.post_refused("/v1/settings/plan", &file(&broken)).await.1;
    for secret in ["sesame", "barley", password_hash.as_str(), sealed.as_str()] {
        assert!(!seen.contains(secret), "{secret} was told");
    }
    assert!(seen.contains("<secret>"));
    // The private key can be opened with the cluster key alone, and for its setting alone.
    assert!(node.cluster_key.open("dkim_key/customer.example/s1", &sealed).is_ok());
    node.stop().await;
}

#[tokio::test]
async fn a_new_password_is_a_change_and_a_removed_file_entry_leaves_keys_alone() {
    let node = Node::start().await;
    apply(&node, FILE).await;
    let changed = apply(&node, &FILE.replace("sesame", "barley")).await;
    assert_eq!(changed.diff.len(), 1);
    assert_eq!(changed.diff[0].fields.len(), 1);
    assert_eq!(changed.diff[0].fields[0].field, "password_hash");
    let emptied = apply(&node, "").await;
    assert_eq!(emptied.diff.len(), 5, "{:?}", emptied.diff);
    let shown: SettingsAnswer = node.get("/v1/settings").await;
    assert_eq!(shown.settings.len(), 1);
    assert_eq!(shown.settings[0].key, "dkim_key/customer.example/s1");
    node.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_all_at_once_and_nothing_is_changed() {
    let node = Node::start().await;
    let text = "[[domain]]\nname = \"customer.example\"\nspam_actoin = \"enforce\"\n[[outgoing_user]]\ndomain = \"custmer.example\"\nip = \"x\"\n";
    let request = ApplyRequest { file: file(text), expected_version: None };
    let (status, error, _) = node.post_refused("/v1/settings/apply", &request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(error.lines().count(), 3, "{error}");
    assert!(
        error.contains("did you mean `spam_action`?") && error.contains("did you mean `customer.example`?")
    );
    assert_eq!(node.get::<SettingsAnswer>("/v1/settings").await.version, None);
    let (status, error, _) = node.post_refused("/v1/settings/apply", &"nonsense").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{error}");
    node.stop().await;
}
