//! Connections to sites: kept per egress source and site, used again, and given up when a site is down.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use schemas::envelope::{BodyType, Recipient, Ret, Tls};
use schemas::{MessageId, SmtpReply};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::Metrics;
use crate::client::{self, Connection, Failure, Mail, Opening, Timeouts};
use crate::content::Outgoing;
use crate::dns::Server;
use crate::egress::Source;
use crate::message::{Press, SharedMessage};
use crate::outcome::local;

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
    tls: TlsConnector,
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
    down: Mutex<Option<(Instant, Failure)>>,
}

impl Sites {
    pub(crate) fn new(press: Arc<Press>, metrics: Metrics, results: mpsc::UnboundedSender<Tried>) -> Self {
        Sites {
            sites: HashMap::new(),
            shared: Arc::new(Shared { press, metrics, results, tls: client::opportunistic_tls() }),
        }
    }

    /// Gives a job to its site. The number of jobs is bounded by whoever calls.
    pub(crate) fn dispatch(&mut self, job: Job) {
        if self.sites.len() > 10_000 {
            self.sites.retain(|_, site| site.lane.connections.load(Ordering::Acquire) > 0);
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
        let connections = site.lane.connections.load(Ordering::Acquire);
        let waiting = site.jobs.len();
        if site.lane.idle.load(Ordering::Acquire) < waiting
            && connections < self.shared.press.config.connections_per_site
        {
            site.lane.connections.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(serve(Arc::clone(&site.lane), Arc::clone(&self.shared)));
        }
    }
}

/// One connection's life: jobs of its site, one after the other, until there are none for a while.
async fn serve(lane: Arc<SiteLane>, shared: Arc<Shared>) {
    let mut connection: Option<Box<Connection>> = None;
    loop {
        let job = next_job(&lane, &shared, &mut connection).await;
        let Some(job) = job else {
            lane.connections.fetch_sub(1, Ordering::AcqRel);
            // A job that came between the last look and here finds no connection: take it back.
            if lane.jobs.is_empty()
                || lane.connections.fetch_add(1, Ordering::AcqRel) >= shared.press.config.connections_per_site
            {
                break;
            }
            continue;
        };
        let tried = Box::pin(attempt(job, &lane, &shared, &mut connection)).await;
        // The worker is gone when the process stops.
        let _ = shared.results.send(tried);
    }
    if let Some(connection) = connection {
        shared.metrics.connections.dec();
        connection.quit().await;
    }
}

async fn next_job(lane: &SiteLane, shared: &Shared, connection: &mut Option<Box<Connection>>) -> Option<Job> {
    if let Ok(job) = lane.jobs.try_recv() {
        return Some(job);
    }
    lane.idle.fetch_add(1, Ordering::AcqRel);
    let job = match connection {
        None => lane.jobs.try_recv().ok(),
        Some(open) => {
            let next = tokio::select! {
                biased;
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
    lane.idle.fetch_sub(1, Ordering::AcqRel);
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
    let replies = match job.message.outgoing(&shared.press).await {
        Err(reply) => Err((reply, true)),
        Ok(outgoing) => {
            tried.signatures.clone_from(&outgoing.signatures);
            deliver(&job, outgoing, lane, shared, connection, &mut tried).await
        }
    };
    let replies = replies.unwrap_or_else(|same| vec![same; job.recipients.len()]);
    tried.replies =
        job.recipients.iter().zip(replies).map(|(index, (reply, local))| (*index, reply, local)).collect();
    tried.duration = began.elapsed();
    shared.metrics.attempt_seconds.observe(tried.duration.as_secs_f64());
    tried
}

type Replies = Result<Vec<(SmtpReply, bool)>, (SmtpReply, bool)>;

async fn deliver(
    job: &Job,
    outgoing: &Outgoing,
    lane: &SiteLane,
    shared: &Shared,
    connection: &mut Option<Box<Connection>>,
    tried: &mut Tried,
) -> Replies {
    loop {
        let used_before = connection.is_some();
        if connection.is_none() {
            let opened =
                connect(lane, shared, tried).await.map_err(|failure| (failure.reply, failure.local))?;
            *connection = Some(opened);
        }
        let Some(open) = connection.as_mut() else { continue };
        tried.server = Some(Server {
            name: tried.server.as_ref().map_or_else(|| lane.target.clone(), |s| s.name.clone()),
            address: open.peer,
        });
        tried.tls.clone_from(&open.tls);
        tried.tls_note.clone_from(&open.tls_note);
        tried.peer_reports = open.capabilities.dsn;
        let converted;
        let outgoing = if outgoing.is_8bit && !open.capabilities.eight_bit_mime && !needs_utf8(job) {
            converted = job.message.outgoing_7bit(&shared.press).await;
            converted.as_ref().unwrap_or(outgoing)
        } else {
            outgoing
        };
        let mail = mail(job, outgoing, open).map_err(|reply| (reply, true))?;
        let sent = open.send(&mail).await;
        let went_stale = used_before && sent.before_content && sent.replies.iter().all(|(_, local)| *local);
        if !sent.reusable || open.messages >= shared.press.config.messages_per_connection {
            shared.metrics.connections.dec();
            if let Some(open) = connection.take().filter(|_| sent.reusable) {
                tokio::spawn(open.quit());
            }
        }
        if went_stale {
            continue; // the peer had closed the connection meanwhile: nothing was sent
        }
        return Ok(sent.replies);
    }
}

/// Opens a connection to the first server that takes one.
async fn connect(lane: &SiteLane, shared: &Shared, tried: &mut Tried) -> Result<Box<Connection>, Failure> {
    if let Some((until, why)) = lane.down.lock().unwrap_or_else(PoisonError::into_inner).clone()
        && Instant::now() < until
    {
        return Err(why);
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
                *lane.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
    let until = Instant::now() + shared.press.config.down_for;
    *lane.down.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, failure.clone()));
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
    match client::open(Opening { server, source, ehlo, timeouts, tls: Ok(&shared.tls) }).await {
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

fn recipient(job: &Job, index: u32) -> Option<&Recipient> {
    job.message.judged.envelope.recipients.get(index as usize)
}

fn needs_utf8(job: &Job) -> bool {
    let envelope = &job.message.judged.envelope;
    let reverse = envelope.reverse_path.mailbox().is_some_and(schemas::Mailbox::needs_smtputf8);
    let forward = job
        .recipients
        .iter()
        .filter_map(|index| recipient(job, *index))
        .any(|r| r.forward_path.needs_smtputf8());
    reverse || forward
}

/// The transaction for a peer with these capabilities.
fn mail<'a>(job: &Job, outgoing: &'a Outgoing, open: &Connection) -> Result<Mail<'a>, SmtpReply> {
    let envelope = &job.message.judged.envelope;
    let capabilities = &open.capabilities;
    let utf8_head = envelope.smtputf8 && !outgoing.head.is_ascii();
    let wants_utf8 = needs_utf8(job) || utf8_head;
    if wants_utf8 && !capabilities.smtputf8 {
        return Err(local(
            550,
            (5, 6, 7),
            "The receiving server does not support internationalised addresses (SMTPUTF8)",
        ));
    }
    let size = outgoing.size_bytes() as u64;
    if let Some(limit) = capabilities.size.filter(|limit| size > *limit) {
        return Err(local(
            552,
            (5, 3, 4),
            format!("The message has {size} bytes, the receiving server takes {limit}"),
        ));
    }
    let mut from = format!("<{}>", envelope.reverse_path);
    if capabilities.size.is_some() {
        from.push_str(&format!(" SIZE={size}"));
    }
    if capabilities.eight_bit_mime && (outgoing.is_8bit || envelope.body_type == BodyType::EightBitMime) {
        from.push_str(" BODY=8BITMIME");
    }
    if wants_utf8 {
        from.push_str(" SMTPUTF8");
    }
    if capabilities.dsn {
        match envelope.ret {
            Some(Ret::Full) => from.push_str(" RET=FULL"),
            Some(Ret::Headers) => from.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(envid) = &envelope.envid {
            from.push_str(&format!(" ENVID={envid}"));
        }
    }
    let to = |index: &u32| recipient(job, *index).map(|r| forward_path(r, capabilities.dsn));
    let recipients: Vec<String> = job.recipients.iter().filter_map(to).collect();
    if recipients.len() != job.recipients.len() {
        return Err(local(
            451,
            (4, 3, 0),
            "The queue entry names a recipient that the envelope does not have",
        ));
    }
    Ok(Mail { mail: from, recipients, head: &outgoing.head, body: &outgoing.body })
}

fn forward_path(recipient: &Recipient, dsn: bool) -> String {
    let mut out = format!("<{}>", recipient.forward_path);
    if dsn && let Some(notify) = recipient.notify {
        let wanted = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        let words: Vec<&str> = wanted.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
        out.push_str(" NOTIFY=");
        out.push_str(&if words.is_empty() { "NEVER".to_owned() } else { words.join(",") });
    }
    if dsn && let Some(orcpt) = &recipient.orcpt {
        out.push_str(&format!(" ORCPT={orcpt}"));
    }
    out
}
