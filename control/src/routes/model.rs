//! What the content classifier has learnt: its versions, and back to an earlier one.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use eventlog::{Log, NewRecord, TableEvent};
use schemas::Topic;
use schemas::models::{self, ModelRecord, ModelsView};

use super::request::{Actor, Body};
use crate::api::{ModelAnswer, ModelVersion, RollbackRequest};
use crate::{Context, Error};

const ROWS_AT_ONCE: usize = 100;

pub async fn show(State(context): State<Context>) -> Result<Json<ModelAnswer>, Error> {
    let view = read(&context.log).await?;
    let newest = view.newest();
    Ok(Json(ModelAnswer {
        versions: view
            .deltas()
            .map(|delta| ModelVersion {
                number: delta.number,
                base: delta.base.clone(),
                at: delta.at,
                why: delta.why.clone(),
                learnt: delta.learnt,
                agreed: delta.agreed,
                capped: delta.capped,
                weights: delta.weights.len() as u64,
            })
            .collect(),
        influence: newest.map(|delta| delta.influence.clone()).unwrap_or_default(),
    }))
}

/// Only asks: the learner is the one writer of versions.
pub async fn roll_back(
    State(context): State<Context>,
    Actor(by): Actor,
    Body(request): Body<RollbackRequest>,
) -> Result<Json<ModelAnswer>, Error> {
    let view = read(&context.log).await?;
    if request.to != 0 && !view.deltas().any(|delta| delta.number == request.to) {
        return Err(Error::NotFound {
            error: format!("there is no version {}", request.to),
            fix: "`mailweir model` lists those that are kept; 0 is the model as it was trained".into(),
        });
    }
    let before = view.newest().map_or(0, |delta| delta.number);
    let why = models::rolled_back(request.to, &by);
    let record = ModelRecord::Rollback { to: request.to, by, at: context.clock.now() };
    let value = serde_json::to_vec(&record)
        .map_err(|error| Error::Internal(format!("a record cannot be written: {error}")))?;
    let key = models::key(&record);
    context.log.append(vec![NewRecord::new(Topic::Models, key.clone(), key.clone(), value)]).await?;
    let wait = async {
        loop {
            // The learner removes what it was asked, together with the version that comes of it; others may come before.
            let (view, asked) = read_with_rollbacks(&context.log).await?;
            if !asked.contains(key.as_bytes()) {
                let is_done = |delta: &models::Delta| delta.number > before && delta.why.contains(&why);
                return Ok::<bool, Error>(view.deltas().any(is_done));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(context.config.command_timeout, wait).await;
    let is_done = waited.map_err(|_| Error::Unavailable {
        error: "given, not yet done".into(),
        fix: "it is in the log: the learner does it as soon as a scorer runs".into(),
    })??;
    if !is_done {
        return Err(Error::conflict(
            format!("the learner did not go back to version {}: it belongs to another model", request.to),
            "the BASE of a version in `mailweir model` must be the model in use; 0 is that model as it was trained",
        ));
    }
    show(State(context)).await
}

/// What was learnt: read when it is asked for, which is seldom: versions are large, and nothing else here needs them.
///
/// # Errors
/// What the log says.
pub async fn read(log: &Log) -> Result<ModelsView, Error> {
    Ok(read_with_rollbacks(log).await?.0)
}

/// The same, and the keys of the rollbacks that the learner has not come to.
async fn read_with_rollbacks(log: &Log) -> Result<(ModelsView, BTreeSet<Vec<u8>>), Error> {
    let mut view = ModelsView::default();
    let mut asked = BTreeSet::new();
    let mut table = log.table(Topic::Models, None).await?;
    loop {
        for event in table.next(ROWS_AT_ONCE).await? {
            match event {
                TableEvent::CaughtUp => return Ok((view, asked)),
                TableEvent::Row(record) => {
                    if record.value.is_none() {
                        asked.remove(&record.key[..]);
                    } else if record.key.starts_with(models::ROLLBACK.as_bytes()) {
                        asked.insert(record.key.to_vec());
                    }
                    if let Err(error) = view.apply(&record.key, record.value.as_deref()) {
                        tracing::error!(position = %record.position, %error, "a record of models does not parse, it is passed over");
                    }
                }
            }
        }
    }
}
