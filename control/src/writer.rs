//! The one writer of settings: checks, compares, and writes `settings` and `changes` in one append.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{Clock, Log, NewRecord, View};
use schemas::sealed::ClusterKey;
use schemas::settings::{Change, Setting, SettingsView};
use schemas::{Timestamp, Topic};
use tokio::sync::Mutex;

use crate::api::{ApplyAnswer, ApplyRequest, DiffEntry, PlanAnswer, SettingsFile};
use crate::diff::{self, Step};
use crate::redact;
use crate::resolve::{self, Mode};
use crate::{Error, settings_file};

/// How long a view may take to take in what was written, or to catch up at the start.
const VIEW_TIMEOUT: Duration = Duration::from_secs(10);

/// The writer; one of these exists per log.
pub struct SettingsWriter {
    log: Log,
    clock: Arc<dyn Clock>,
    view: View<SettingsView>,
    cluster_key: ClusterKey,
    /// Held while settings change; the version that was written last, which the view must have reached before the next
    /// comparison.
    last_written: Mutex<Option<u64>>,
}

impl SettingsWriter {
    #[must_use]
    pub fn new(log: Log, clock: Arc<dyn Clock>, view: View<SettingsView>, cluster_key: ClusterKey) -> Self {
        SettingsWriter { log, clock, view, cluster_key, last_written: Mutex::default() }
    }

    #[must_use]
    pub fn cluster_key(&self) -> &ClusterKey {
        &self.cluster_key
    }

    /// The settings in force.
    ///
    /// # Errors
    /// `Unavailable`: settings are still being read.
    pub async fn settings(&self) -> Result<SettingsView, Error> {
        self.caught_up(None).await?;
        Ok(self.view.read().clone())
    }

    /// What applying a file would change.
    ///
    /// # Errors
    /// `Settings`: everything that is wrong with the file. `Unavailable`: settings are still being read.
    pub async fn plan(&self, file: SettingsFile) -> Result<PlanAnswer, Error> {
        self.caught_up(None).await?;
        let current = self.view.read().clone();
        let version = version_of(&current);
        let steps = blocking(move || steps_of(&file, &current, Mode::Plan)).await?;
        Ok(PlanAnswer { version, diff: entries(&steps) })
    }

    /// Makes the settings what a file says.
    ///
    /// # Errors
    /// As `plan`; `Conflict` when the settings have changed since `expected_version`; what the log says.
    pub async fn apply(&self, by: &str, request: ApplyRequest) -> Result<ApplyAnswer, Error> {
        let mut last_written = self.last_written.lock().await;
        self.caught_up(*last_written).await?;
        let current = self.view.read().clone();
        let version = version_of(&current);
        if version != request.expected_version {
            return Err(Error::conflict(
                format!(
                    "the settings have changed since they were compared: expected version {}, found {}",
                    shown(request.expected_version),
                    shown(version)
                ),
                "compare again, then apply; `mailweir settings --changes` shows who changed what",
            ));
        }
        let cluster_key = self.cluster_key.clone();
        let now = self.clock.now();
        let steps = blocking(move || {
            steps_of(&request.file, &current, Mode::Apply { cluster_key: &cluster_key, now })
        })
        .await?;
        self.write(by, steps, &mut last_written).await
    }

    /// Puts one setting in place. `must_be_new`: `Conflict` when there is one of its key.
    ///
    /// # Errors
    /// `Conflict`, `Unavailable`; what the log says.
    pub async fn put(&self, by: &str, setting: Setting, must_be_new: bool) -> Result<ApplyAnswer, Error> {
        let mut last_written = self.last_written.lock().await;
        self.caught_up(*last_written).await?;
        let key = setting.key();
        if must_be_new && self.view.read().get(&key).is_some() {
            return Err(Error::conflict(
                format!("there is a setting `{key}` already"),
                "use another name, or remove the one that is there first",
            ));
        }
        let step = diff::put(&self.view.read(), setting);
        self.write(by, step.into_iter().collect(), &mut last_written).await
    }

