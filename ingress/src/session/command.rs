//! Command lines (RFC 5321 4.1.1 and its extensions), parsed strictly.

use schemas::{EnhancedCode, Mailbox, ReversePath, SmtpReply};

/// A command that parsed.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Ehlo(String),
    Helo(String),
    StartTls,
    Auth { mechanism: String, initial: Option<String> },
    Mail { path: ReversePath, parameters: Vec<Parameter> },
    Rcpt { path: ForwardPath, parameters: Vec<Parameter> },
    Data,
    Bdat { size: u64, last: bool },
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
}

impl Command {
    /// May come while a BDAT transfer is under way.
    #[must_use]
    pub fn fits_between_chunks(&self) -> bool {
        matches!(self, Command::Bdat { .. } | Command::Rset | Command::Noop | Command::Quit)
    }
}

/// Argument of RCPT TO.
#[derive(Clone, Debug, PartialEq)]
pub enum ForwardPath {
    Mailbox(Mailbox),
    /// `<postmaster>` alone, in any case: that of this server (RFC 5321 4.5.1).
    Postmaster,
}

/// `KEYWORD` or `KEYWORD=value`; the keyword in upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub keyword: String,
    pub value: Option<String>,
}

/// Why a line is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Unknown,
    NotUtf8,
    Control,
    Arguments(&'static str),
    Path(String),
    Recipient(String),
}

impl Problem {
    #[must_use]
    pub fn reply(&self) -> SmtpReply {
        let (code, enhanced, text) = match self {
            Problem::Unknown => (500, EnhancedCode(5, 5, 2), "Command not recognised".to_owned()),
            Problem::NotUtf8 => (500, EnhancedCode(5, 5, 2), "The line is not UTF-8".to_owned()),
            Problem::Control => (500, EnhancedCode(5, 5, 2), "The line has a control character".to_owned()),
            Problem::Arguments(usage) => (501, EnhancedCode(5, 5, 4), format!("Syntax: {usage}")),
            Problem::Path(why) => {
                (501, EnhancedCode(5, 1, 7), format!("The reverse-path is not valid: {why}"))
            }
            Problem::Recipient(why) => {
                (501, EnhancedCode(5, 1, 3), format!("The forward-path is not valid: {why}"))
            }
        };
        SmtpReply::new(code, enhanced, text)
    }
}

/// Parses a line without its CRLF.
///
/// # Errors
/// What to tell the client.
pub fn parse(line: &[u8]) -> Result<Command, Problem> {
    let line = std::str::from_utf8(line).map_err(|_| Problem::NotUtf8)?;
    if line.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f) {
        return Err(Problem::Control);
    }
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    let bare =
        |command: Command, usage| if rest.is_empty() { Ok(command) } else { Err(Problem::Arguments(usage)) };
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => name(rest, "EHLO hostname").map(Command::Ehlo),
        "HELO" => name(rest, "HELO hostname").map(Command::Helo),
        "STARTTLS" => bare(Command::StartTls, "STARTTLS"),
        "AUTH" => auth(rest),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(Command::Data, "DATA"),
        "BDAT" => bdat(rest),
        "RSET" => bare(Command::Rset, "RSET"),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "QUIT" => bare(Command::Quit, "QUIT"),
        _ => Err(Problem::Unknown),
    }
}

/// Whether a line begins with this verb, whatever follows.
#[must_use]
pub fn verb_is(line: &[u8], verb: &str) -> bool {
    let begins = line.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb.as_bytes()));
    begins && line.get(verb.len()).is_none_or(|next| !next.is_ascii_alphanumeric())
}

fn name(rest: &str, usage: &'static str) -> Result<String, Problem> {
    match rest.split_whitespace().next() {
        Some(name) if name.len() <= 255 => Ok(name.to_owned()),
        _ => Err(Problem::Arguments(usage)),
    }
}

fn auth(rest: &str) -> Result<Command, Problem> {
    let mut words = rest.split_whitespace();
    let (Some(mechanism), initial, None) = (words.next(), words.next(), words.next()) else {
        return Err(Problem::Arguments("AUTH mechanism [initial-response]"));
    };
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial: initial.map(str::to_owned) })
}

fn bdat(rest: &str) -> Result<Command, Problem> {
    let usage = Problem::Arguments("BDAT size [LAST]");
    let mut words = rest.split_whitespace();
    let size = words.next().filter(|w| w.bytes().all(|b| b.is_ascii_digit())).and_then(|w| w.parse().ok());
    let last = match (words.next(), words.next()) {
        (None, _) => false,
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => true,
        _ => return Err(usage),
    };
    size.map(|size| Command::Bdat { size, last }).ok_or(usage)
}

