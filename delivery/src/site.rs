//! Connections to sites: kept per egress source and site, used again, and given up when a site is down.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use schemas::envelope::Tls;
use schemas::{MessageId, SmtpReply, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Metrics;
use crate::attempt::attempt;
use crate::client::{Connection, Failure};
use crate::dns::Server;
use crate::egress::Source;
use crate::message::{Press, SharedMessage};

/// Message and site: what a group of recipients is known by.
pub(crate) type Key = (MessageId, String);

/// A group of recipients to be tried.
pub(crate) struct Job {
    pub key: Key,
    pub message: SharedMessage,
    /// Indexes into the envelope's recipients.
    pub recipients: Vec<u32>,
    pub source: Source,
    /// The source to try from when nobody takes a connection from the first.
    pub other: Option<Source>,
    /// What came of the try from the first.
    pub failed: Option<Box<Tried>>,
    /// Where to connect: the site, or what an operator re-routed it to.
    pub target: String,
}

/// How a job ends.
pub(crate) enum Ended {
    Tried(Box<Tried>),
    /// Nobody took a connection; its other source is its source now.
    PassedOn(Box<Job>),
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

impl Tried {
    /// Before anything has come of it.
    pub(crate) fn beginning(job: &Job, ehlo: String) -> Self {
        Tried {
            key: job.key.clone(),
            message: Arc::clone(&job.message),
            replies: Vec::new(),
            duration: std::time::Duration::ZERO,
            server: None,
            ehlo,
            source: job.source.clone(),
            tls: None,
            tls_note: None,
            signatures: Vec::new(),
            peer_reports: false,
        }
    }
}

/// Every site that mail is under way to.
pub(crate) struct Sites {
    sites: HashMap<(Source, String), Site>,
    shared: Arc<Shared>,
}

/// What all sites share.
pub(crate) struct Shared {
    pub press: Arc<Press>,
    pub metrics: Metrics,
    results: mpsc::UnboundedSender<Ended>,
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
pub(crate) struct SiteLane {
    jobs: async_channel::Receiver<Job>,
    pub target: String,
    pub source: Source,
    connections: AtomicUsize,
    idle: AtomicUsize,
    /// The site could not be reached: until when it is left alone, and why.
    down: Mutex<Option<(Timestamp, Failure)>>,
}

impl Sites {
    pub(crate) fn new(press: Arc<Press>, metrics: Metrics, results: mpsc::UnboundedSender<Ended>) -> Self {
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

    /// Ends a job that cannot be tried, with a reply of ours.
    pub(crate) fn refuse(&self, job: &Job, reply: &SmtpReply) {
        let tried = Tried {
            replies: job.recipients.iter().map(|index| (*index, reply.clone(), true)).collect(),
            ..Tried::beginning(job, self.shared.press.config.hostname.clone())
        };
        // The worker, which holds the other end, is the caller.
        let _ = self.shared.results.send(Ended::Tried(Box::new(tried)));
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

    /// The site could not be reached: until when it is left alone, and why.
    pub(crate) fn down(&self) -> std::sync::MutexGuard<'_, Option<(Timestamp, Failure)>> {
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
        let ended = Box::pin(attempt(job, lane, shared, connection)).await;
        // The worker is gone when the process stops.
        let _ = shared.results.send(ended);
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
