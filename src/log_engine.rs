//! Opens the log that the configuration names.

use std::sync::Arc;

use eventlog::embedded::{EmbeddedConfig, EmbeddedLog};
use eventlog::kafka::KafkaLog;
use eventlog::{Clock, Log};

use crate::config::{Config, LogEngine};
use crate::roles::Roles;

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
            crate::migrate::marker::check(&log).await?;
            Ok(Opened { log, backup: None })
        }
    }
}

fn backup_of(embedded: Arc<EmbeddedLog>) -> control::BackupHook {
    Arc::new(move |directory| {
        let embedded = Arc::clone(&embedded);
        Box::pin(async move { embedded.backup(&directory).await })
    })
}
