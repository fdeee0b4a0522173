//! The SMTP client against scripted peers. The dialogues are data: see `dialogues/README.md`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use delivery::client::{self, Mail, Opening, Timeouts};
use delivery::dns::Server;
use schemas::SmtpReply;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A dialogue: what the peer does, and what has to come of it.
struct Dialogue {
    to: Vec<String>,
    body: Vec<u8>,
    ends: Vec<String>,
    reusable: Option<bool>,
    before_content: Option<bool>,
    steps: Vec<String>,
}

fn parse(text: &str) -> Dialogue {
    let (head, steps) =
        text.split_once("---\n").expect("a line `---` between what is expected and the dialogue");
    let value = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    let yes = |name: &str| value(name).map(|value| value == "yes");
    Dialogue {
        to: value("to").unwrap_or("a@x.example".into()).split(' ').map(str::to_owned).collect(),
        body: value("body")
            .unwrap_or("\\r\\nbody\\r\\n".into())
            .replace("\\r", "\r")
            .replace("\\n", "\n")
            .into(),
        ends: value("ends").expect("ends").split(", ").map(str::to_owned).collect(),
        reusable: yes("reusable"),
        before_content: yes("before content"),
        steps: steps.lines().map(str::to_owned).collect(),
    }
}

/// Plays the peer; says where the dialogue went another way than written.
async fn play(listener: TcpListener, steps: Vec<String>) -> Result<(), String> {
    let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(stream);
    for step in steps {
        let (kind, rest) = step.split_at(step.len().min(2));
        let rest = rest.trim_start();
        match kind {
            "S:" => write(&mut stream, format!("{rest}\r\n").as_bytes()).await,
            "R:" => {
                let raw = rest.replace("\\r", "\r").replace("\\n", "\n");
                write(&mut stream, raw.as_bytes()).await;
            }
            "L:" => write(&mut stream, "x".repeat(rest.parse().expect("a length")).as_bytes()).await,
            "M:" => {
                write(&mut stream, "250-more\r\n".repeat(rest.parse().expect("a count")).as_bytes()).await;
            }
            "C:" => {
                let line = read_line(&mut stream).await;
                if !line.starts_with(rest) {
                    return Err(format!("expected `{rest}`, got `{line}`"));
                }
            }
            "D:" => {
                let mut content = String::new();
                loop {
                    let line = read_line(&mut stream).await;
                    if line == "." {
                        break;
                    }
                    content.push_str(&line);
                    content.push('|');
                }
                if content != rest {
                    return Err(format!("expected the content `{rest}`, got `{content}`"));
                }
            }
            "X" => return Ok(()),
            "W" => {
                // Stalls until the client has had enough.
                while !read_line(&mut stream).await.is_empty() {}
                return Ok(());
            }
            "" | "# " => {}
            other => return Err(format!("`{other}` is no step")),
        }
    }
    Ok(())
}

async fn write(stream: &mut BufReader<TcpStream>, bytes: &[u8]) {
    // The client may have left: what comes of it is what counts.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = Vec::new();
    let _ = stream.read_until(b'\n', &mut line).await;
    String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()
}

fn said((reply, is_local): &(SmtpReply, bool)) -> String {
    let enhanced = reply.enhanced.map_or_else(String::new, |enhanced| format!(" {enhanced}"));
    format!("{}{enhanced}{}", reply.code, if *is_local { " ours" } else { "" })
}

/// Says where the dialogue did not end as written.
async fn check(path: &Path) -> Result<(), String> {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let dialogue = parse(&std::fs::read_to_string(path).expect("a dialogue"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let peer = tokio::spawn(play(listener, dialogue.steps));
    let server = Server { name: "mx.example".into(), address };
    let patience = Duration::from_millis(500);
    let timeouts = Timeouts { connect: patience, command: patience, data: patience };
    let opening =
        Opening { server: &server, source: None, ehlo: "us.example", timeouts, tls: Err("not here".into()) };
    let ends: Vec<String> = match client::open(opening).await {
        Err(failure) => vec![format!("open {}", said(&(failure.reply, failure.local)))],
        Ok(mut connection) => {
            let recipients = dialogue.to.iter().map(|to| format!("<{to}>")).collect();
            let mail = Mail {
                mail: "<s@y.example>".into(),
                recipients,
                head: b"Subject: x\r\n",
                body: &dialogue.body,
            };
            let sent = connection.send(&mail).await;
            if dialogue.reusable.is_some_and(|reusable| reusable != sent.reusable) {
                return Err(format!("{name}: reusable: {}", sent.reusable));
            }
            if dialogue.before_content.is_some_and(|before| before != sent.before_content) {
                return Err(format!("{name}: before content: {}", sent.before_content));
            }
            if let Some(bad) = sent.replies.iter().find(|(reply, _)| !is_recordable(reply)) {
                return Err(format!("{name}: a reply of {} bytes, or with controls", bad.0.text.len()));
            }
            if sent.reusable {
                connection.quit().await;
            }
            sent.replies.iter().map(said).collect()
        }
    };
    let played = tokio::time::timeout(Duration::from_secs(5), peer).await;
    match played {
        _ if ends != dialogue.ends => Err(format!("{name}: ends {ends:?}; the peer: {played:?}")),
        Ok(Ok(Ok(()))) => Ok(()),
        other => Err(format!("{name}: the peer: {other:?}")),
    }
}

/// It goes into an event: bounded, and nothing that a terminal would obey.
fn is_recordable(reply: &SmtpReply) -> bool {
    reply.text.len() < 2000 && !reply.text.contains(['\r', '\u{1b}'])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_dialogue_ends_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut paths: Vec<_> = std::fs::read_dir(directory)
        .expect("dialogues")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "smtp"));
    paths.sort();
    assert!(paths.len() > 10, "the dialogues are missing");
    let mut wrong = Vec::new();
    for path in paths {
        wrong.extend(check(&path).await.err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
