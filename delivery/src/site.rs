//! Connections to sites: kept per egress source and site, used again, and given up when a site is down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use schemas::envelope::Tls;
use schemas::{MessageId, SmtpReply, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::client::{self, Connection, Failure, Mail, Opening, Sent, Timeouts};
use crate::content::Outgoing;
use crate::dns::Server;
use crate::egress::Source;
use crate::message::{Press, SharedMessage};
use crate::outcome::local;
use crate::transaction;

/// Message and site: what a group of recipients is known by.
pub(crate) type Key = (MessageId, String);

/// A group of recipients to be tried.
pub(crate) struct Job {
    pub key: Key,
    pub message: SharedMessage,
    /// Indexes into the envelope's recipients.
    pub recipients: Vec<u32>,
    pub source: Source,
    /// Where to connect: the site, or what an operator re-routed it to.
    pub target: String,
}

/// What came of a try.
pub(crate) struct Tried {
    pub key: Key,
    pub message: SharedMessage,
    /// Per recipient of the job: the reply, and whether it is ours.
    pub replies: Vec<(u32, SmtpReply, bool)>,
    pub duration: std::time::Duration,
    pub server: Option<Server>,
    pub ehlo: String,
    pub source: Source,
    pub tls: Option<Tls>,
    pub tls_note: Option<String>,
    pub signatures: Vec<String>,
    /// The peer took over the duty to report (RFC 3461).
    pub peer_reports: bool,
}

/// Every site that mail is under way to.
pub(crate) struct Sites {
    sites: HashMap<(Source, String), Site>,
    shared: Arc<Shared>,
}

struct Shared {
    press: Arc<Press>,
    metrics: Metrics,
    results: mpsc::UnboundedSender<Tried>,
    /// Jobs being tried at this moment; others wait for a connection.
    running: AtomicUsize,
    /// No further job is begun.
    draining: CancellationToken,
    /// Whoever gave the jobs is gone: what is being tried is broken off, for another may have taken it over.
    gone: CancellationToken,
}

struct Site {
    jobs: async_channel::Sender<Job>,
    lane: Arc<SiteLane>,
}

/// What the connections of a site share.
struct SiteLane {
    jobs: async_channel::Receiver<Job>,
    target: String,
    source: Source,
    connections: AtomicUsize,
    idle: AtomicUsize,
    /// The site could not be reached: until when it is left alone, and why.
    down: Mutex<Option<(Timestamp, Failure)>>,
}

impl Sites {
    pub(crate) fn new(press: Arc<Press>, metrics: Metrics, results: mpsc::UnboundedSender<Tried>) -> Self {
        Sites {
            sites: HashMap::new(),
            shared: Arc::new(Shared {
                press,
                metrics,
                results,
                running: AtomicUsize::new(0),
                draining: CancellationToken::new(),
                gone: CancellationToken::new(),
            }),
        }
    }

    /// Begins no further job. What is being tried goes on; what waits stays in the queue.
    pub(crate) fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Jobs being tried at this moment.
    pub(crate) fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Gives a job to its site. The number of jobs is bounded by whoever calls.
    pub(crate) fn dispatch(&mut self, job: Job) {
        if self.sites.len() > 10_000 {
            self.sites.retain(|_, site| site.lane.connections.load(Ordering::SeqCst) > 0);
        }
        let key = (job.source.clone(), job.target.clone());
        let site = self.sites.entry(key).or_insert_with(|| {
            let (jobs, received) = async_channel::unbounded();
            let lane = SiteLane {
                jobs: received,
                target: job.target.clone(),
                source: job.source.clone(),
                connections: AtomicUsize::new(0),
                idle: AtomicUsize::new(0),
                down: Mutex::new(None),
            };
            Site { jobs, lane: Arc::new(lane) }
        });
        // The receiver lives in the lane, which this site holds.
        let _ = site.jobs.try_send(job);
        let waiting = site.jobs.len();
        if site.lane.idle.load(Ordering::SeqCst) < waiting
            && site.lane.take_place(self.shared.press.config.connections_per_site)
        {
            tokio::spawn(serve(Arc::clone(&site.lane), Arc::clone(&self.shared)));
        }
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}

impl SiteLane {
    /// Takes one of `limit` places for a connection, if one is free.
    fn take_place(&self, limit: usize) -> bool {
        let more = |taken: usize| (taken < limit.max(1)).then_some(taken + 1);
        self.connections.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn down(&self) -> std::sync::MutexGuard<'_, Option<(Timestamp, Failure)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's life: jobs of its site, one after the other, until there are none for a while.
async fn serve(lane: Arc<SiteLane>, shared: Arc<Shared>) {
    let mut connection: Option<Box<Connection>> = None;
    let broken_off = tokio::select! {
        () = shared.gone.cancelled() => true,
        () = work(&lane, &shared, &mut connection) => false,
    };
    if let Some(connection) = connection {
        shared.metrics.connections.dec();
        // In the middle of a message QUIT would be one more line of it.
        if !broken_off {
            connection.quit().await;
        }
    }
}

async fn work(lane: &SiteLane, shared: &Shared, connection: &mut Option<Box<Connection>>) {
    let limit = shared.press.config.connections_per_site;
    loop {
        let Some(job) = next_job(lane, shared, connection).await else {
            lane.connections.fetch_sub(1, Ordering::SeqCst);
            // A job that came between the last look and here finds no connection: take it back.
            if shared.draining.is_cancelled() || lane.jobs.is_empty() || !lane.take_place(limit) {
                return;
            }
            continue;
        };
        let tried = Box::pin(attempt(job, lane, shared, connection)).await;
        // The worker is gone when the process stops.
        let _ = shared.results.send(tried);
        shared.running.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn next_job(lane: &SiteLane, shared: &Shared, connection: &mut Option<Box<Connection>>) -> Option<Job> {
    if shared.draining.is_cancelled() {
        return None;
    }
    if let Ok(job) = lane.jobs.try_recv() {
        shared.running.fetch_add(1, Ordering::SeqCst);
        return Some(job);
    }
    lane.idle.fetch_add(1, Ordering::SeqCst);
    let job = match connection {
        None => lane.jobs.try_recv().ok(),
        Some(open) => {
            let next = tokio::select! {
                biased;
                () = shared.draining.cancelled() => Some(None),
                job = lane.jobs.recv() => Some(job.ok()),
                () = open.went_away() => None,
                () = tokio::time::sleep(shared.press.config.idle_timeout) => Some(None),
            };
            next.unwrap_or_else(|| {
                shared.metrics.connections.dec();
                *connection = None;
                lane.jobs.try_recv().ok()
            })
        }
    };
    lane.idle.fetch_sub(1, Ordering::SeqCst);
    if job.is_some() {
        shared.running.fetch_add(1, Ordering::SeqCst);
    }
    job
}

async fn attempt(
    job: Job,
    lane: &SiteLane,
    shared: &Shared,
    connection: &mut Option<Box<Connection>>,
) -> Tried {
    let began = Instant::now();
    let mut tried = Tried {
        key: job.key.clone(),
        message: Arc::clone(&job.message),
        replies: Vec::new(),
        duration: std::time::Duration::ZERO,
        server: None,
        ehlo: ehlo_name(&lane.source, shared).await,
        source: lane.source.clone(),
        tls: None,
        tls_note: None,
        signatures: Vec::new(),
        peer_reports: false,
    };
    tried.replies = match job.message.outgoing(&shared.press).await {
        Err(reply) => job.recipients.iter().map(|index| (*index, reply.clone(), true)).collect(),
        Ok(outgoing) => {
            tried.signatures.clone_from(&outgoing.signatures);
            deliver(&job, outgoing, lane, shared, connection, &mut tried).await
        }
    };
    tried.duration = began.elapsed();
    shared.metrics.attempt_seconds.observe(tried.duration.as_secs_f64());
    tried
}

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
) -> Replies {
    let envelope = &job.message.judged.envelope;
    let mut done = Replies::with_capacity(job.recipients.len());
    let mut left = job.recipients.clone();
    let mut converted: Option<Outgoing> = None;
    while !left.is_empty() {
        let used_before = connection.is_some();
        if connection.is_none() {
            match connect(lane, shared, tried).await {
                Ok(opened) => *connection = Some(opened),
                Err(failure) => return all(done, &left, &failure.reply, failure.local),
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
            return all(done, &left, &refusal, true);
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
        give_up_or_keep(&sent, connection, shared);
        if used_before && sent.before_content {
            continue; // the peer had closed the connection meanwhile: nothing was sent
        }
        let broken = sent.replies.iter().find(|(_, is_local)| *is_local).cloned();
        settle(&mut done, &mut left, &batch, sent);
        if let Some((reply, is_local)) = broken {
            return all(done, &left, &reply, is_local);
        }
    }
    done
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
    if sent.reusable && !connection.as_deref().is_some_and(used_up) {
        return;
    }
    if let Some(open) = connection.take() {
        shared.metrics.connections.dec();
        if sent.reusable {
            tokio::spawn(open.quit());
        }
    }
}

/// Opens a connection to the first server that takes one.
async fn connect(lane: &SiteLane, shared: &Shared, tried: &mut Tried) -> Result<Box<Connection>, Failure> {
    let now = shared.press.clock.now();
    if let Some((_, why)) = lane.down().as_ref().filter(|(until, _)| now < *until) {
        return Err(why.clone());
    }
    let found = shared.press.dns.servers(&lane.target, lane.source.ip).await;
    let servers = found.map_err(|reply| Failure { reply, local: true, tls: false })?;
    let mut last = None;
    for server in servers {
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
    *lane.down() = Some((now.plus(shared.press.config.down_for), failure.clone()));
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
