//! Listeners, and what their connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, View};
use prometheus_client::registry::Registry;
use schemas::Topic;
use schemas::senders::SendersView;
use schemas::settings::SettingsView;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Incoming;
use crate::auth::Authenticator;
use crate::connection::{self, Door};
use crate::gate::{GROUPS, Gate};
use crate::metrics::{Group, Metrics};
use crate::refusals::Refusals;
use crate::slots::Slots;
use crate::tls::Certificate;
use crate::verdict::Verdicts;
use crate::{Config, Error, ListenerConfig, ListenerTls};

/// How often it is looked at how far scorer and delivery are behind.
const LAG_EVERY: Duration = Duration::from_millis(500);

/// Bound listeners, ready to run.
pub struct Ingress {
    config: Config,
    listeners: Vec<(TcpListener, ListenerConfig)>,
    certificate: Option<Certificate>,
    metrics: Metrics,
}

/// What every connection shares.
pub struct Shared {
    pub config: Config,
    pub log: Log,
    pub clock: Arc<dyn Clock>,
    pub settings: View<SettingsView>,
    pub senders: View<SendersView>,
    pub certificate: Option<Certificate>,
    pub authenticator: Authenticator,
    pub verdicts: Verdicts,
    pub refusals: Refusals,
    pub metrics: Metrics,
    /// Room for messages being received.
    pub room: Arc<Semaphore>,
    pub slots: Slots,
    pub gate: Gate,
    pub shutdown: CancellationToken,
    /// Ends what has not ended by itself some time after `shutdown`.
    pub cut_off: CancellationToken,
}

impl Ingress {
    /// Binds every listener and reads the certificate.
    ///
    /// # Errors
    /// Which address or file cannot be used.
    pub async fn bind(config: Config, registry: &mut Registry) -> Result<Self, Error> {
        raise_file_limit();
        let certificate = config.tls.as_ref().map(Certificate::load).transpose()?;
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            if listener.tls != ListenerTls::None && certificate.is_none() {
                return Err(Error::NoCertificate);
            }
            match bind(listener.bind) {
                Ok(bound) => listeners.push((bound, listener.clone())),
                Err(error) if listener.optional && is_of_another_family(&error) => {
                    tracing::info!(address = %listener.bind, %error, "not listened on: this machine has no such address");
                }
                Err(source) => return Err(Error::Bind { address: listener.bind, source }),
            }
        }
        let metrics = Metrics::new(registry);
        if let Some(certificate) = &certificate {
            certificate.tell(&metrics.certificate_expires);
        }
        Ok(Ingress { config, listeners, certificate, metrics })
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }

    /// Serves until `shutdown`; then takes no more connections and lets messages under way finish. The log and the views
    /// are those of `gate`, which is told how far others are behind.
    ///
    /// # Errors
    /// None once it runs; the type leaves room.
    pub async fn run(
        self,
        gate: Gate,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let (log, settings, senders) = (Arc::clone(&gate.log), gate.settings.clone(), gate.senders.clone());
        let partition = log.partition_of(Topic::Replies, self.config.node.as_bytes());
        let verdicts = Verdicts::new(partition, self.config.verdict_timeout);
        let drain = self.config.limits.drain;
        let shared = Arc::new(Shared {
            authenticator: Authenticator::new(settings.clone()),
            room: Incoming::room_of(self.config.limits.bytes_in_flight),
            slots: Slots::new(&self.config.limits),
            gate,
            refusals: Refusals::default(),
            config: self.config,
            log,
            clock,
            settings,
            senders,
            certificate: self.certificate,
            verdicts,
            metrics: self.metrics,
            shutdown,
            cut_off: CancellationToken::new(),
        });
        let background = TaskTracker::new();
        let stop_background = CancellationToken::new();
        start_background(&shared, &background, &stop_background).await;
        let connections = TaskTracker::new();
        let mut accepting = tokio::task::JoinSet::new();
        for (listener, config) in self.listeners {
            accepting.spawn(accept(listener, config, Arc::clone(&shared), connections.clone()));
        }
        accepting.join_all().await;
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!("some clients are cut off in the middle of a message; they keep it");
            shared.cut_off.cancel();
            connections.wait().await;
        }
        stop_background.cancel();
        background.close();
        background.wait().await;
        Ok(())
    }
}

async fn start_background(shared: &Arc<Shared>, tasks: &TaskTracker, stop: &CancellationToken) {
    // Before the first message, if it can be: then no verdict is missed. While it cannot, no log takes mail either,
    // and clients are told so rather than left waiting.
    let opened = shared.verdicts.open(&shared.log).await;
    if let Err(error) = &opened {
        tracing::warn!(%error, "replies cannot be followed yet");
    }
    tasks.spawn(shared.verdicts.clone().follow(opened.ok(), Arc::clone(&shared.log), stop.clone()));
    let (node, log) = (shared.config.node.clone(), Arc::clone(&shared.log));
    tasks.spawn(shared.refusals.clone().flush_until(node, log, stop.clone()));
    if let Some(certificate) = shared.certificate.clone() {
        let expires = shared.metrics.certificate_expires.clone();
        tasks.spawn(certificate.watch(expires, Arc::clone(&shared.clock), stop.clone()));
    }
    tasks.spawn(watch_lag(Arc::clone(shared), stop.clone()));
}

async fn watch_lag(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        for (index, (group, topic)) in GROUPS.into_iter().enumerate() {
            if let Ok(lag) = shared.log.lag(group, topic).await {
                shared
                    .metrics
                    .lag
                    .get_or_create(&Group { group })
                    .set(i64::try_from(lag).unwrap_or(i64::MAX));
                shared.gate.set_lag(index, lag);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LAG_EVERY) => {}
        }
    }
}

async fn accept(
    listener: TcpListener,
    config: ListenerConfig,
    shared: Arc<Shared>,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let door = door(stream, peer, &config);
                connections.spawn(connection::serve(door, Arc::clone(&shared)));
            }
            Err(error) => {
                // Out of file descriptors, most likely: the clients come again.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn door(stream: TcpStream, peer: SocketAddr, config: &ListenerConfig) -> Door {
    let ip = peer.ip().to_canonical();
    Door {
        stream,
        peer: SocketAddr::new(ip, peer.port()),
        tls: config.tls,
        auth_without_tls: config.auth_without_tls,
        expect_proxy_header: config.proxy_protocol_from.iter().any(|range| range.contains(&ip)),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Whether the machine has no address of this kind at all: without IPv6 a socket of it cannot even be made.
fn is_of_another_family(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

/// As many files as the system allows: each connection is one.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_not_a_missing_family() {
        let error = |errno: rustix::io::Errno| std::io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(is_of_another_family(&error(rustix::io::Errno::AFNOSUPPORT)));
        assert!(is_of_another_family(&error(rustix::io::Errno::ADDRNOTAVAIL)));
        assert!(!is_of_another_family(&error(rustix::io::Errno::ADDRINUSE)));
        assert!(!is_of_another_family(&error(rustix::io::Errno::ACCESS)));
    }
}