fn mail(rest: &str) -> Result<Command, Problem> {
    const USAGE: &str = "MAIL FROM:<reverse-path> [parameters]";
    let (path, parameters) = path_and_parameters(rest, "FROM:", USAGE)?;
    let path = match path {
        "" => ReversePath::Null,
        text => Mailbox::parse(text).map(ReversePath::Mailbox).map_err(|e| Problem::Path(e.to_string()))?,
    };
    Ok(Command::Mail { path, parameters })
}

fn rcpt(rest: &str) -> Result<Command, Problem> {
    const USAGE: &str = "RCPT TO:<forward-path> [parameters]";
    let (path, parameters) = path_and_parameters(rest, "TO:", USAGE)?;
    let path = match path {
        path if path.eq_ignore_ascii_case("postmaster") => ForwardPath::Postmaster,
        path => {
            Mailbox::parse(path).map(ForwardPath::Mailbox).map_err(|e| Problem::Recipient(e.to_string()))?
        }
    };
    Ok(Command::Rcpt { path, parameters })
}

fn path_and_parameters<'a>(
    rest: &'a str,
    keyword: &str,
    usage: &'static str,
) -> Result<(&'a str, Vec<Parameter>), Problem> {
    let begins = rest.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword));
    if !begins {
        return Err(Problem::Arguments(usage));
    }
    let rest = rest[keyword.len()..].trim_start();
    let inner = rest.strip_prefix('<').ok_or(Problem::Arguments(usage))?;
    let end = end_of_path(inner).ok_or(Problem::Arguments(usage))?;
    let (path, after) = (&inner[..end], &inner[end + 1..]);
    if !after.is_empty() && !after.starts_with(' ') {
        return Err(Problem::Arguments(usage));
    }
    let parameters = after.split_whitespace().map(parameter).collect::<Option<Vec<_>>>();
    Ok((without_source_route(path), parameters.ok_or(Problem::Arguments(usage))?))
}

/// Where the path's `>` stands, quoted strings left alone.
fn end_of_path(inner: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (index, byte) in inner.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(index),
            _ => {}
        }
    }
    None
}

/// `@a,@b:user@c` is taken as `user@c` (RFC 5321 4.1.2, appendix C).
fn without_source_route(path: &str) -> &str {
    match path.strip_prefix('@').and_then(|rest| rest.split_once(':')) {
        Some((_, mailbox)) => mailbox,
        None => path,
    }
}

fn parameter(word: &str) -> Option<Parameter> {
    let (keyword, value) = match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value.to_owned())),
        None => (word, None),
    };
    let keyword_ok = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    keyword_ok.then(|| Parameter { keyword: keyword.to_ascii_uppercase(), value })
}

/// `true` when `text` is xtext (RFC 3461 4): printable ASCII, `+` only before two upper-case hex digits that stand for
/// printable ASCII, so that nothing it is copied to gets a line end out of it.
#[must_use]
pub fn is_xtext(text: &str) -> bool {
    let bytes = text.as_bytes();
    let printable = |pair: &[u8]| {
        let upper = pair.iter().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(b));
        let value = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        upper && matches!(value, Some(b' '..=b'~'))
    };
    bytes.iter().enumerate().all(|(i, b)| match b {
        b'+' => bytes.get(i + 1..i + 3).is_some_and(printable),
        b'=' => false,
        b => b.is_ascii_graphic(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_parameters() {
        let Ok(Command::Mail { path, parameters }) = parse(b"mail from:<a@b.example> SIZE=12 BODY=8BITMIME")
        else {
            panic!()
        };
        assert_eq!((path.to_string().as_str(), parameters.len()), ("a@b.example", 2));
        let Ok(Command::Rcpt { path: ForwardPath::Mailbox(path), .. }) =
            parse(b"RCPT TO: <@x,@y:\"a>b\"@c.example>")
        else {
            panic!()
        };
        assert_eq!(path.to_string(), "\"a>b\"@c.example");
        assert!(matches!(parse(b"MAIL FROM:<>"), Ok(Command::Mail { path: ReversePath::Null, .. })));
        for bad in [
            &b"MAIL FROM:a@b"[..],
            b"MAIL FROM:<a@b>x",
            b"RCPT TO:<>",
            b"RCPT TO:<root>",
            b"MAIL FROM:<a@b",
            b"DATA x",
            b"BDAT",
            b"BDAT x",
            b"BDAT 1 2",
            b"\xff",
            b"NOOP\0",
            b"MAIL FROM:<a\rb@c>",
        ] {
            assert!(parse(bad).is_err(), "{:?} was taken", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn xtext() {
        assert!(
            is_xtext("a+2Bb")
                && !is_xtext("a+b")
                && !is_xtext("a=b")
                && !is_xtext("a b")
                && !is_xtext("a+2b")
                && !is_xtext("a+0D+0Ab")
                && !is_xtext("a+7F")
        );
    }
}
