//! SpamAssassin, by the protocol of spamd (its `spamd/PROTOCOL`): a `SYMBOLS` request, one connection each.

use tokio::io::AsyncWriteExt;

use super::connection::{Address, Failure, Stream, exchange, read_until};
use super::weigh::Answer;

/// The names of all its rules are less.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Asks about a message.
///
/// # Errors
/// Why there is no answer.
pub async fn ask(address: &Address, message: &[u8]) -> Result<Answer, Failure> {
    let mut stream = Stream::connect(address).await?;
    let head = format!("SYMBOLS SPAMC/1.5\r\nContent-length: {}\r\n\r\n", message.len());
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let write = async {
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(message).await?;
        writer.flush().await
    };
    let (answer, _) = exchange(write, read_until(&mut reader, MAX_ANSWER_BYTES, whole)).await;
    parse(&answer?)
}

/// # Errors
/// Why there is no answer.
pub async fn ping(address: &Address) -> Result<(), Failure> {
    let mut stream = Stream::connect(address).await?;
    stream.write_all(b"PING SPAMC/1.5\r\n\r\n").await.map_err(Failure::Broken)?;
    let line = read_until(&mut stream, 256, |read, _| read.iter().position(|b| *b == b'\n')).await?;
    let is_pong = line.starts_with(b"SPAMD/") && line.trim_ascii_end().ends_with(b" 0 PONG");
    if is_pong { Ok(()) } else { Err(nonsense("no PONG")) }
}

fn nonsense(what: &str) -> Failure {
    Failure::Nonsense(what.into())
}

/// The header section ends with an empty line; the body is as long as it says, or goes on until the connection ends.
fn whole(read: &[u8], closed: bool) -> Option<usize> {
    let body_at = memchr::memmem::find(read, b"\r\n\r\n")? + 4;
    match header(&read[..body_at], "content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => body_at.checked_add(length).filter(|end| *end <= read.len()),
        // It stays for `parse` to say so.
        Some(Err(_)) => Some(read.len()),
        // A refusal has no body.
        None if !read[..body_at].windows(6).any(|six| six == b"\r\nSpam") => Some(body_at),
        None => closed.then_some(read.len()),
    }
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Reads a whole answer to `SYMBOLS`.
///
/// # Errors
/// When it is none.
pub fn parse(answer: &[u8]) -> Result<Answer, Failure> {
    let body_at = memchr::memmem::find(answer, b"\r\n\r\n").ok_or_else(|| nonsense("no empty line"))? + 4;
    let (head, body) = answer.split_at(body_at);
    let first = std::str::from_utf8(head).ok().and_then(|head| head.lines().next());
    let status = first.and_then(|line| line.strip_prefix("SPAMD/")).and_then(|rest| rest.split_once(' '));
    let status = status.ok_or_else(|| nonsense("no line of status"))?.1;
    if status.split(' ').next() != Some("0") {
        return Err(Failure::Refused(crate::evidence::clean_marked(status, 100)));
    }
    let length = header(head, "content-length").map(str::parse::<usize>);
    if length.is_some_and(|length| length.ok() != Some(body.len())) {
        return Err(nonsense("another length than it says"));
    }
    // `True ; 15.0 / 5.0`
    let numbers = header(head, "spam").and_then(|value| value.split_once(';'));
    let numbers = numbers.and_then(|(_, numbers)| numbers.split_once('/'));
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    let numbers = numbers.and_then(|(score, required)| Some((number(score)?, number(required)?)));
    let (score, required) = numbers.ok_or_else(|| nonsense("no score"))?;
    let names = std::str::from_utf8(body).map_err(|_| nonsense("names that are no text"))?;
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_graphic());
    if !names.iter().all(is_name) {
        return Err(nonsense("names that are none"));
    }
    Ok(Answer::Scored {
        score,
        required,
        named: names.into_iter().map(|name| (name, None)).collect(),
        signatures: Vec::new(),
    })
}

/// For tests: as it is read from a connection that then ends.
#[cfg(test)]
pub(super) fn read_whole(bytes: &[u8]) -> Result<Answer, Failure> {
    whole(bytes, false);
    let end = whole(bytes, true).ok_or_else(|| nonsense("half an answer"))?;
    parse(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As SpamAssassin 4.0.1 says it.
    const HAM: &[u8] = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 33\r\nSpam: False ; -0.0 / 5.0\r\n\r\nMSGID_SHORT,NO_RECEIVED,NO_RELAYS";
    const SPAM: &[u8] = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 55\r\nSpam: True ; 1000.0 / 5.0\r\n\r\nGTUBE,MSGID_SHORT,NO_RECEIVED,NO_RELAYS,TVD_SPACE_RATIO";

    #[test]
    fn its_own_answers_are_read() {
        let Answer::Scored { score, required, named, .. } = parse(SPAM).unwrap() else { panic!() };
        assert_eq!((score, required, named.len(), named[0].0.as_str()), (1000.0, 5.0, 5, "GTUBE"));
        let Answer::Scored { score, named, .. } = parse(HAM).unwrap() else { panic!() };
        assert!(score.abs() < 0.01 && named.len() == 3);
        let nothing = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 0.0 / 5.0\r\n\r\n";
        assert!(matches!(parse(nothing), Ok(Answer::Scored { named, .. }) if named.is_empty()));
    }

    #[test]
    fn an_answer_is_whole_when_its_length_is_reached_or_the_connection_ends() {
        for end in 0..SPAM.len() {
            assert_eq!(whole(&SPAM[..end], false), None, "{end}");
            assert!(parse(&SPAM[..end]).is_err(), "{end}");
        }
        assert_eq!(whole(SPAM, false), Some(SPAM.len()));
        assert_eq!(whole(&[SPAM, b"more"].concat(), false), Some(SPAM.len()));
        let without_length = b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 0.0 / 5.0\r\n\r\nA,B";
        assert_eq!(
            (whole(without_length, false), whole(without_length, true)),
            (None, Some(without_length.len()))
        );
        let refused = b"SPAMD/1.0 76 Bad header line: (Content-length contains non-numeric bytes)\r\n\r\n";
        assert_eq!(whole(refused, false), Some(refused.len()));
        assert!(
            matches!(parse(refused), Err(Failure::Refused(text)) if text.starts_with("76 Bad header line"))
        );
    }

    #[test]
    fn nonsense_is_told_from_an_answer() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"SPAMD/1.1 0 EX_OK\r\n\r\n",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; inf / 5.0\r\n\r\n",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; NaN / 5.0\r\n\r\n",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1\r\n\r\n",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\nContent-length: 9\r\n\r\nA,B",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\nContent-length: 99999999999999999999999\r\n\r\nA,B",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\nContent-length: -1\r\n\r\nA,B",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\n\r\nA\0,B",
            b"SPAMD/1.1 0 EX_OK\r\nSpam: False ; 1 / 5\r\n\r\n\xff\xfe",
            b"\0\0\0\0\r\n\r\n",
        ] {
            assert!(matches!(parse(bad), Err(Failure::Nonsense(_))), "{}", String::from_utf8_lossy(bad));
            whole(bad, true);
        }
    }
}
