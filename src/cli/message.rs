//! `trace`: one message's whole story.

use clap::Args;
use reporter::queries::Trace;
use reporter::trace::TraceEvent;
use schemas::attempt::{Attempt, AttemptEvent};
use schemas::verdict::{Basis, Verdict, VerdictEvent};

use super::table::time;
use super::{Node, Output, ask};

#[derive(Debug, Args)]
pub(super) struct TraceArguments {
    /// Our id, the client's own queue id, or a Message-ID.
    id: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    node: Node,
}

pub(super) async fn trace(arguments: TraceArguments) -> anyhow::Result<()> {
    let client = ask::client(&arguments.node)?;
    let mut path = String::from("/v1/trace/");
    crate::socket::percent_encode(&arguments.id, &mut path);
    let trace: Trace = client.get(&path, &[]).await?;
    if arguments.output.json {
        return ask::print_json(&trace);
    }
    let Some(id) = trace.message_ids.first() else {
        anyhow::bail!("nothing is known of `{}`; statistics may be a moment behind", arguments.id);
    };
    println!("{id}");
    if trace.message_ids.len() > 1 {
        println!(
            "  (the newest of {}; the others: {})",
            trace.message_ids.len(),
            trace.message_ids[1..].join(" ")
        );
    }
    trace.events.iter().for_each(print_event);
    Ok(())
}

fn print_event(event: &TraceEvent) {
    match (&event.verdict, &event.attempt) {
        (Some(verdict), _) => print_verdict_event(event, verdict),
        (_, Some(AttemptEvent::Attempt(attempt))) => print_attempt(attempt),
        _ => println!("{}  {}: the event's retention is over", time(event.at), event.position),
    }
}

fn print_verdict_event(event: &TraceEvent, verdict: &VerdictEvent) {
    match verdict {
        VerdictEvent::Judged(verdict) => print_verdict(verdict),
        VerdictEvent::Released { by, at, .. } => println!("{}  released from quarantine by {by}", time(*at)),
        VerdictEvent::Closed { by, at, confirmed: true, .. } => {
            println!("{}  confirmed as spam by {by}", time(*at));
        }
        VerdictEvent::Closed { by, at, .. } => println!("{}  removed from quarantine by {by}", time(*at)),
        VerdictEvent::Lock { .. } | VerdictEvent::Unknown => {
            println!("{}  {}", time(event.at), event.position);
        }
    }
}

fn print_verdict(verdict: &Verdict) {
    let (message, client) = (&verdict.message, &verdict.client);
    let tls = client
        .tls
        .as_ref()
        .map_or_else(|| "no TLS".to_owned(), |tls| format!("{} {}", tls.version, tls.cipher));
    let login = client.login.as_ref().map_or_else(String::new, |login| format!(", login {login}"));
    println!(
        "{}  accepted from {} ({}), {}, {tls}{login}",
        time(message.accepted_at),
        client.ip(),
        clean(&client.helo),
        client.protocol
    );
    println!("    user {}, domain {}, {} bytes", message.user, message.domain, message.size_bytes);
    println!(
        "    from <{}> to {} recipients: {}",
        message.reverse_path,
        verdict.recipients.len(),
        join(&verdict.recipients)
    );
    for (name, value) in [
        ("client's queue id", &message.client_queue_id),
        ("Message-ID", &message.header_message_id),
        ("Subject", &message.subject),
    ] {
        if let Some(value) = value {
            println!("    {name}: {}", clean(value));
        }
    }
    println!(
        "{}  judged {}: {} (score {:.2}, policy {})",
        time(verdict.at),
        message.classification,
        message.classification.explanation(),
        verdict.score,
        verdict.policy_version
    );
    println!("    identity {} found by {}", message.identity, verdict.identity_source);
    for symbol in &verdict.symbols {
        println!("    {} {:.2}  {}", symbol.name, symbol.weight, clean(&symbol.evidence));
    }
    if let Some(basis) = &verdict.basis {
        print_basis(basis, verdict.model_version.as_deref());
    }
}

fn print_basis(basis: &Basis, model: Option<&str>) {
    println!(
        "    spam from {:.3}, suspect from {:.3}, model {}",
        basis.spam,
        basis.suspect,
        model.unwrap_or("none")
    );
    if !basis.unchecked.is_empty() {
        println!("    not checked: {}", basis.unchecked.join(", "));
    }
    for (name, (count, limit)) in &basis.limits {
        println!("    {name}: {count} of {limit} before it");
    }
}

fn print_attempt(attempt: &Attempt) {
    let host = attempt.remote_host.as_deref().unwrap_or(&attempt.site);
    let address = attempt.remote_address.map_or_else(String::new, |address| format!(" [{address}]"));
    let from = attempt.egress.as_ref().map_or_else(String::new, |egress| {
        let ip = egress.ip.map_or_else(|| "the primary address".to_owned(), |ip| ip.to_string());
        format!(" from {ip} as {}", egress.ehlo)
    });
    println!(
        "{}  try {} to {host}{address}{from}, {} ms",
        time(attempt.at),
        attempt.number,
        attempt.duration_ms
    );
    match (&attempt.tls, &attempt.tls_note) {
        (Some(tls), _) => {
            let certificate = if tls.verified { "verified" } else { "not verified" };
            println!("    {} {}, certificate {certificate}", tls.version, tls.cipher);
        }
        (None, Some(note)) => println!("    no TLS: {}", clean(note)),
        (None, None) => {}
    }
    attempt.signatures.iter().for_each(|signature| println!("    signed {signature}"));
    for result in &attempt.recipients {
        let whose = if result.local { "we say" } else { "remote says" };
        println!(
            "    {} {}: {whose} {}",
            result.forward_path,
            result.outcome.code(),
            clean(&result.reply.to_string())
        );
        if let Some(next) = result.next_attempt {
            println!("      tried again {}", time(next));
        }
    }
}

fn join(recipients: &[schemas::Mailbox]) -> String {
    let shown: Vec<String> = recipients.iter().take(10).map(ToString::to_string).collect();
    if recipients.len() > 10 { format!("{} ...", shown.join(" ")) } else { shown.join(" ") }
}

/// Text from mail cannot move the cursor.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
