//! Messages that are still in the log, judged again.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use control::message::{self, StoredMessage};
use control::{Context, Error};
use eventlog::LogError;
use schemas::Position;
use schemas::verdict::Verdict;
use scorer::Classifier;
use scorer::classifier::model::Model;
use scorer::policy::Policy;
use scorer::recompute;

use super::fold::Found;

/// After this time, which is longer than `accepted` is kept, a message is gone that is not in quarantine.
const KEPT: Duration = Duration::from_secs(3 * 24 * 3600);

/// Reads messages, so many and no more.
pub struct Bodies {
    left: u64,
    /// The model of the configuration.
    model: Option<PathBuf>,
    /// Made when the first message needs it.
    classifier: Option<Classifier>,
}

impl Bodies {
    /// `model`: in base64, in place of that of the configuration with what was learnt since.
    ///
    /// # Errors
    /// `Invalid` when it is none.
    pub fn new(configured: Option<PathBuf>, model: Option<String>, max: u64) -> Result<Self, Error> {
        let decode = |text: String| {
            let octets = base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| e.to_string())?;
            Model::decode(&octets).map(Classifier::new).map_err(|error| error.to_string())
        };
        let classifier = model.map(decode).transpose().map_err(|error| {
            Error::invalid(
                format!("the model cannot be used: {error}"),
                "name a file that `mailweir train` wrote",
            )
        })?;
        Ok(Bodies { left: max, model: configured, classifier })
    }

    /// Judges the message of a verdict again. `otherwise`: what is found when it is gone.
    ///
    /// # Errors
    /// What the log says.
    pub async fn judge(
        &mut self,
        context: &Context,
        verdict: &Verdict,
        policy: &Policy,
        otherwise: Found,
    ) -> Result<Found, Error> {
        if !may_be_kept(context, verdict) {
            return Ok(otherwise);
        }
        if self.left == 0 {
            return Ok(Found::NotRead);
        }
        let Some(stored) = read(context, verdict).await? else { return Ok(otherwise) };
        self.left -= 1;
        let classifier = match &self.classifier {
            Some(classifier) => classifier,
            None => self.classifier.insert(in_force(context, self.model.clone()).await?),
        };
        let judge = || recompute::judge_again(verdict, &stored.envelope, &stored.content, policy, classifier);
        // As in the scorer: a defect of a parser costs this message, not all the others.
        match std::panic::catch_unwind(AssertUnwindSafe(judge)) {
            Ok(decision) => Ok(Found::Decided { decision, from_body: true }),
            Err(_) => {
                tracing::error!(message.id = %verdict.message.id, "a defect of the scorer: a message cannot be judged again");
                Ok(otherwise)
            }
        }
    }
}

/// Whether it is worth looking for.
fn may_be_kept(context: &Context, verdict: &Verdict) -> bool {
    let age = context.clock.now().since(verdict.message.accepted_at);
    age < KEPT || context.quarantine.read().get(verdict.message.id).is_some()
}

/// The message of a verdict: where it was accepted, or in quarantine; none when it is gone.
async fn read(context: &Context, verdict: &Verdict) -> Result<Option<StoredMessage>, Error> {
    let id = verdict.message.id;
    if let Some(stored) = read_at(context, verdict.accepted).await?
        && stored.envelope.id == id
    {
        return Ok(Some(stored));
    }
    let position = context.quarantine.read().get(id).map(|row| row.position);
    let Some(position) = position else { return Ok(None) };
    Ok(read_at(context, position).await?.filter(|stored| stored.envelope.id == id))
}

async fn read_at(context: &Context, position: Position) -> Result<Option<StoredMessage>, Error> {
    match message::read(&context.log, position, true).await {
        Ok(stored) => Ok(Some(stored)),
        // Its retention is over, or a chunk's is; or another log was moved here, whose positions were others.
        Err(Error::NotFound { .. } | Error::Internal(_)) => Ok(None),
        Err(Error::Log(LogError::Damaged { .. } | LogError::NoSuchPartition { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What scores now: the model of the configuration with what was learnt since.
async fn in_force(context: &Context, model: Option<PathBuf>) -> Result<Classifier, Error> {
    let learnt = control::read_models(&context.log).await?;
    let load = move || {
        let trained = crate::pipeline::classifier_of(model.as_deref()).map_err(|error| {
            Error::Internal(format!("the model of the configuration cannot be read: {error:#}"))
        })?;
        let with_delta = learnt.newest().and_then(|delta| trained.with_delta(delta));
        Ok(with_delta.unwrap_or(trained))
    };
    tokio::task::spawn_blocking(load)
        .await
        .unwrap_or_else(|error| Err(Error::Internal(format!("the model cannot be read: {error}"))))
}
