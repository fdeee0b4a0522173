//! HTML as its reader sees it: the visible text, the links with their texts, and apart from them what is there but not
//! shown. One pass, no tree, bounded memory; whatever is not HTML is text.

use memchr::{memchr, memmem};

/// Elements open at once that are watched for being hidden.
const MAX_OPEN: usize = 64;
/// Links and pictures kept.
pub const MAX_LINKS: usize = 400;
/// Names of tags, attributes and style properties kept.
const MAX_NAMES: usize = 600;
/// Attributes of one tag that are read.
const MAX_ATTRIBUTES: usize = 30;
const MAX_TARGET_BYTES: usize = 2000;
const MAX_LINK_TEXT_BYTES: usize = 300;

/// What an HTML part holds.
#[derive(Default)]
pub struct Html<'a> {
    pub text: String,
    /// There, but not shown.
    pub hidden: String,
    pub links: Vec<Link>,
    /// Sources of pictures.
    pub pictures: Vec<String>,
    /// Tags, `tag attribute` pairs and style properties, as they stand, with repetitions.
    pub tags: Vec<&'a str>,
    pub attributes: Vec<(&'a str, &'a str)>,
    pub properties: Vec<&'a str>,
    pub comments: usize,
    pub has_form: bool,
    pub has_password_field: bool,
    pub has_script: bool,
    /// A page that sends its reader elsewhere at once.
    pub has_refresh: bool,
    pub has_tiny_picture: bool,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub target: String,
    pub text: String,
    pub has_picture: bool,
}

struct Open<'a> {
    tag: &'a str,
    hides: bool,
}

impl<'a> Html<'a> {
    #[must_use]
    pub fn read(source: &'a str) -> Self {
        let mut reader = Reader { html: Html::default(), open: Vec::new(), hidden: 0, link: None };
        reader.run(source);
        reader.html
    }
}

struct Reader<'a> {
    html: Html<'a>,
    open: Vec<Open<'a>>,
    /// How many of the open elements hide what is in them.
    hidden: usize,
    /// The link that is open.
    link: Option<Link>,
}

impl<'a> Reader<'a> {
    fn run(&mut self, source: &'a str) {
        let mut rest = source;
        while let Some(at) = memchr(b'<', rest.as_bytes()) {
            self.text(&rest[..at]);
            rest = self.markup(&rest[at..]);
        }
        self.text(rest);
        self.end_link();
    }

    /// What begins with `<`; gives what follows it.
    fn markup(&mut self, source: &'a str) -> &'a str {
        let inner = &source[1..];
        if let Some(comment) = inner.strip_prefix("!--") {
            self.html.comments += 1;
            // Comments of one mail program are seen by it alone; nobody else reads them.
            return memmem::find(comment.as_bytes(), b"-->").map_or("", |end| &comment[end + 3..]);
        }
        let begins_tag = inner.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b"/!?".contains(&b));
        if !begins_tag {
            self.text("<");
            return inner;
        }
        let end = tag_end(inner);
        let (tag, rest) = (&inner[..end], inner.get(end + 1..).unwrap_or(""));
        if let Some(name) = tag.strip_prefix('/') {
            self.close(name.trim());
            return rest;
        }
        let name_len =
            tag.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b':' || *b == b'-').count();
        let name = &tag[..name_len];
        self.open_tag(name, &tag[name_len..]);
        // What is in these is no text.
        for raw in ["style", "script", "title"] {
            if name.eq_ignore_ascii_case(raw) {
                return self.raw(raw, rest);
            }
        }
        rest
    }

    /// The content of an element that holds no markup; gives what follows its content.
    fn raw(&mut self, name: &str, source: &'a str) -> &'a str {
        let end = find_closing(source, name).unwrap_or(source.len());
        if name == "title" {
            decode_entities(&source[..end], &mut self.html.hidden);
        }
        &source[end..]
    }

    fn open_tag(&mut self, name: &'a str, attributes: &'a str) {
        self.name_seen(name);
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if breaks_text(name) {
            self.space();
        }
        let mut tag = TagFacts::default();
        for (attribute, value) in (Attributes { rest: attributes }).take(MAX_ATTRIBUTES) {
            if self.html.attributes.len() < MAX_NAMES {
                self.html.attributes.push((name, attribute));
            }
            tag.note(attribute, value, &mut self.html.properties);
        }
        if is("a") || is("area") {
            self.end_link();
            let target = tag.target.unwrap_or_default();
            self.link = Some(Link { target: decoded(target), ..Link::default() });
        } else if is("img") {
            self.picture(&tag);
        } else if is("form") {
            self.html.has_form = true;
            self.push_link(Link { target: decoded(tag.target.unwrap_or_default()), ..Link::default() });
        } else if is("input") {
            self.html.has_password_field |=
                tag.kind.is_some_and(|kind| kind.eq_ignore_ascii_case("password"));
        } else if is("script") {
            self.html.has_script = true;
        } else if is("meta") {
            self.html.has_refresh |= tag.is_refresh;
        }
        if !is_void(name) && self.open.len() < MAX_OPEN {
            let hides = tag.hides || is("head");
            self.hidden += usize::from(hides);
            self.open.push(Open { tag: name, hides });
        }
    }

    fn name_seen(&mut self, name: &'a str) {
        if self.html.tags.len() < MAX_NAMES {
            self.html.tags.push(name);
        }
    }

    fn picture(&mut self, tag: &TagFacts<'_>) {
        self.html.has_tiny_picture |= tag.is_tiny;
        if let Some(link) = &mut self.link {
            link.has_picture = true;
        }
        if let Some(source) = tag.source.filter(|_| self.html.pictures.len() < MAX_LINKS) {
            self.html.pictures.push(decoded(source));
        }
        if let Some(words) = tag.alternative {
            self.text(words);
            self.space();
        }
    }

    fn close(&mut self, name: &str) {
        if name.eq_ignore_ascii_case("a") {
            self.end_link();
        }
        if breaks_text(name) {
            self.space();
        }
        // A closing tag without its opening one closes nothing.
        if let Some(at) = self.open.iter().rposition(|open| open.tag.eq_ignore_ascii_case(name)) {
            for open in self.open.drain(at..) {
                self.hidden -= usize::from(open.hides);
            }
        }
    }

    fn end_link(&mut self) {
        if let Some(link) = self.link.take() {
            self.push_link(link);
        }
    }

    fn push_link(&mut self, link: Link) {
        if !link.target.is_empty() && self.html.links.len() < MAX_LINKS {
            self.html.links.push(link);
        }
    }

    fn text(&mut self, source: &str) {
        if source.is_empty() {
            return;
        }
        if self.hidden > 0 {
            decode_entities(source, &mut self.html.hidden);
            return;
        }
        let from = self.html.text.len();
        decode_entities(source, &mut self.html.text);
        if let Some(link) = self.link.as_mut().filter(|link| link.text.len() < MAX_LINK_TEXT_BYTES) {
            link.text.push_str(&self.html.text[from..]);
        }
    }

    fn space(&mut self) {
        let text = if self.hidden > 0 { &mut self.html.hidden } else { &mut self.html.text };
        text.push(' ');
        if let Some(link) = &mut self.link {
            link.text.push(' ');
        }
    }
}

