//! Opens the log that the configuration names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::kafka::KafkaLog;
use eventlog::{Clock, Log, LogError};

use crate::config::{Config, LogEngine};
use crate::roles::Roles;

/// How long a process that starts waits for brokers that do not answer.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// The log, and how to copy it where it is ours alone.
pub struct Opened {
    pub log: Log,
    pub backup: Option<control::BackupHook>,
}

/// # Errors
/// When it cannot be opened, or not for these roles alone.
pub async fn open(config: &Config, roles: &Roles, clock: &Arc<dyn Clock>) -> anyhow::Result<Opened> {
    match &config.log {
        LogEngine::Embedded { min_free_bytes } => {
            if !roles.are_all() {
                anyhow::bail!(
                    "--only needs engine = \"kafka\": the embedded log belongs to one process, which runs every role; leave --only out"
                );
            }
            crate::migrate::marker::check_directory(&config.data_dir.join("log"))?;
            let directory = EmbeddedConfig::new(config.data_dir.join("log"));
            let embedded = EmbeddedLog::open(
                EmbeddedConfig { min_free_bytes: *min_free_bytes, ..directory },
                Arc::clone(clock),
            )?;
            Ok(Opened { log: Arc::clone(&embedded) as Log, backup: Some(backup_of(embedded)) })
        }
        LogEngine::Kafka(kafka) => {
            let log: Log = KafkaLog::open(kafka.clone()).await?;
            // On half of a log mail would be missing, or leave twice once it is whole.
            patiently(|| crate::migrate::marker::check(&log)).await?;
            Ok(Opened { log, backup: None })
        }
    }
}

/// Tries again while the log is only away: a broker that restarts must not keep a process from starting.
async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(ask: impl Fn() -> F) -> anyhow::Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if is_away(&error) && Instant::now() < until => {
                tracing::warn!(%error, "the log is not available yet, trying again");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<LogError>().is_some_and(LogError::is_transient))
}

fn backup_of(embedded: Arc<EmbeddedLog>) -> control::BackupHook {
    Arc::new(move |directory| {
        let embedded = Arc::clone(&embedded);
        Box::pin(async move { embedded.backup(&directory).await })
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn a_log_that_is_only_away_is_asked_again_and_what_is_wrong_is_told_at_once() {
        let asked = Cell::new(0);
        let answer = patiently(|| {
            asked.set(asked.get() + 1);
            let away = asked.get() < 3;
            async move {
                if away {
                    Err(anyhow::Error::new(LogError::Unavailable("a broker restarts".into()))
                        .context("plans"))
                } else {
                    Ok(7)
                }
            }
        });
        assert_eq!((answer.await.expect("it comes back"), asked.get()), (7, 3));
        let refused: anyhow::Result<()> =
            patiently(|| async { Err(anyhow::anyhow!("moved elsewhere")) }).await;
        assert!(refused.is_err());
    }
}
