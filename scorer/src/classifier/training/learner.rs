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
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe { seed: 1, passes: 6, rate: 0.2, decay: 0.0006, min_messages: 2 }
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

    /// The hashes of one block.
    #[must_use]
    pub fn block(&self, block: Block) -> &[u64] {
        self.numbered(block as usize)
    }

    fn numbered(&self, block: usize) -> &[u64] {
        let start = if block == 0 { 0 } else { self.ends[block - 1] as usize };
        &self.keys[start..self.ends[block] as usize]
    }

    /// Each block with what one of its features counts.
    fn blocks(&self) -> impl Iterator<Item = (f32, &[u64])> {
        (0..BLOCKS).map(|block| {
            let keys = self.numbered(block);
            (1.0 / (keys.len().max(1) as f32).sqrt(), keys)
        })
    }
}

/// Weights being learnt.
pub struct Weights {
    pub bias: f32,
    pub of_bucket: Vec<f32>,
}

impl Weights {
    #[must_use]
    pub fn score(&self, example: &Example) -> f32 {
        let mut sum = self.bias;
        for (scale, keys) in example.blocks() {
            sum += scale * keys.iter().map(|key| self.of_bucket[bucket(*key)]).sum::<f32>();
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
    let mut learner = Learner {
        weights: Weights { bias: 0.0, of_bucket: vec![0.0; BUCKETS] },
        squares: vec![FIRST_SQUARE; BUCKETS],
        bias_square: FIRST_SQUARE,
        common: common_features(examples, recipe.min_messages),
        recipe,
    };
    let mut random = Random(recipe.seed);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    for _ in 0..recipe.passes {
        random.shuffle(&mut order);
        for at in &order {
            learner.update(examples[*at]);
        }
    }
    learner.weights
}

/// So that the first steps are not too long.
const FIRST_SQUARE: f32 = 1e-4;

struct Learner<'a> {
    weights: Weights,
    /// Sums of the squares of each weight's gradients: a weight that was changed often changes less (AdaGrad).
    squares: Vec<f32>,
    bias_square: f32,
    common: Vec<u64>,
    recipe: &'a Recipe,
}

impl Learner<'_> {
    fn update(&mut self, example: &Example) {
        let target = f32::from(u8::from(example.is_spam));
        let error = (sigmoid(self.weights.score(example)) - target) * example.weight;
        self.bias_square += error * error;
        self.weights.bias -= self.recipe.rate * error / self.bias_square.sqrt();
        for (scale, keys) in example.blocks() {
            for bucket in keys.iter().map(|key| bucket(*key)) {
                if self.common[bucket / 64] >> (bucket % 64) & 1 == 0 {
                    continue;
                }
                let weight = &mut self.weights.of_bucket[bucket];
                let gradient = error * scale + self.recipe.decay * *weight;
                self.squares[bucket] += gradient * gradient;
                *weight -= self.recipe.rate * gradient / self.squares[bucket].sqrt();
            }
        }
    }
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
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.draw() % limit.max(1) as u64) as usize
    }

    pub fn unit(&mut self) -> f32 {
        (self.draw() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn shuffle(&mut self, items: &mut [usize]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
