//! One try at a group of recipients: connects, or uses the connection there is, and sends until everybody has a reply.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use schemas::SmtpReply;

use crate::client::{self, Connection, Failure, Mail, Opening, Sent, Timeouts};
use crate::content::Outgoing;
use crate::dns::{Server, is_no_address};
use crate::egress::Source;
use crate::outcome::local;
use crate::site::{Ended, Job, Shared, SiteLane, Tried};
use crate::transaction;

/// Tries `job`. What is left in `connection` may be used again.
pub(crate) async fn attempt(
    job: Job,
    lane: &SiteLane,
    shared: &Shared,
    connection: &mut Option<Box<Connection>>,
) -> Ended {
    let began = Instant::now();
    let mut tried = Tried::beginning(&job, ehlo_name(&job.source, shared).await);
    let delivered = match job.message.outgoing(&shared.press).await {
        Err(reply) => Ok(all(Replies::new(), &job.recipients, &reply, true)),
        Ok(outgoing) => {
            tried.signatures.clone_from(&outgoing.signatures);
            deliver(&job, outgoing, lane, shared, connection, &mut tried).await
        }
    };
    tried.duration = began.elapsed();
    shared.metrics.attempt_seconds.observe(tried.duration.as_secs_f64());
    match delivered {
        Ok(replies) => Ended::Tried(Box::new(Tried { replies, ..tried })),
        Err(NoConnection(failure)) => {
            tried.replies = all(Replies::new(), &job.recipients, &failure.reply, failure.local);
            without_connection(job, tried, &failure)
        }
    }
}

/// Nobody took a connection: from the other source, if there is one, somebody may.
fn without_connection(job: Job, tried: Tried, failure: &Failure) -> Ended {
    match (job.other, job.failed) {
        (Some(source), _) => {
            Ended::PassedOn(Box::new(Job { source, other: None, failed: Some(Box::new(tried)), ..job }))
        }
        // That there is nothing to connect to from here says less than what came of the try before.
        (None, Some(first)) if failure.local && is_no_address(&failure.reply) => Ended::Tried(first),
        (None, _) => Ended::Tried(Box::new(tried)),
    }
}

/// Nothing was sent and nobody has a reply: no server took a connection.
struct NoConnection(Failure);

/// Per recipient the reply, and whether it is ours.
type Replies = Vec<(u32, SmtpReply, bool)>;

/// Sends to everybody, in as many transactions as it takes.
async fn deliver(
    job: &Job,
    original: &Outgoing,
    lane: &SiteLane,
    shared: &Shared,
    connection: &mut Option<Box<Connection>>,
    tried: &mut Tried,
) -> Result<Replies, NoConnection> {
    let envelope = &job.message.judged.envelope;
    let mut done = Replies::with_capacity(job.recipients.len());
    let mut left = job.recipients.clone();
    let mut converted: Option<Outgoing> = None;
    let mut dropped_us = DroppedUs::default();
    while !left.is_empty() {
        let used_before = connection.is_some();
        if connection.is_none() {
            match connect(lane, shared, tried, job.other.is_some(), &dropped_us.servers).await {
                Ok(opened) => *connection = Some(opened),
                Err(failure) => {
                    let (reply, local) = dropped_us.reply.unwrap_or((failure.reply, failure.local));
                    if done.is_empty() {
                        return Err(NoConnection(Failure { reply, local, ..failure }));
                    }
                    return Ok(all(done, &left, &reply, local));
                }
            }
        }
        let Some(open) = connection.as_mut() else { continue };
        note_peer(tried, lane, open);
        let peer = &open.capabilities;
        left.retain(|index| match transaction::recipient_refusal(envelope, *index, peer) {
            Some(refusal) => {
                done.push((*index, refusal, true));
                false
            }
            None => true,
        });
        if is_to_be_converted(original, peer, envelope, &left) && converted.is_none() {
            converted = job.message.outgoing_7bit(&shared.press).await;
        }
        let outgoing = if peer.eight_bit_mime { original } else { converted.as_ref().unwrap_or(original) };
        tried.signatures.clone_from(&outgoing.signatures);
        if let Some(refusal) = transaction::refusal(envelope, outgoing, peer) {
            return Ok(all(done, &left, &refusal, true));
        }
        let batch: Vec<u32> =
            left.iter().copied().take(shared.press.config.recipients_per_transaction.max(1)).collect();
        if batch.is_empty() {
            break;
        }
        let utf8 = transaction::needs_utf8(envelope, &batch, outgoing);
        let to = |index: &u32| envelope.recipients.get(*index as usize);
        let mail = Mail {
            mail: transaction::mail(envelope, outgoing, utf8, peer),
            recipients: batch.iter().filter_map(to).map(|r| transaction::recipient(r, peer)).collect(),
            head: &outgoing.head,
            body: &outgoing.body,
        };
        let sent = open.send(&mail).await;
        let peer = open.peer;
        give_up_or_keep(&sent, connection, shared);
        if sent.before_content {
            // A connection that was used before may have been closed meanwhile: its server has another chance.
            if !used_before {
                dropped_us.servers.push(peer);
                dropped_us.reply = sent.replies.into_iter().next();
            }
            continue; // nothing was sent
        }
        let broken = sent.replies.iter().find(|(_, is_local)| *is_local).cloned();
        settle(&mut done, &mut left, &batch, sent);
        if let Some((reply, is_local)) = broken {
            return Ok(all(done, &left, &reply, is_local));
        }
    }
    Ok(done)
}

/// Servers that took the connection and ended it before any content: the next one is asked (RFC 5321 5.1).
#[derive(Default)]
struct DroppedUs {
    servers: Vec<SocketAddr>,
    /// What the last one said, or what happened, and whether that is ours.
    reply: Option<(SmtpReply, bool)>,
}

