//! One process, its roles: opens the log, starts the workers over it, and stops them in the order that loses nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use eventlog::{Clock, Log, View};
use prometheus_client::registry::Registry;
use schemas::settings::SettingsView;
use schemas::{Topic, senders::SendersView};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, LogEngine};
use crate::log_engine;
use crate::roles::{Role, Roles};

/// How long a graceful stop waits for what was accepted to be judged.
const DRAIN: Duration = Duration::from_secs(10);

/// A running pipeline. Dropping it without `stop` is like a crash: nothing is lost, but nothing is finished either.
pub struct Pipeline {
    /// Where ingress listens, in the order of the configuration.
    pub smtp: Vec<SocketAddr>,
    /// Where metrics and health are served.
    pub http: Option<SocketAddr>,
    roles: Roles,
    log: Log,
    settings: View<SettingsView>,
    stop_ingress: CancellationToken,
    stop_workers: CancellationToken,
    stop_views: CancellationToken,
    ingress: JoinSet<(&'static str, anyhow::Result<()>)>,
    workers: JoinSet<(&'static str, anyhow::Result<()>)>,
}

/// What every role is given.
struct Shared {
    log: Log,
    clock: Arc<dyn Clock>,
    settings: View<SettingsView>,
    senders: View<SendersView>,
    /// Says whether mail is taken in; fed by ingress, where this process has one.
    gate: ingress::Gate,
}

/// Starts the roles of this process.
///
/// # Errors
/// When the log cannot be opened, an address cannot be bound, or a file named in the configuration cannot be used.
pub async fn start(config: &Config, roles: Roles, clock: Arc<dyn Clock>) -> anyhow::Result<Pipeline> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("data_dir: {} cannot be made", config.data_dir.display()))?;
    let cluster_key = control::cluster_key::load_or_create(&config.cluster_key_file)?;
    let opened = log_engine::open(config, &roles, &clock).await?;
    let log = opened.log;
    let stop_views = CancellationToken::new();
    let settings = eventlog::view::settings(Arc::clone(&log), stop_views.clone());
    let senders = eventlog::view::senders(Arc::clone(&log), stop_views.clone());
    let gate = ingress::Gate::new(Arc::clone(&log), settings.clone(), senders.clone(), config.max_lag);
    let shared = Shared { log: Arc::clone(&log), clock, settings, senders, gate };
    let mut registry = Registry::default();
    let stop_ingress = CancellationToken::new();
    let stop_workers = CancellationToken::new();
    let mut workers = JoinSet::new();
    if roles.has(Role::Scorer) {
        spawn_scorer(&mut workers, config, &shared, &mut registry, &stop_workers)?;
    }
    if roles.has(Role::Delivery) {
        spawn_delivery(&mut workers, config, &shared, &mut registry, cluster_key.clone(), &stop_workers);
    }
    let reporter_config = reporter_config(config, &cluster_key);
    let mut store = None;
    if roles.has(Role::Reporter) {
        let opened = reporter::open_store(&reporter_config)?;
        store = Some(Arc::clone(&opened));
        spawn_reporter(&mut workers, reporter_config.clone(), opened, &shared, &mut registry, &stop_workers);
    }
    let mut pages = axum::Router::new();
    if roles.has(Role::Control) {
        let store = match store {
            Some(store) => store,
            None => reporter::open_store(&reporter_config)?,
        };
        let control = start_control(config, &shared, cluster_key, opened.backup, &stop_views).await;
        pages = control::unlock_pages(control.clone());
        let whatif = crate::whatif::router(control.clone(), config.model.clone());
        let router = control::router(control).merge(reporter::router(store, Arc::clone(&log))).merge(whatif);
        let socket = crate::socket::bind(&config.control_socket())?;
        workers.spawn(named("control socket", crate::socket::serve(socket, router, stop_views.clone())));
    }
    // Last of all doors: whoever sees the SMTP port open finds the control socket, too.
    let ingress = match roles.has(Role::Ingress) {
        true => Some(bind_ingress(config, &mut registry).await?),
        false => None,
    };
    let smtp = ingress.as_ref().map_or_else(Vec::new, ingress::Ingress::addresses);
    let http = serve_http(&mut workers, config, &shared, registry, pages, &stop_views).await?;
    let mut ingress_set = JoinSet::new();
    if let Some(ingress) = ingress {
        let run = ingress.run(shared.gate.clone(), Arc::clone(&shared.clock), stop_ingress.clone());
        ingress_set.spawn(named("ingress", async { Ok(run.await?) }));
    }
    Ok(Pipeline {
        smtp,
        http,
        roles,
        log,
        settings: shared.settings,
        stop_ingress,
        stop_workers,
        stop_views,
        ingress: ingress_set,
        workers,
    })
}

