//! Logistic regression over hashed features, learnt one message at a time (AdaGrad).

use std::collections::HashMap;

use crate::classifier::features::{BLOCKS, BUCKET_BITS, BUCKETS, Block, Features};

/// How it is learnt.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub seed: u64,
    pub passes: usize,
    pub rate: f32,
    /// Pull towards zero, on every update of a weight.
    pub decay: f32,
    /// Features of fewer messages are left out: they tell one message from another, not spam from ham.
    pub min_messages: u32,
    /// What the features of each block count.
    pub block_scale: [f32; BLOCKS],
    /// Share of the messages from which a whole block is hidden while learning, so that none is relied upon alone.
    pub block_dropout: f32,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            seed: 1,
            passes: 4,
            rate: 0.3,
            decay: 0.0,
            min_messages: 2,
            block_scale: [1.0; BLOCKS],
            block_dropout: 0.0,
        }
    }
}

/// A message as the learner sees it.
#[derive(Clone, Debug)]
pub struct Example {
    /// Hashes of its features, block after block.
    pub keys: Vec<u64>,
    /// Where each block ends in `keys`.
    pub ends: [u32; BLOCKS],
    pub is_spam: bool,
    pub weight: f32,
}

impl Example {
    #[must_use]
    pub fn of(features: &Features, is_spam: bool, weight: f32) -> Self {
        let mut sorted: Vec<_> = features.list().to_vec();
        sorted.sort_by_key(|feature| feature.block as u8);
        let mut ends = [0; BLOCKS];
        for feature in &sorted {
            ends[feature.block as usize] += 1;
        }
        for block in 1..BLOCKS {
            ends[block] += ends[block - 1];
        }
        Example { keys: sorted.iter().map(|feature| feature.key).collect(), ends, is_spam, weight }
    }

    fn blocks(&self) -> impl Iterator<Item = (usize, &[u64])> {
        (0..BLOCKS).map(|block| {
            let start = if block == 0 { 0 } else { self.ends[block - 1] as usize };
            (block, &self.keys[start..self.ends[block] as usize])
        })
    }
}

/// Weights being learnt.
pub struct Weights {
    pub bias: f32,
    pub of_bucket: Vec<f32>,
    pub block_scale: [f32; BLOCKS],
}

impl Weights {
    #[must_use]
    pub fn score(&self, example: &Example) -> f32 {
        let mut sum = self.bias;
        for (block, keys) in example.blocks() {
            let weights: f32 = keys.iter().map(|key| self.of_bucket[bucket(*key)]).sum();
            sum += weights * self.block_scale[block] / (keys.len().max(1) as f32).sqrt();
        }
        sum
    }
}

fn bucket(key: u64) -> usize {
    (key >> (64 - BUCKET_BITS)) as usize
}

/// Learns from `examples`.
#[must_use]
pub fn learn(examples: &[&Example], recipe: &Recipe) -> Weights {
    let common = common_features(examples, recipe.min_messages);
    let is_common = |key: u64| common[bucket(key) / 64] >> (bucket(key) % 64) & 1 == 1;
    let mut weights =
        Weights { bias: 0.0, of_bucket: vec![0.0; BUCKETS], block_scale: recipe.block_scale };
    let mut squares = vec![1e-4f32; BUCKETS];
    let mut bias_squares = 1e-4f32;
    let mut random = Random(recipe.seed);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    for _ in 0..recipe.passes {
        random.shuffle(&mut order);
        for at in &order {
            let example = examples[*at];
            let hidden = (random.unit() < recipe.block_dropout).then(|| random.below(BLOCKS));
            let mut score = weights.bias;
            for (block, keys) in example.blocks().filter(|(block, _)| Some(*block) != hidden) {
                let sum: f32 = keys.iter().map(|key| weights.of_bucket[bucket(*key)]).sum();
                score += sum * weights.block_scale[block] / (keys.len().max(1) as f32).sqrt();
            }
            let target = f32::from(u8::from(example.is_spam));
            let error = (sigmoid(score) - target) * example.weight;
            bias_squares += error * error;
            weights.bias -= recipe.rate * error / bias_squares.sqrt();
            for (block, keys) in example.blocks().filter(|(block, _)| Some(*block) != hidden) {
                let gradient = error * weights.block_scale[block] / (keys.len().max(1) as f32).sqrt();
                for key in keys.iter().filter(|key| is_common(**key)) {
                    let bucket = bucket(*key);
                    let weight = &mut weights.of_bucket[bucket];
                    let gradient = gradient + recipe.decay * *weight;
                    squares[bucket] += gradient * gradient;
                    *weight -= recipe.rate * gradient / squares[bucket].sqrt();
                }
            }
        }
    }
    weights
}

/// One bit a bucket: a feature of at least `min` messages is there.
fn common_features(examples: &[&Example], min: u32) -> Vec<u64> {
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for key in examples.iter().flat_map(|example| &example.keys) {
        *counts.entry(*key).or_default() += 1;
    }
    let mut bits = vec![0u64; BUCKETS / 64];
    for (key, _) in counts.into_iter().filter(|(_, count)| *count >= min) {
        bits[bucket(key) / 64] |= 1 << (bucket(key) % 64);
    }
    bits
}

#[must_use]
pub fn sigmoid(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

/// Numbers that look random and are the same every time (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn shuffle(&mut self, items: &mut [usize]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

/// A name for each block, for tables.
#[must_use]
pub fn block_name(block: Block) -> &'static str {
    match block {
        Block::Header => "header",
        Block::Structure => "structure",
        Block::Traits => "traits",
        Block::Subject => "subject",
        Block::Words => "words",
        Block::Pairs => "pairs",
        Block::Links => "links",
        Block::Html => "html",
    }
}
