//! Deletes what is older than `keep`, again and again.

use std::sync::Arc;
use std::time::Duration;

use eventlog::Clock;

use crate::StatsStore;

const EVERY: Duration = Duration::from_secs(600);

pub(super) async fn run(store: Arc<dyn StatsStore>, keep: Duration, clock: Arc<dyn Clock>) {
    loop {
        let now = clock.now();
        let limit = now.minus(keep);
        loop {
            let store = Arc::clone(&store);
            match tokio::task::spawn_blocking(move || store.expire(limit)).await {
                Ok(Ok(0)) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "old statistics cannot be deleted now");
                    break;
                }
                Err(panic) => {
                    tracing::error!(%panic, "the statistics store panicked");
                    break;
                }
            }
        }
        clock.sleep_until(now.plus(EVERY)).await;
    }
}