/// What the attributes of one tag say.
#[derive(Default)]
struct TagFacts<'a> {
    target: Option<&'a str>,
    source: Option<&'a str>,
    alternative: Option<&'a str>,
    kind: Option<&'a str>,
    hides: bool,
    is_tiny: bool,
    is_refresh: bool,
}

impl<'a> TagFacts<'a> {
    fn note(&mut self, attribute: &str, value: &'a str, properties: &mut Vec<&'a str>) {
        let is = |other: &str| attribute.eq_ignore_ascii_case(other);
        if is("href") || is("action") {
            self.target = Some(value);
        } else if is("src") || is("background") {
            self.source = Some(value);
        } else if is("alt") {
            self.alternative = Some(value);
        } else if is("type") {
            self.kind = Some(value);
        } else if is("hidden") {
            self.hides = true;
        } else if is("width") || is("height") {
            self.is_tiny |= matches!(value.trim().trim_end_matches("px"), "0" | "1");
        } else if is("http-equiv") {
            self.is_refresh |= value.eq_ignore_ascii_case("refresh");
        } else if is("style") {
            for declaration in value.split(';').take(MAX_ATTRIBUTES) {
                let Some((property, value)) = declaration.split_once(':') else { continue };
                let property = property.trim();
                if properties.len() < MAX_NAMES && property.is_ascii() && property.len() < 40 {
                    properties.push(property);
                }
                self.hides |= hides(property, value.trim());
            }
        }
    }
}

fn hides(property: &str, value: &str) -> bool {
    let is = |other: &str| property.eq_ignore_ascii_case(other);
    let value_is =
        |other: &str| value.get(..other.len()).is_some_and(|start| start.eq_ignore_ascii_case(other));
    let is_zero = || {
        let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%');
        number.trim().parse::<f32>().is_ok_and(|n| n < 1.5)
    };
    (is("display") && value_is("none"))
        || (is("visibility") && value_is("hidden"))
        || (is("font-size") && !value.ends_with("em") && is_zero())
        || (is("opacity") && value.parse::<f32>().is_ok_and(|n| n < 0.05))
        || (is("mso-hide") && value_is("all"))
        || (is("max-height") && value_is("0"))
}