impl Pipeline {
    /// The log, for whoever runs a pipeline inside a test.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &View<SettingsView> {
        &self.settings
    }

    /// Resolves when a role ended by itself, which none should.
    pub async fn failed(&mut self) -> anyhow::Error {
        let ended = tokio::select! {
            Some(ended) = self.ingress.join_next() => ended,
            Some(ended) = self.workers.join_next() => ended,
            else => return anyhow::anyhow!("no role is running"),
        };
        match ended {
            Ok((role, Ok(()))) => anyhow::anyhow!("{role} ended by itself"),
            Ok((role, Err(error))) => error.context(format!("{role} failed")),
            Err(panic) => anyhow::anyhow!("a role panicked: {panic}"),
        }
    }

    /// Stops: ingress first, then the rest once what was accepted has been judged (10 s at most; by whoever else scores,
    /// where this process does not), then the log.
    pub async fn stop(mut self) {
        self.stop_ingress.cancel();
        wait_for(&mut self.ingress).await;
        if self.roles.has(Role::Scorer) && tokio::time::timeout(DRAIN, self.judged()).await.is_err() {
            tracing::warn!("stopping with messages not judged yet; they are judged after the next start");
        }
        self.stop_workers.cancel();
        self.stop_views.cancel();
        wait_for(&mut self.workers).await;
        self.log.close().await;
    }

    async fn judged(&self) {
        while self.log.lag("scorer", Topic::Accepted).await.unwrap_or(0) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn wait_for(set: &mut JoinSet<(&'static str, anyhow::Result<()>)>) {
    while let Some(ended) = set.join_next().await {
        match ended {
            Ok((role, Ok(()))) => tracing::debug!(role, "stopped"),
            Ok((role, Err(error))) => {
                tracing::error!(role, error = format!("{error:#}"), "stopped with an error");
            }
            Err(panic) => tracing::error!(%panic, "a role panicked"),
        }
    }
}

async fn named(
    role: &'static str,
    run: impl Future<Output = anyhow::Result<()>>,
) -> (&'static str, anyhow::Result<()>) {
    (role, run.await)
}

async fn bind_ingress(config: &Config, registry: &mut Registry) -> anyhow::Result<ingress::Ingress> {
    if config.listeners.is_empty() {
        anyhow::bail!(
            "ingress.listener: there is no listener, and the default ones (587 with STARTTLS, 465 with TLS) need a \
             certificate; set [tls] certificate and key, or add [[ingress.listener]] with bind and tls = \"none\""
        );
    }
    Ok(ingress::Ingress::bind(ingress_config(config), registry).await?)
}

async fn serve_http(
    workers: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    config: &Config,
    shared: &Shared,
    registry: Registry,
    pages: axum::Router,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.http else { return Ok(None) };
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("http.bind: {address} cannot be bound"))?;
    let local = listener.local_addr()?;
    let run = crate::http::serve(listener, Arc::new(registry), shared.gate.clone(), pages, shutdown.clone());
    workers.spawn(named("http", run));
    Ok(Some(local))
}

fn ingress_config(config: &Config) -> ingress::Config {
    ingress::Config {
        node: config.node.clone(),
        hostname: config.hostname.clone(),
        listeners: config.listeners.clone(),
        tls: config.tls.clone(),
        verdict_timeout: config.verdict_timeout,
        limits: ingress::Limits { max_connections: config.max_connections, ..ingress::Limits::default() },
    }
}

fn spawn_scorer(
    workers: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    config: &Config,
    shared: &Shared,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let classifier = Arc::new(classifier(config)?);
    let metrics = scorer::Metrics::new(registry);
    let outside = Arc::new(outside(config, &shared.settings, &metrics)?);
    let config = scorer::Config {
        slots: config.scorer_slots,
        outside,
        ..scorer::Config::new(config.node.clone(), classifier)
    };
    let run = scorer::run(
        config,
        Arc::clone(&shared.log),
        Arc::clone(&shared.clock),
        shared.settings.clone(),
        metrics,
        shutdown.clone(),
    );
    workers.spawn(named("scorer", async { Ok(run.await?) }));
    Ok(())
}

/// Whom the scorer asks.
fn outside(
    config: &Config,
    settings: &View<SettingsView>,
    metrics: &scorer::Metrics,
) -> anyhow::Result<scorer::outside::Outside> {
    use scorer::outside::{Outside, alignment, dns, dns_lists::DnsLists};
    let mut outside = Outside {
        // The other half is for what comes before and after.
        deadline: config.verdict_timeout / 2,
        engines: scorer::outside::engines::Engines::new(config.engines.clone(), &metrics.engines),
        ..Outside::default()
    };
    let given = &config.alignment.addresses;
    // A relay behind this one is what receivers see, and only its operator knows its addresses.
    let aligned = config.alignment.enabled && (config.delivery.relay_host.is_none() || !given.is_empty());
    if config.dns_lists.is_empty() && !aligned {
        return Ok(outside);
    }
    let resolver = match dns::resolver(&config.delivery.dns_servers) {
        Ok(resolver) => resolver,
        Err(error) if config.dns_lists.is_empty() => {
            tracing::warn!(%error, "From domains are not looked up");
            return Ok(outside);
        }
        Err(error) => return Err(error).context("scorer.dns_list"),
    };
    if aligned {
        let node = alignment::Node { hostname: config.hostname.clone(), addresses: given.clone() };
        let alignment = alignment::Alignment::new(Arc::clone(&resolver), settings.clone(), node);
        outside.alignment = Some(Arc::new(alignment));
    }
    if !config.dns_lists.is_empty() {
        outside.dns_lists = Some(Arc::new(DnsLists::new(config.dns_lists.clone(), resolver)));
    }
    Ok(outside)
}

/// The content classifier that a configuration names.
///
/// # Errors
/// When its model cannot be read.
pub fn classifier(config: &Config) -> anyhow::Result<scorer::Classifier> {
    classifier_of(config.model.as_deref()).context("scorer.model")
}

/// The content classifier with a model file, or the one that ships with Mailweir.
///
/// # Errors
/// When the file cannot be read, or is no model.
pub fn classifier_of(model: Option<&std::path::Path>) -> anyhow::Result<scorer::Classifier> {
    use scorer::classifier::model::Model;
    let Some(path) = model else { return Ok(scorer::Classifier::shipped()?) };
    let file = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let model = Model::decode(&file).with_context(|| format!("{} cannot be used", path.display()))?;
    Ok(scorer::Classifier::new(model))
}

fn spawn_delivery(
    workers: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    config: &Config,
    shared: &Shared,
    registry: &mut Registry,
    cluster_key: schemas::sealed::ClusterKey,
    shutdown: &CancellationToken,
) {
    let run = delivery::run(
        delivery_config(config, cluster_key),
        Arc::clone(&shared.log),
        Arc::clone(&shared.clock),
        shared.settings.clone(),
        shared.senders.clone(),
        delivery::Metrics::new(registry),
        shutdown.clone(),
    );
    workers.spawn(named("delivery", async { Ok(run.await?) }));
}

fn delivery_config(config: &Config, cluster_key: schemas::sealed::ClusterKey) -> delivery::Config {
    let mut out = delivery::Config::new(config.node.clone(), config.hostname.clone());
    out.alone = matches!(config.log, LogEngine::Embedded { .. });
    out.relay_host.clone_from(&config.delivery.relay_host);
    out.dns_servers.clone_from(&config.delivery.dns_servers);
    out.smtp_port = config.delivery.smtp_port;
    out.cluster_key = Some(cluster_key);
    out.tls_roots_file.clone_from(&config.delivery.tls_roots_file);
    out.delay_notice_after = config.delivery.delay_notice_after;
    if !config.delivery.retry.is_empty() {
        out.retry = delivery::RetrySchedule::new(config.delivery.retry.clone());
    }
    if let Some(timeout) = config.delivery.connect_timeout {
        out.connect_timeout = timeout;
    }
    if let Some(timeout) = config.delivery.data_timeout {
        out.data_timeout = timeout;
    }
    if let Some(max) = config.delivery.max_in_flight {
        out.max_in_flight = max;
    }
    if let Some(max) = config.delivery.connections_per_site {
        out.connections_per_site = max;
    }
    out
}

fn reporter_config(config: &Config, cluster_key: &schemas::sealed::ClusterKey) -> reporter::Config {
    let unlock_links = config
        .public_url
        .clone()
        .map(|public_url| reporter::UnlockLinks { public_url, key: cluster_key.clone() });
    reporter::Config {
        node: config.node.clone(),
        hostname: config.hostname.clone(),
        database: config.database.clone(),
        clickhouse: config.clickhouse.clone(),
        default_abuse_address: config.abuse_address.clone(),
        report_from: config.report_from.clone(),
        unlock_links,
        keep: config.keep_statistics,
    }
}

fn spawn_reporter(
    workers: &mut JoinSet<(&'static str, anyhow::Result<()>)>,
    config: reporter::Config,
    store: Arc<dyn reporter::StatsStore>,
    shared: &Shared,
    registry: &mut Registry,
    shutdown: &CancellationToken,
) {
    let run = reporter::run(
        config,
        store,
        Arc::clone(&shared.log),
        Arc::clone(&shared.clock),
        shared.settings.clone(),
        reporter::Metrics::new(registry),
        shutdown.clone(),
    );
    workers.spawn(named("reporter", async { Ok(run.await?) }));
}

async fn start_control(
    config: &Config,
    shared: &Shared,
    cluster_key: schemas::sealed::ClusterKey,
    backup: Option<control::BackupHook>,
    shutdown: &CancellationToken,
) -> control::Context {
    let gate = shared.gate.clone();
    let obstacle: control::Obstacle = Arc::new(move || gate.shut().map(|shut| shut.to_string()));
    control::start(
        control::Config::new(config.node.clone()),
        Arc::clone(&shared.log),
        Arc::clone(&shared.clock),
        shared.settings.clone(),
        shared.senders.clone(),
        cluster_key,
        backup,
        obstacle,
        shutdown.clone(),
    )
    .await
}
