//! Training: from folders of mail to a model. The same folders and seed give the same model, bit for bit.
//!
//! `corpus` finds the messages, `folds` keeps near-duplicates together, `learner` learns, `calibrate` makes probabilities
//! and the two points of what a model says of messages that it did not see, `measure` says how good it is.

pub mod calibrate;
pub mod corpus;
pub mod folds;
pub mod invented;
pub mod learner;
pub mod measure;
pub mod report;

use std::collections::HashMap;
use std::path::PathBuf;

use calibrate::Scored;
use corpus::{CorpusError, Labelled};
use learner::{Example, Recipe};

use super::lexicon::Lexicon;
use super::model::{Card, Model};

const FOLDS: usize = 5;

/// What to train with.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub directories: Vec<PathBuf>,
    /// Files with corrections of labels: path as in the index, tab, label.
    pub corrections: Vec<PathBuf>,
    /// Corpora that are left out, by the beginnings of their names.
    pub without: Vec<String>,
    /// How much the messages of a corpus count, by the beginning of its name; 1 where nothing is said.
    pub counts: Vec<(String, f32)>,
    /// Messages to invent and train with besides.
    pub invented: usize,
    /// Train with the messages that the index holds out, too.
    pub with_held_out: bool,
    pub recipe: Recipe,
    /// Of the model; its version begins with it.
    pub name: String,
}

/// A labelled message with its features.
pub struct Prepared {
    pub labelled: Labelled,
    pub example: Example,
}

/// Reads all messages and makes their features, on as many threads as the machine has processors.
///
/// # Errors
/// When a directory or message cannot be read.
pub fn prepare(plan: &Plan) -> Result<Vec<Prepared>, CorpusError> {
    let mut messages = Vec::new();
    for directory in &plan.directories {
        messages.extend(corpus::list(directory)?);
    }
    for corrections in &plan.corrections {
        corpus::correct(&mut messages, corrections)?;
    }
    let lexicon = Lexicon::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = messages.len().div_ceil(threads).max(1);
    let work =
        |messages: Vec<Labelled>| messages.into_iter().map(|m| prepare_one(m, plan, &lexicon)).collect();
    let mut shares = Vec::new();
    while !messages.is_empty() {
        shares.push(messages.drain(..share.min(messages.len())).collect::<Vec<_>>());
    }
    std::thread::scope(|scope| {
        let running: Vec<_> = shares.into_iter().map(|share| scope.spawn(|| work(share))).collect();
        let mut prepared = invent(plan, &lexicon);
        for thread in running {
            let part: Result<Vec<Prepared>, CorpusError> =
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            prepared.extend(part?);
        }
        Ok(prepared)
    })
}

/// Corpus of the messages that we invented.
pub const INVENTED: &str = "invented";
/// They are many and alike: each counts less than one that somebody has sent.
const INVENTED_COUNTS: f32 = 0.3;

fn invent(plan: &Plan, lexicon: &Lexicon) -> Vec<Prepared> {
    let invented = invented::messages(plan.invented, plan.recipe.seed, lexicon);
    invented
        .iter()
        .map(|invented| {
            let features = crate::score_file::features_of(invented.message.as_bytes(), lexicon);
            let is_spam = invented.is_spam;
            let labelled =
                Labelled { path: PathBuf::new(), is_spam, corpus: INVENTED.into(), is_held_out: false };
            Prepared { example: Example::of(&features, is_spam, INVENTED_COUNTS), labelled }
        })
        .collect()
}

fn prepare_one(labelled: Labelled, plan: &Plan, lexicon: &Lexicon) -> Result<Prepared, CorpusError> {
    let message = corpus::read(&labelled.path)?;
    let features = crate::score_file::features_of(&message, lexicon);
    let weight =
        plan.counts.iter().find(|(name, _)| labelled.corpus.starts_with(name)).map_or(1.0, |(_, w)| *w);
    Ok(Prepared { example: Example::of(&features, labelled.is_spam, weight), labelled })
}

/// Trains on all of `messages`.
///
/// # Errors
/// When they are all of one kind.
pub fn train(messages: &[&Prepared], plan: &Plan) -> Result<Model, CorpusError> {
    let real = || messages.iter().filter(|m| m.labelled.corpus != INVENTED);
    let spam = real().filter(|m| m.labelled.is_spam).count();
    let ham = real().count() - spam;
    if spam == 0 || ham == 0 {
        return Err(CorpusError::OneKind { spam, ham });
    }
    let unseen = cross_validate(messages, &plan.recipe);
    let calibration = calibrate::fit(&unseen);
    let examples: Vec<&Example> = messages.iter().map(|m| &m.example).collect();
    let weights = learner::learn(&examples, &plan.recipe);
    let card = Card {
        format: 0,
        version: String::new(),
        bias: weights.bias,
        scale: 0.0,
        calibration,
        spam_threshold: calibrate::operating_point(&unseen, calibration, 0.001, 0.02),
        suspect_threshold: calibrate::operating_point(&unseen, calibration, 0.01, 0.1),
        seed: plan.recipe.seed,
        ham,
        spam,
    };
    Ok(Model::of_weights(&weights.of_bucket, &plan.name, card))
}

/// Each message's sum by a model that saw neither it nor what is nearly the same; invented messages are trained with, but not
/// measured with.
#[must_use]
pub fn cross_validate(messages: &[&Prepared], recipe: &Recipe) -> Vec<Scored> {
    let examples: Vec<&Example> = messages.iter().map(|m| &m.example).collect();
    let folds = folds::folds(&examples, FOLDS);
    let mut sums: HashMap<usize, f32> = HashMap::new();
    for fold in 0..FOLDS {
        let others: Vec<&Example> =
            examples.iter().zip(&folds).filter(|(_, f)| **f != fold).map(|(e, _)| *e).collect();
        let weights = learner::learn(&others, recipe);
        let of_fold = (0..examples.len()).filter(|at| folds[*at] == fold);
        sums.extend(of_fold.map(|at| (at, weights.score(examples[at]))));
    }
    let scored = |(at, message): (usize, &&Prepared)| Scored {
        sum: sums.get(&at).copied().unwrap_or_default(),
        is_spam: message.labelled.is_spam,
        corpus: message.labelled.corpus.clone(),
    };
    messages.iter().enumerate().filter(|(_, m)| m.labelled.corpus != INVENTED).map(scored).collect()
}

impl Plan {
    /// Whether a message is trained with.
    #[must_use]
    pub fn takes(&self, labelled: &Labelled) -> bool {
        let left_out = self.without.iter().any(|name| labelled.corpus.starts_with(name));
        !left_out && (self.with_held_out || !labelled.is_held_out)
    }
}
