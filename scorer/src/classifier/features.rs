//! The features of a message: hashed, each counted once, in blocks that weigh the same however long the message is.

/// Weights of a model: one bucket for each value of this many bits of a feature's hash.
pub const BUCKET_BITS: u32 = 19;
pub const BUCKETS: usize = 1 << BUCKET_BITS;
/// Features kept of one message. Those of the header and the structure are few and come first.
pub const MAX_FEATURES: usize = 20_000;

/// A kind of features. The number of features of one block in a message says nothing, so each of them counts
/// 1/sqrt(number).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Block {
    /// Envelope-like facts of the header section.
    Header,
    /// MIME structure, attachments, share of text and pictures.
    Structure,
    /// What a person would call suspicious, or reassuring: few, and meant to hold for mail never seen.
    Traits,
    /// Words and pairs of words of the Subject and of the author's name.
    Subject,
    Words,
    Pairs,
    /// Words and targets of links.
    Links,
    /// Tags, attributes, style properties.
    Html,
}

pub const BLOCKS: usize = 8;

/// A feature: its hash and its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub key: u64,
    pub block: Block,
}

impl Feature {
    #[must_use]
    pub fn bucket(self) -> usize {
        (self.key >> (64 - BUCKET_BITS)) as usize
    }
}

/// The features of one message.
pub struct Features {
    list: Vec<Feature>,
    /// One bit a bucket: the same feature counts once.
    seen: Vec<u64>,
    per_block: [u32; BLOCKS],
    /// What each feature says, for the evidence; only when asked for, since most messages are never explained.
    names: Option<Vec<String>>,
    /// Of the text that they were made from.
    pub text: Option<schemas::history::Fingerprint>,
}

impl Features {
    /// `named`: keep what each feature says.
    #[must_use]
    pub fn new(named: bool) -> Self {
        Features {
            list: Vec::with_capacity(1024),
            seen: vec![0; BUCKETS / 64],
            per_block: [0; BLOCKS],
            names: named.then(Vec::new),
            text: None,
        }
    }

    /// Adds a feature by its hash; `name` is asked for what it says when that is kept.
    pub fn add(&mut self, block: Block, key: u64, name: impl FnOnce() -> String) {
        let key = mix(key, block as u64 + 1);
        let feature = Feature { key, block };
        let (word, bit) = (feature.bucket() / 64, 1u64 << (feature.bucket() % 64));
        if self.seen[word] & bit != 0 || self.list.len() >= MAX_FEATURES {
            return;
        }
        self.seen[word] |= bit;
        self.list.push(feature);
        self.per_block[block as usize] += 1;
        if let Some(names) = &mut self.names {
            names.push(name());
        }
    }

    /// A fact without a value.
    pub fn fact(&mut self, block: Block, says: &str) {
        self.add(block, hash(says.as_bytes()), || says.to_owned());
    }

    /// A fact with a value: "`says` `value`".
    pub fn fact_of(&mut self, block: Block, says: &str, value: &str) {
        self.add(block, mix(hash(says.as_bytes()), hash(value.as_bytes())), || format!("{says} {value}"));
    }

    /// A fact with a number, which counts by its magnitude.
    pub fn fact_count(&mut self, block: Block, says: &str, count: usize) {
        self.fact_of(block, says, magnitude(count));
    }

    #[must_use]
    pub fn list(&self) -> &[Feature] {
        &self.list
    }

    /// What a feature of each block counts in this message.
    #[must_use]
    pub fn scales(&self) -> [f32; BLOCKS] {
        self.per_block.map(|count| 1.0 / (count.max(1) as f32).sqrt())
    }

    /// The buckets of each block, as they stand in feedback.
    #[must_use]
    pub fn buckets(&self) -> Vec<Vec<u32>> {
        let mut blocks = vec![Vec::new(); BLOCKS];
        for feature in &self.list {
            blocks[feature.block as usize].push(feature.bucket() as u32);
        }
        blocks
    }

    /// Each feature with what it says; empty when that was not kept.
    pub fn named(&self) -> impl Iterator<Item = (Feature, &str)> {
        self.list.iter().copied().zip(self.names.iter().flatten().map(String::as_str))
    }
}

fn magnitude(count: usize) -> &'static str {
    match count {
        0 => "0",
        1 => "1",
        2 => "2",
        3..=4 => "3 to 4",
        5..=8 => "5 to 8",
        9..=16 => "9 to 16",
        17..=32 => "17 to 32",
        33..=64 => "33 to 64",
        65..=256 => "65 to 256",
        257..=1024 => "257 to 1024",
        1025..=4096 => "1025 to 4096",
        _ => "over 4096",
    }
}

/// A hash that must never change: the weights of every model stand where it says.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().unwrap_or([0; 8]));
        state = (state.rotate_left(5) ^ word).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    state = (state.rotate_left(5) ^ u64::from_le_bytes(last)).wrapping_mul(0x517C_C1B7_2722_0A95);
    finish(state)
}

/// The hash of two in order.
#[must_use]
pub fn mix(first: u64, second: u64) -> u64 {
    finish(first.rotate_left(23).wrapping_mul(0x9FB2_1C65_1E98_DF25) ^ second)
}

fn finish(mut state: u64) -> u64 {
    state ^= state >> 32;
    state = state.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    state ^= state >> 32;
    state = state.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    state ^ (state >> 32)
}
