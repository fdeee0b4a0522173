//! A view: state folded from a compacted topic, kept current in the background.

use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Duration;

use schemas::Topic;
use schemas::models::ModelsView;
use schemas::senders::SendersView;
use schemas::settings::SettingsView;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Log, Record, TableEvent};

/// State folded from a topic; clones share it. It is current to within the time the log takes to wake its readers.
pub struct View<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: RwLock<T>,
    /// Number of records applied, and whether everything that stood in the topic at the start is among them.
    progress: watch::Sender<Progress>,
}

/// How far a view has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub records: u64,
    pub caught_up: bool,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        View { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + Sync + 'static> View<T> {
    /// Follows `topic` from its start until `shutdown`; `apply` takes each record. An unavailable log is tried again.
    pub fn follow<F>(log: Log, topic: Topic, initial: T, apply: F, shutdown: CancellationToken) -> Self
    where
        F: Fn(&mut T, &Record) + Send + Sync + 'static,
    {
        let shared = Arc::new(Shared {
            state: RwLock::new(initial),
            progress: watch::Sender::new(Progress::default()),
        });
        let view = View { shared: Arc::clone(&shared) };
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = run(&log, topic, &shared, &apply) => {}
            }
        });
        view
    }

    /// The state now. Hold the guard briefly and never across an await.
    ///
    /// # Panics
    /// When `apply` panicked before.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.shared.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.shared.progress.borrow().caught_up
    }

    /// Resolves when everything that stood in the topic at the start has been applied.
    pub async fn caught_up(&self) {
        let mut progress = self.shared.progress.subscribe();
        let _ = progress.wait_for(|p| p.caught_up).await;
    }

    /// Resolves when `predicate` holds for the state, now or after a later record.
    pub async fn wait_until(&self, predicate: impl Fn(&T) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        loop {
            progress.borrow_and_update();
            if predicate(&self.read()) || progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells of every change to the state.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }
}

async fn run<T, F: Fn(&mut T, &Record)>(log: &Log, topic: Topic, shared: &Shared<T>, apply: &F) {
    loop {
        let mut table = match log.table(topic, None).await {
            Ok(table) => table,
            Err(crate::LogError::Closed) => return,
            Err(error) => {
                tracing::warn!(%topic, %error, "view cannot be opened, trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        loop {
            match table.next(1000).await {
                Ok(events) => take(shared, apply, &events),
                Err(crate::LogError::Closed) => return,
                Err(error) => {
                    tracing::warn!(%topic, %error, "view cannot be read, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    break;
                }
            }
        }
    }
}

fn take<T, F: Fn(&mut T, &Record)>(shared: &Shared<T>, apply: &F, events: &[TableEvent]) {
    let mut records = 0;
    let mut caught_up = false;
    {
        let mut state = shared.state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for event in events {
            match event {
                TableEvent::Row(record) => {
                    apply(&mut state, record);
                    records += 1;
                }
                TableEvent::CaughtUp => caught_up = true,
            }
        }
    }
    shared.progress.send_modify(|progress| {
        progress.records += records;
        progress.caught_up |= caught_up;
    });
}

/// The settings, followed; one of these is shared by every worker of a process.
#[must_use]
pub fn settings(log: Log, shutdown: CancellationToken) -> View<SettingsView> {
    let apply = |view: &mut SettingsView, record: &Record| {
        let position = record.position;
        match view.apply(&record.key, record.value.as_deref(), position.offset) {
            Ok(unknown) if unknown.is_empty() => {}
            Ok(unknown) => {
                let key = String::from_utf8_lossy(&record.key);
                let unknown = unknown.join(", ");
                tracing::warn!(%position, %key, unknown, "a setting of a later version is taken without what is not known here");
            }
            Err(error) => {
                tracing::error!(%position, %error, "a settings record does not parse, it is passed over");
            }
        }
    };
    View::follow(log, Topic::Settings, SettingsView::default(), apply, shutdown)
}

/// The versions of what the classifier has learnt, followed.
#[must_use]
pub fn models(log: Log, shutdown: CancellationToken) -> View<ModelsView> {
    let apply = |view: &mut ModelsView, record: &Record| {
        if let Err(error) = view.apply(&record.key, record.value.as_deref()) {
            tracing::error!(position = %record.position, %error, "a record of models does not parse, it is passed over");
        }
    };
    View::follow(log, Topic::Models, ModelsView::default(), apply, shutdown)
}

/// The mirror of `senders`, followed.
#[must_use]
pub fn senders(log: Log, shutdown: CancellationToken) -> View<SendersView> {
    let apply = |view: &mut SendersView, record: &Record| {
        if let Err(error) = view.apply(&record.key, record.value.as_deref()) {
            tracing::error!(position = %record.position, %error, "a senders record does not parse, it is passed over");
        }
    };
    View::follow(log, Topic::Senders, SendersView::default(), apply, shutdown)
}
