//! Texts that were sent lately, and by how many.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Hashes, bits};
use crate::Timestamp;

/// So many identities that sent a text are told apart.
pub const MAX_TEXT_IDENTITIES: usize = 16;
/// Out of 100 pairs of words two texts have in common so many, to be the same for a reader.
const LIKE_PERCENT: usize = 68;

/// What is left of a text: the same for the same text, and for one with a few other words nearly the same. One byte of
/// the least hash in each of 32 classes of its pairs of words; 0 for a class without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Whether both are of texts that differ in a few words. The share of equal bytes is that of the pairs that both have
    /// among those that either has, give or take 8 in 100.
    #[must_use]
    pub fn is_like(&self, other: &Fingerprint) -> bool {
        let (mut same, mut of) = (0, 0);
        for (one, another) in self.0.iter().zip(&other.0) {
            of += usize::from(one | another != 0);
            same += usize::from(*one != 0 && one == another);
        }
        of > 0 && same * 100 >= of * LIKE_PERCENT
    }
}

/// A text that was sent to somebody its sender had not written to before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    pub fingerprint: Fingerprint,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Identities that sent it, at most 16.
    pub identities: Hashes,
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bits::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = bits::decode(deserializer)?;
        bytes.try_into().map(Fingerprint).map_err(|_| de::Error::custom("a fingerprint has 32 bytes"))
    }
}
