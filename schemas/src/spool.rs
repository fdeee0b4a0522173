//! A record that carries a message reads like a spool file: one line of JSON, then the message, byte for byte.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// A record that is no spool record.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the record has no line end after its JSON line")]
    NoLineEnd,
    #[error("the JSON line does not parse: {0}")]
    Json(#[from] serde_json::Error),
}

/// The JSON line of `head`, then `message`.
///
/// # Errors
/// When `head` cannot be written as JSON.
pub fn encode<T: Serialize>(head: &T, message: &[u8]) -> Result<Bytes, SpoolError> {
    let mut buffer = BytesMut::with_capacity(2048 + message.len()).writer();
    serde_json::to_writer(&mut buffer, head)?;
    let mut buffer = buffer.into_inner();
    buffer.put_u8(b'\n');
    buffer.put_slice(message);
    Ok(buffer.freeze())
}

/// The head and the message; the message shares the record's memory.
///
/// # Errors
/// When there is no JSON line or it is not a `T`.
pub fn decode<T: DeserializeOwned>(record: &Bytes) -> Result<(T, Bytes), SpoolError> {
    let end = record.iter().position(|b| *b == b'\n').ok_or(SpoolError::NoLineEnd)?;
    Ok((serde_json::from_slice(&record[..end])?, record.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_comes_back_byte_for_byte() {
        let message = b"Subject: \n\r\x00\xff\r\n\r\nx";
        let record = encode(&vec!["a\nb"], message).unwrap();
        let (head, back): (Vec<String>, Bytes) = decode(&record).unwrap();
        assert_eq!((head[0].as_str(), &back[..]), ("a\nb", &message[..]));
        assert!(matches!(decode::<()>(&Bytes::from_static(b"{}")), Err(SpoolError::NoLineEnd)));
    }
}
