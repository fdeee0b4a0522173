//! ClamAV, by the protocol of clamd (clamd(8)): `zINSTREAM` in a session, so that a connection serves many messages.

use tokio::io::AsyncWriteExt;

use super::connection::{Address, Failure, Idle, Stream, exchange, read_until};
use super::weigh::Answer;

const MAX_ANSWER_BYTES: usize = 4096;
/// Written with its length before it, at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// clamd drops sessions that go on for ever in some versions; and none is worth so much.
const MAX_PER_SESSION: u32 = 1000;

/// A connection in a session, and the number of its last command.
pub struct Session {
    stream: Stream,
    commands: u32,
}

/// Asks about a message, over a connection that waits or a new one.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(address: &Address, idle: &Idle<Session>, message: &[u8]) -> Result<Answer, Failure> {
    if let Some(session) = idle.take()
        && let Ok(answer) = over(session, idle, message).await
    {
        return Ok(answer);
    }
    let mut stream = Stream::connect(address).await?;
    stream.write_all(b"zIDSESSION\0").await.map_err(Failure::Broken)?;
    over(Session { stream, commands: 0 }, idle, message).await
}

async fn over(mut session: Session, idle: &Idle<Session>, message: &[u8]) -> Result<Answer, Failure> {
    session.commands += 1;
    let (answer, was_written) = {
        let (mut reader, mut writer) = tokio::io::split(&mut session.stream);
        let write = async {
            writer.write_all(b"zINSTREAM\0").await?;
            for chunk in message.chunks(CHUNK_BYTES) {
                writer.write_u32(chunk.len() as u32).await?;
                writer.write_all(chunk).await?;
            }
            writer.write_u32(0).await?;
            writer.flush().await
        };
        // A message over clamd's own maximum is answered in the middle of it.
        let ended = |read: &[u8], _| memchr::memchr(0, read).map(|at| at + 1);
        exchange(write, read_until(&mut reader, MAX_ANSWER_BYTES, ended)).await
    };
    let answer = parse(&answer?, session.commands)?;
    if was_written && !matches!(answer, Answer::TooLarge) && session.commands < MAX_PER_SESSION {
        idle.put(session);
    }
    Ok(answer)
}

/// # Errors
/// Why there is no answer.
pub async fn ping(address: &Address) -> Result<(), Failure> {
    let mut stream = Stream::connect(address).await?;
    stream.write_all(b"zPING\0").await.map_err(Failure::Broken)?;
    let answer = read_until(&mut stream, 64, |read, _| memchr::memchr(0, read)).await?;
    if answer == b"PONG" { Ok(()) } else { Err(Failure::Nonsense("no PONG".into())) }
}

/// Reads a whole answer to the command of this number: `1: stream: NAME FOUND` and NUL, for instance.
///
/// # Errors
/// When it is none.
pub fn parse(answer: &[u8], command: u32) -> Result<Answer, Failure> {
    let nonsense = |what: &str| Failure::Nonsense(what.into());
    let text = answer.strip_suffix(b"\0").ok_or_else(|| nonsense("no end"))?;
    let text = std::str::from_utf8(text).map_err(|_| nonsense("no text"))?;
    if text.chars().any(char::is_control) {
        return Err(nonsense("control characters"));
    }
    // What is wrong before it has read the command has no number.
    let numbered = text.strip_prefix(&format!("{command}: "));
    if numbered.unwrap_or(text).starts_with("INSTREAM size limit exceeded") {
        return Ok(Answer::TooLarge);
    }
    let Some(said) = numbered else {
        return Err(if text.ends_with("ERROR") {
            refused(text)
        } else {
            nonsense("an answer to something else")
        });
    };
    if said == "stream: OK" {
        return Ok(Answer::Scanned { signature: None });
    }
    let signature = said.strip_prefix("stream: ").and_then(|rest| rest.strip_suffix(" FOUND"));
    match signature.map(str::trim) {
        Some(signature) if !signature.is_empty() => Ok(Answer::Scanned { signature: Some(signature.into()) }),
        _ if said.ends_with("ERROR") => Err(refused(said)),
        _ => Err(nonsense("neither OK nor FOUND")),
    }
}

fn refused(text: &str) -> Failure {
    Failure::Refused(crate::evidence::clean_marked(text, 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_answers_are_read() {
        assert_eq!(parse(b"1: stream: OK\0", 1).unwrap(), Answer::Scanned { signature: None });
        let found = parse(b"2: stream: Eicar-Test-Signature.UNOFFICIAL FOUND\0", 2).unwrap();
        assert_eq!(found, Answer::Scanned { signature: Some("Eicar-Test-Signature.UNOFFICIAL".into()) });
        let too_large = b"3: INSTREAM size limit exceeded. ERROR\0";
        assert_eq!(parse(too_large, 3).unwrap(), Answer::TooLarge);
        let error = parse(b"4: stream: Can't allocate memory ERROR\0", 4);
        assert!(matches!(error, Err(Failure::Refused(_))), "{error:?}");
        assert!(matches!(parse(b"COMMAND READ TIMED OUT ERROR\0", 1), Err(Failure::Refused(_))));
    }

    #[test]
    fn nonsense_is_never_clean() {
        for bad in [
            &b""[..],
            b"\0",
            b"1: stream: OK",
            b"2: stream: OK\0",
            b"stream: OK\0",
            b"1: stream: OK\nstream: OK\0",
            b"1: stream:  FOUND\0",
            b"1: stream: FOUND\0",
            b"1: OK\0",
            b"1: stream: ok\0",
            b"1: stream: OK OK\0",
            b"\xff\xff\0",
            b"HTTP/1.1 200 OK\r\n\0",
        ] {
            assert!(matches!(parse(bad, 1), Err(Failure::Nonsense(_))), "{}", String::from_utf8_lossy(bad));
        }
    }
}