/// The attributes of a tag.
struct Attributes<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '/');
        let name_len = rest.bytes().position(|b| b == b'=' || b.is_ascii_whitespace()).unwrap_or(rest.len());
        if rest.is_empty() {
            return None;
        }
        let (name, after) = rest.split_at(name_len);
        let after = after.trim_ascii_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_ascii_start) else {
            self.rest = after;
            return Some((name, ""));
        };
        let (value, rest) = match value.bytes().next() {
            Some(quote @ (b'"' | b'\'')) => {
                let inner = &value[1..];
                let end = memchr(quote, inner.as_bytes()).unwrap_or(inner.len());
                (&inner[..end], inner.get(end + 1..).unwrap_or(""))
            }
            _ => value.split_at(value.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(value.len())),
        };
        self.rest = rest;
        Some((name, value))
    }
}

/// Where the `>` of a tag stands: not one within quotes, unless the quote never ends.
fn tag_end(tag: &str) -> usize {
    let bytes = tag.as_bytes();
    let limit = bytes.len().min(16 * 1024);
    let mut at = 0;
    while let Some(found) = bytes[at..limit].iter().position(|b| matches!(b, b'>' | b'"' | b'\'')) {
        at += found;
        match bytes[at] {
            b'>' => return at,
            quote if bytes[..at].trim_ascii_end().last() == Some(&b'=') => {
                match memchr(quote, &bytes[at + 1..limit]) {
                    Some(end) => at += end + 2,
                    None => break,
                }
            }
            _ => at += 1,
        }
    }
    memchr(b'>', bytes).unwrap_or(bytes.len())
}

fn find_closing(source: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = memmem::find(&source.as_bytes()[at..], b"</") {
        let start = at + found;
        let after = &source.as_bytes()[start + 2..];
        if after.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes())) {
            return Some(start);
        }
        at = start + 2;
    }
    None
}

fn decoded(value: &str) -> String {
    let mut out = String::new();
    let mut end = value.len().min(MAX_TARGET_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    decode_entities(value[..end].trim(), &mut out);
    out
}

/// Appends `source` with its character references replaced.
fn decode_entities(source: &str, out: &mut String) {
    const LONGEST: usize = 32;
    let mut rest = source;
    while let Some(at) = memchr(b'&', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(LONGEST).position(|b| b == b';');
        match end.filter(|end| {
            *end > 1 && rest.as_bytes()[1..*end].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'#')
        }) {
            Some(end) => {
                mail_parser::decoders::html::add_html_token(out, &rest.as_bytes()[..=end], false);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

/// Tags between whose texts a reader sees space.
fn breaks_text(name: &str) -> bool {
    const BREAKING: [&str; 24] = [
        "p",
        "br",
        "div",
        "td",
        "th",
        "tr",
        "table",
        "li",
        "ul",
        "ol",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "body",
        "center",
        "blockquote",
        "pre",
        "option",
        "button",
        "title",
    ];
    BREAKING.iter().any(|tag| name.eq_ignore_ascii_case(tag))
}

/// Tags that are never closed.
fn is_void(name: &str) -> bool {
    const VOID: [&str; 13] =
        ["br", "img", "hr", "input", "meta", "link", "area", "base", "col", "p", "wbr", "!doctype", "source"];
    name.is_empty() || VOID.iter().any(|tag| name.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(source: &str) -> String {
        Html::read(source).text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn text_is_what_is_seen() {
        for (source, expect) in [
            ("plain < text & more", "plain < text & more"),
            ("<p>one<p>two", "one two"),
            ("V<b></b>ia<!-- x -->gra", "Viagra"),
            ("caf&eacute; &#38; &#x41;&nope; &", "café & A&nope; &"),
            ("<style>p {a: b}</style>seen<script>if (a<b) x</script>", "seen"),
            ("<div style=\"display:none\">not <b>seen</b></div>seen", "seen"),
            ("<span style='font-size:0px'>x</span>y", "y"),
            ("<img alt='Buy now' src=x>", "Buy now"),
            ("<a title='>' href=x>in</a>", "in"),
            ("<a href=\"never closed>text", "text"),
            ("</div></b>text", "text"),
        ] {
            assert_eq!(text(source), expect, "{source}");
        }
        assert_eq!(Html::read("<div hidden>secret</div>").hidden.trim(), "secret");
    }

    #[test]
    fn links_are_found_with_their_texts() {
        let html = Html::read(
            "<a href='http://a.example/?x=1&amp;y=2'>Your <b>bank</b></a> <a href=b><img src=c width=1></a>",
        );
        assert_eq!(html.links.len(), 2);
        assert_eq!(
            (html.links[0].target.as_str(), html.links[0].text.as_str()),
            ("http://a.example/?x=1&y=2", "Your bank")
        );
        assert!(html.links[1].has_picture && html.has_tiny_picture);
        assert_eq!(html.pictures, ["c"]);
    }

    proptest! {
        #[test]
        fn anything_can_be_read(source in "(<|>|/|a|img|\"|'|=|style|href|!--|-->|&|;|#x4|ü| |display:none){0,60}") {
            let html = Html::read(&source);
            prop_assert!(html.text.len() + html.hidden.len() <= source.len() * 3 + 10);
        }
    }
}