    /// Removes one setting; the answer's diff is empty when it was not there.
    ///
    /// # Errors
    /// `Unavailable`; what the log says.
    pub async fn remove(&self, by: &str, key: &str) -> Result<ApplyAnswer, Error> {
        let mut last_written = self.last_written.lock().await;
        self.caught_up(*last_written).await?;
        let step = diff::remove(&self.view.read(), key);
        self.write(by, step.into_iter().collect(), &mut last_written).await
    }

    async fn write(
        &self,
        by: &str,
        steps: Vec<Step>,
        last_written: &mut Option<u64>,
    ) -> Result<ApplyAnswer, Error> {
        if steps.is_empty() {
            let version = version_of(&self.view.read());
            return Ok(ApplyAnswer { version, diff: Vec::new(), in_force: true });
        }
        let records = records(by, self.clock.now(), &steps)?;
        let positions = self.log.append(records).await?;
        let version = positions.iter().filter(|p| p.topic == Topic::Settings).map(|p| p.offset).max();
        *last_written = version;
        let reached = self.view.wait_until(|view| version_of(view) >= version);
        let in_force = tokio::time::timeout(VIEW_TIMEOUT, reached).await.is_ok();
        tracing::info!(by, settings = steps.len(), version, in_force, "settings changed");
        Ok(ApplyAnswer { version, diff: entries(&steps), in_force })
    }

    /// A comparison with settings that are half read would remove the other half.
    async fn caught_up(&self, version: Option<u64>) -> Result<(), Error> {
        let ready = async {
            self.view.caught_up().await;
            self.view.wait_until(|view| version_of(view) >= version).await;
        };
        tokio::time::timeout(VIEW_TIMEOUT, ready).await.map_err(|_| {
            Error::unavailable(
                "the settings are still being read from the log",
                "look at `mailweir status`, and try again when the view `settings` is caught up",
            )
        })
    }
}

/// The version of the settings: the offset of their newest record; none when there never was one.
#[must_use]
pub fn version_of(view: &SettingsView) -> Option<u64> {
    // Offset 0 exists, so a version of 0 alone does not tell.
    (view.version > 0 || view.iter().next().is_some()).then_some(view.version)
}

fn shown(version: Option<u64>) -> String {
    version.map_or_else(|| "none".into(), |version| version.to_string())
}

fn entries(steps: &[Step]) -> Vec<DiffEntry> {
    steps.iter().map(|step| step.entry.clone()).collect()
}

fn steps_of(file: &SettingsFile, current: &SettingsView, mode: Mode<'_>) -> Result<Vec<Step>, Error> {
    let wanted = settings_file::parse(&file.text, &file.key_files, current).map_err(Error::Settings)?;
    Ok(diff::declarative(current, resolve::resolve(wanted, current, mode)?))
}

/// Hashing and key making are slow on purpose; they must not hold up a thread of the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("a computation ended early: {error}"))))
}

/// A record of `settings` and one of `changes` for each step.
fn records(by: &str, at: Timestamp, steps: &[Step]) -> Result<Vec<NewRecord>, Error> {
    let mut records = Vec::with_capacity(2 * steps.len());
    for step in steps {
        let key = step.entry.key.clone();
        let change = Change {
            key: key.clone(),
            at,
            by: by.to_owned(),
            before: step.before.as_ref().map(redact::setting),
            after: step.after.as_ref().map(redact::setting),
        };
        records.push(match &step.after {
            Some(setting) => NewRecord::new(Topic::Settings, key.clone(), key.clone(), json(setting)?),
            None => NewRecord::tombstone(Topic::Settings, key.clone(), key.clone()),
        });
        records.push(NewRecord::new(Topic::Changes, key.clone(), key, json(&change)?));
    }
    Ok(records)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value)
        .map_err(|error| Error::Internal(format!("a setting cannot be written: {error}")))
}
