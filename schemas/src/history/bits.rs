//! Sets of hashes, in JSON as base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Hashes of 16 bits, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes(Vec<u16>);

impl Hashes {
    #[must_use]
    pub fn contains(&self, hash: u16) -> bool {
        self.0.binary_search(&hash).is_ok()
    }

    /// `false` when it was there.
    pub fn insert(&mut self, hash: u16) -> bool {
        let place = self.0.binary_search(&hash);
        if let Err(place) = place {
            self.0.insert(place, hash);
        }
        place.is_err()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u16> for Hashes {
    fn from_iter<I: IntoIterator<Item = u16>>(hashes: I) -> Self {
        let mut hashes: Vec<u16> = hashes.into_iter().collect();
        hashes.sort_unstable();
        hashes.dedup();
        Hashes(hashes)
    }
}

impl Serialize for Hashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        serializer.serialize_str(&encode(&bytes))
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = decode(deserializer)?;
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(de::Error::custom("half a hash"));
        }
        Ok(pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect())
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

pub(super) fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    STANDARD_NO_PAD.decode(text.as_bytes()).map_err(de::Error::custom)
}