/// The same reply for all that are left.
fn all(mut done: Replies, left: &[u32], reply: &SmtpReply, is_local: bool) -> Replies {
    done.extend(left.iter().map(|index| (*index, reply.clone(), is_local)));
    done
}

/// Takes over the replies of a transaction. Who was one too many (RFC 5321 4.5.3.1.10) has another turn at once, as long
/// as each transaction takes somebody.
fn settle(done: &mut Replies, left: &mut Vec<u32>, batch: &[u32], sent: Sent) {
    for (index, (reply, is_local)) in batch.iter().zip(sent.replies) {
        let too_many = reply.code == 452 && !is_local && sent.took_any;
        if !too_many {
            left.retain(|other| other != index);
            done.push((*index, reply, is_local));
        }
    }
}

/// 8-bit mail for a peer without 8BITMIME is converted, unless its author's signature would break.
fn is_to_be_converted(
    outgoing: &Outgoing,
    peer: &client::Capabilities,
    envelope: &schemas::Envelope,
    recipients: &[u32],
) -> bool {
    outgoing.is_8bit
        && !outgoing.as_it_came
        && !peer.eight_bit_mime
        && !transaction::needs_utf8(envelope, recipients, outgoing)
}

fn note_peer(tried: &mut Tried, lane: &SiteLane, open: &Connection) {
    let name = tried.server.as_ref().map_or_else(|| lane.target.clone(), |server| server.name.clone());
    tried.server = Some(Server { name, address: open.peer });
    tried.tls.clone_from(&open.tls);
    tried.tls_note.clone_from(&open.tls_note);
    tried.peer_reports = open.capabilities.dsn;
}

/// Lets go of a connection that cannot be used again, or has been used enough.
fn give_up_or_keep(sent: &Sent, connection: &mut Option<Box<Connection>>, shared: &Shared) {
    let used_up = |open: &Connection| open.messages >= shared.press.config.messages_per_connection;
    if sent.reusable && !sent.before_content && !connection.as_deref().is_some_and(used_up) {
        return;
    }
    if let Some(open) = connection.take() {
        shared.metrics.connections.dec();
        if sent.reusable {
            tokio::spawn(open.quit());
        }
    }
}

/// Opens a connection to the first server that takes one, but to none of `but`.
async fn connect(
    lane: &SiteLane,
    shared: &Shared,
    tried: &mut Tried,
    has_other: bool,
    but: &[SocketAddr],
) -> Result<Box<Connection>, Failure> {
    let now = shared.press.clock.now();
    if let Some((_, why)) = lane.down().as_ref().filter(|(until, _)| now < *until) {
        return Err(why.clone());
    }
    let found = shared.press.dns.servers(&lane.target, lane.source.ip, has_other).await;
    let servers = found.map_err(|reply| Failure { reply, local: true, tls: false })?;
    let mut last = None;
    for server in servers.into_iter().filter(|server| !but.contains(&server.address)) {
        tried.server = Some(server.clone());
        match open(&server, lane.source.ip, shared, &tried.ehlo).await {
            Ok(connection) => {
                shared.metrics.connections.inc();
                shared.metrics.connections_opened.inc();
                if connection.tls.is_some() {
                    shared.metrics.tls_sessions.inc();
                }
                *lane.down() = None;
                return Ok(Box::new(connection));
            }
            Err(failure) => last = Some(failure),
        }
    }
    let mut failure = last.unwrap_or_else(|| Failure {
        reply: local(451, (4, 4, 4), "No server to connect to"),
        local: true,
        tls: false,
    });
    if failure.reply.is_permanent() {
        // A greeting of 5yz speaks for this server now, not for the recipient (RFC 5321 3.1).
        failure.reply = local(451, (4, 4, 2), format!("The server refuses connections: {}", failure.reply));
        failure.local = true;
    }
    if but.is_empty() {
        *lane.down() = Some((now.plus(shared.press.config.down_for), failure.clone()));
    }
    Err(failure)
}

async fn open(
    server: &Server,
    source: Option<IpAddr>,
    shared: &Shared,
    ehlo: &str,
) -> Result<Connection, Failure> {
    let config = &shared.press.config;
    let timeouts = Timeouts {
        connect: config.connect_timeout,
        command: config.command_timeout,
        data: config.data_timeout,
    };
    match client::open(Opening { server, source, ehlo, timeouts, tls: Ok(&shared.press.tls) }).await {
        Err(failure) if failure.tls => {
            let why = failure.reply.text.clone();
            client::open(Opening { server, source, ehlo, timeouts, tls: Err(why) }).await
        }
        result => result,
    }
}

async fn ehlo_name(source: &Source, shared: &Shared) -> String {
    match (&source.ehlo, source.ip) {
        (Some(name), _) => name.clone(),
        (None, Some(ip)) => {
            shared.press.dns.ptr(ip).await.unwrap_or_else(|| shared.press.config.hostname.clone())
        }
        (None, None) => shared.press.config.hostname.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_one_too_many_has_another_turn_while_somebody_is_taken() {
        let reply = |code| (SmtpReply { code, enhanced: None, text: String::new() }, false);
        let sent = |codes: &[u16], took_any| Sent {
            replies: codes.iter().map(|code| reply(*code)).collect(),
            reusable: true,
            before_content: false,
            took_any,
        };
        let (mut done, mut left) = (Replies::new(), vec![0, 1, 2, 3]);
        settle(&mut done, &mut left, &[0, 1, 2], sent(&[250, 550, 452], true));
        assert_eq!((done.len(), left.as_slice()), (2, &[2, 3][..]));
        settle(&mut done, &mut left, &[2, 3], sent(&[452, 452], false));
        assert!(left.is_empty() && done.len() == 4, "nobody was taken: it is over");
    }
}
