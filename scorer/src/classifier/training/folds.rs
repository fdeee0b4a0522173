//! Folds for measuring: messages that are nearly the same stay together, or what is measured would be memory.

use std::collections::HashMap;

use super::learner::Example;
use crate::classifier::features::{Block, mix};

/// Pairs of words, the smallest by hash, that stand for a text.
const SKETCH: usize = 3;

/// A fold for each example, from 0 below `folds`: those with the same subject, or with the same text but for a few words,
/// are in one.
#[must_use]
pub fn folds(examples: &[&Example], folds: usize) -> Vec<usize> {
    let mut groups = Groups { parent: (0..examples.len()).collect() };
    let mut first_with: HashMap<u64, usize> = HashMap::new();
    for (at, example) in examples.iter().enumerate() {
        for signature in [subject(example), text(example)].into_iter().flatten() {
            let other = *first_with.entry(signature).or_insert(at);
            groups.join(at, other);
        }
    }
    (0..examples.len()).map(|at| (mix(groups.root(at) as u64, 7) % folds.max(1) as u64) as usize).collect()
}

fn subject(example: &Example) -> Option<u64> {
    let keys = example.block(Block::Subject);
    (keys.len() > 2).then(|| keys.iter().fold(1, |all, key| all ^ key))
}

fn text(example: &Example) -> Option<u64> {
    let mut keys = example.block(Block::Pairs).to_vec();
    if keys.len() < 10 {
        return None;
    }
    keys.select_nth_unstable(SKETCH);
    Some(keys[..SKETCH].iter().fold(2, |all, key| all ^ key))
}

/// Groups that can be joined.
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn root(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        // The smaller number stays, so that the order of the messages decides nothing else.
        self.parent[one.max(other)] = one.min(other);
    }
}
