//! Mail that we invented, from `invented.txt`: phishing and spam of kinds that no freely usable collection has enough of, and
//! its honest counterpart, made with the same layouts so that only what matters differs. Seeded: the same every time.

use std::fmt::Write as _;

use super::learner::Random;
use crate::classifier::lexicon::Lexicon;

const KINDS: &str = include_str!("invented.txt");
/// Share of spam, in percent.
const SPAM_PERCENT: usize = 55;

/// An invented message.
pub struct Invented {
    pub message: String,
    pub is_spam: bool,
}

/// `count` messages.
#[must_use]
pub fn messages(count: usize, seed: u64, lexicon: &Lexicon) -> Vec<Invented> {
    let kinds: Vec<Kind> = KINDS.lines().filter_map(Kind::parse).collect();
    let mut inventor = Inventor { random: Random(seed ^ 0x1A7E), lexicon };
    (0..count).map(|_| inventor.invent(&kinds)).collect()
}

/// One line of the file.
struct Kind {
    language: &'static str,
    sender: &'static str,
    theme: &'static str,
    subjects: Vec<&'static str>,
    text: &'static str,
    buttons: Vec<&'static str>,
}

impl Kind {
    fn parse(line: &'static str) -> Option<Self> {
        let [head, subjects, text, buttons] =
            line.split(" | ").collect::<Vec<_>>().try_into().ok().filter(|_| !line.starts_with('#'))?;
        let [language, sender, theme] = head.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let list = |text: &'static str| text.split(';').map(str::trim).collect();
        Some(Kind { language, sender, theme, subjects: list(subjects), text, buttons: list(buttons) })
    }

    /// Themes that need no known name.
    fn is_nameless(&self) -> bool {
        [
            "mailbox", "health", "seo", "fund", "solar", "payroll", "order", "loan", "casino", "dating",
            "extort", "tax",
        ]
        .contains(&self.theme)
            && self.sender == "only"
    }

    fn is_plain(&self) -> bool {
        ["seo", "fund", "extort", "colleague", "machine"].contains(&self.theme)
    }
}

/// Who sends a message, and where its links lead.
struct Sender {
    name: String,
    shown_name: String,
    local_part: String,
    host: String,
    link_host: String,
}

struct Inventor<'a> {
    random: Random,
    lexicon: &'a Lexicon,
}

const SYLLABLES: [&str; 48] = [
    "ba", "be", "bi", "bo", "bra", "ca", "co", "da", "de", "di", "do", "fa", "fi", "ga", "go", "ha", "ja",
    "jo", "ka", "ki", "la", "le", "li", "lo", "ma", "me", "mi", "mo", "na", "ne", "ni", "no", "pa", "pe",
    "po", "ra", "re", "ri", "ro", "sa", "se", "si", "so", "ta", "te", "to", "va", "vi",
];
const FIRST_NAMES: [&str; 14] = [
    "maria", "john", "anna", "peter", "laura", "james", "karen", "paul", "emma", "olga", "lucas", "sofia",
    "david", "julia",
];
const LAST_NAMES: [&str; 12] = [
    "smith", "garcia", "silva", "muller", "rossi", "martin", "brown", "jones", "lopez", "santos", "weber",
    "costa",
];
const CHEAP: [&str; 12] =
    ["shop", "xyz", "top", "online", "site", "info", "club", "store", "live", "click", "icu", "buzz"];
const COUNTRIES: [&str; 17] = [
    "com", "com", "com", "net", "org", "com.br", "co.uk", "de", "in", "fr", "it", "com.au", "co.za", "pl",
    "es", "mx", "ro",
];
const FREE_PAGES: [&str; 8] = [
    "web.app",
    "weebly.com",
    "blogspot.com",
    "r2.dev",
    "workers.dev",
    "vercel.app",
    "firebaseapp.com",
    "godaddysites.com",
];
const TRADES: [&str; 12] =
    ["", "", "", "travel", "dental", "clinic", "garden", "energy", "books", "sports", "bank", "garage"];

impl Inventor<'_> {
    fn invent(&mut self, kinds: &[Kind]) -> Invented {
        let is_spam = self.percent(SPAM_PERCENT);
        let unfit = if is_spam { "own" } else { "only" };
        let fitting: Vec<&Kind> = kinds.iter().filter(|kind| kind.sender != unfit).collect();
        let kind = fitting[self.random.below(fitting.len())];
        let sender = if is_spam { self.stranger(kind) } else { self.owner() };
        let to = format!(
            "{}{}@{}.{}",
            self.pick(&FIRST_NAMES),
            self.random.below(99),
            self.word(3),
            self.pick(&COUNTRIES)
        );
        Invented { message: self.write(kind, &sender, &to, is_spam), is_spam }
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let at = self.random.below(of.len());
        of[at]
    }

    fn word(&mut self, syllables: usize) -> String {
        (0..syllables).map(|_| self.pick(&SYLLABLES)).collect()
    }

    fn token(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(self.pick(b"abcdefghijklmnopqrstuvwxyz0123456789"))).collect()
    }

    fn digits(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(self.pick(b"0123456789"))).collect()
    }

    fn person(&mut self) -> String {
        format!("{} {}", title(self.pick(&FIRST_NAMES)), title(self.pick(&LAST_NAMES)))
    }

    fn stranger_host(&mut self) -> String {
        match self.random.below(100) {
            0..25 => {
                let tail = match self.random.below(3) {
                    0 => String::new(),
                    1 => format!("-{}", self.word(2)),
                    _ => self.digits(2),
                };
                format!("{}{tail}.{}", self.word(3), self.pick(&CHEAP))
            }
            25..88 => {
                let syllables = 2 + self.random.below(3);
                format!("{}.{}", self.word(syllables), self.pick(&COUNTRIES))
            }
            _ => "gmail.com".into(),
        }
    }

    fn stranger(&mut self, kind: &Kind) -> Sender {
        let is_free = kind.is_plain() && self.percent(70);
        let host = if is_free { "gmail.com".into() } else { self.stranger_host() };
        let brand = self.brand(kind.theme == "crypto");
        let shown_name = match self.random.below(3) {
            _ if kind.is_nameless() => {
                let made_up = [
                    self.person(),
                    title(kind.theme),
                    "IT Support".into(),
                    "Mail Admin".into(),
                    title(&self.word(3)),
                ];
                made_up[self.random.below(made_up.len())].clone()
            }
            0 => brand.to_uppercase(),
            1 => title(&brand),
            _ => format!(
                "{}{}",
                title(&brand),
                self.pick(&[" Support", " Security", " Service", " Team", " Notification"])
            ),
        };
        let local_part = if host == "gmail.com" {
            format!("{}{}{}", self.pick(&FIRST_NAMES), self.pick(&LAST_NAMES), self.digits(3))
        } else {
            let made_up = [
                "info".into(),
                "no-reply".into(),
                "contact".into(),
                "noreply".into(),
                "support".into(),
                "admin".into(),
                "newsletter".into(),
                self.word(3),
                self.token(8),
                self.pick(&FIRST_NAMES).to_owned(),
            ];
            made_up[self.random.below(made_up.len())].clone()
        };
        let page = match self.random.below(3) {
            0 if host != "gmail.com" => host.clone(),
            1 => format!("{}-{}.{}", self.word(3), self.word(2), self.pick(&FREE_PAGES)),
            _ => self.stranger_host().replace("gmail.com", "linkpage.com"),
        };
        let prefix = ["", "", "www.", "link.", "go."][self.random.below(5)];
        Sender { name: title(&brand), shown_name, local_part, link_host: format!("{prefix}{page}"), host }
    }

    /// The owner of a name; of a known one, or of one that nobody knows.
    fn owner(&mut self) -> Sender {
        let (name, domain) = if self.percent(50) {
            let trade = self.pick(&TRADES);
            let name = format!("{} {trade}", self.word(3)).trim().to_owned();
            (title(&name), format!("{}.{}", name.replace(' ', ""), self.pick(&COUNTRIES)))
        } else {
            let owned: Vec<(&str, &str)> = self.lexicon.owned_names().collect();
            let (name, domain) = self.pick(&owned);
            let suffix = if self.percent(80) { "com" } else { self.pick(&["co.uk", "de", "net", "com.br"]) };
            (title(name), format!("{domain}.{suffix}"))
        };
        let prefix = self.pick(&["", "", "mail.", "email.", "e.", "news.", "notify."]);
        let local_part = self.pick(&[
            "no-reply",
            "noreply",
            "info",
            "service",
            "orders",
            "billing",
            "news",
            "hello",
            "support",
            "notifications",
        ]);
        let link_prefix = self.pick(&["www.", "www.", "click.", "links.", "t."]);
        let shown_name = if self.percent(20) {
            format!("{name} {}", self.pick(&["Support", "Team", "Service", "News"]))
        } else {
            name.clone()
        };
        Sender {
            shown_name,
            local_part: local_part.into(),
            link_host: format!("{link_prefix}{domain}"),
            host: format!("{prefix}{domain}"),
            name,
        }
    }

    fn brand(&mut self, crypto: bool) -> String {
        if crypto {
            return self
                .pick(&[
                    "coinbase",
                    "binance",
                    "metamask",
                    "trust wallet",
                    "ledger",
                    "trezor",
                    "kraken",
                    "blockchain",
                ])
                .to_owned();
        }
        let owned: Vec<(&str, &str)> = self.lexicon.owned_names().collect();
        self.pick(&owned).0.to_owned()
    }

    fn link(&mut self, sender: &Sender, is_spam: bool) -> String {
        let scheme = if self.percent(if is_spam { 30 } else { 10 }) { "http" } else { "https" };
        let length = 6 + self.random.below(54);
        let path = match self.random.below(7) {
            0 => String::new(),
            1 => self.token(length),
            2 => format!("{}/{}", self.word(2), self.token(12)),
            3 => format!("c/{}", self.token(20)),
            4 => format!("?id={}", self.token(16)),
            5 => format!("{}/{}", if is_spam { "wp-content" } else { "account" }, self.word(2)),
            _ => format!("{}?e={}", self.token(30), self.token(8)),
        };
        format!("{scheme}://{}/{path}", sender.link_host)
    }

    fn write(&mut self, kind: &Kind, sender: &Sender, to: &str, is_spam: bool) -> String {
        let subject = self.fill_one(&kind.subjects, sender, to);
        let text = self.fill(kind.text, sender, to);
        let mut sentences: Vec<&str> = text.split(". ").map(|s| s.trim_end_matches('.')).collect();
        if sentences.len() > 2 && self.percent(50) {
            sentences.remove(self.random.below(sentences.len()));
        }
        let button = kind.buttons[self.random.below(kind.buttons.len())];
        let button = (button != "Reply").then_some(button);
        let greeting = self.pick(greetings(kind.language));
        let html = self.html(greeting, &sentences, button, sender, &subject, is_spam);
        let mut plain = format!("{greeting}\n\n{}.\n\n", sentences.join(". "));
        if let Some(button) = button {
            let _ = writeln!(plain, "{button}: {}", self.link(sender, is_spam));
        }
        if kind.theme == "machine" && self.percent(70) {
            return self.bare(sender, to, &subject, &sentences);
        }
        let mut message = self.header(sender, to, &subject, is_spam);
        match self.random.below(100) {
            n if n < 10 || (kind.is_plain() && n < 70) => {
                let _ = write!(message, "Content-Type: text/plain; charset=\"UTF-8\"\n\n{plain}");
            }
            10..45 => {
                let charset = self.pick(&["utf-8", "UTF-8", "\"UTF-8\""]);
                let _ = write!(message, "Content-Type: text/html; charset={charset}\n\n{html}");
            }
            _ => {
                let boundary = self.boundary();
                let _ = write!(
                    message,
                    "Content-Type: multipart/alternative; boundary=\"{boundary}\"\n\n--{boundary}\nContent-Type: text/plain; charset=\"utf-8\"\n\n{plain}\n--{boundary}\nContent-Type: text/html; charset=\"utf-8\"\n\n{html}\n--{boundary}--\n"
                );
            }
        }
        message
    }

    /// As scripts and people who try a server write: no MIME, often no Message-ID, a line of text.
    fn bare(&mut self, sender: &Sender, to: &str, subject: &str, sentences: &[&str]) -> String {
        let mut message =
            format!("From: {}@{}\n", self.pick(&["root", "www-data", "paul", "a", "app"]), sender.host);
        if self.percent(80) {
            let _ = writeln!(message, "To: {to}");
        }
        if self.percent(50) {
            let _ = writeln!(message, "Message-ID: <{}@{}>", self.token(16), sender.host);
        }
        let _ = write!(
            message,
            "Subject: {subject}\nDate: Mon, 23 Nov 2026 03:16:50 +0000\n\n{}\n",
            self.pick(sentences)
        );
        message
    }

    fn fill(&mut self, text: &str, sender: &Sender, to: &str) -> String {
        let number = if self.percent(50) { self.digits(6) } else { self.token(9).to_uppercase() };
        text.replace("{b}", &sender.name).replace("{n}", &number).replace("{a}", to)
    }

    fn fill_one(&mut self, texts: &[&str], sender: &Sender, to: &str) -> String {
        let text = self.pick(texts);
        self.fill(text, sender, to)
    }

    fn boundary(&mut self) -> String {
        match self.random.below(5) {
            0 => format!("----=_Part_{}_{}", self.digits(6), self.digits(9)),
            1 => format!("b1_{}", self.token(32)),
            2 => format!("_----{}===_", self.token(22)),
            3 => format!("000000000000{}", self.digits(16)),
            _ => self.token(32),
        }
    }

    fn header(&mut self, sender: &Sender, to: &str, subject: &str, is_spam: bool) -> String {
        let Sender { shown_name, local_part, host, .. } = sender;
        let quote = if self.percent(50) { "\"" } else { "" };
        let mut header = format!("From: {quote}{shown_name}{quote} <{local_part}@{host}>\nTo: {to}\n");
        if self.percent(25) {
            let elsewhere = is_spam && self.percent(50);
            let reply_host = if elsewhere { self.stranger_host() } else { host.clone() };
            let _ = writeln!(header, "Reply-To: {local_part}@{reply_host}");
        }
        let id = match self.random.below(3) {
            0 => self.token(20),
            1 => format!("{}-{}-{}", self.token(8), self.token(4), self.token(12)),
            _ => format!("0100018{}-{}", self.token(20), self.token(8)),
        };
        let id_host = match self.random.below(4) {
            0 => "email.amazonses.com".to_owned(),
            1 => format!("geopod-ismtpd-{}", self.random.below(40)),
            2 => format!("mail.{host}"),
            _ => host.clone(),
        };
        let _ = write!(
            header,
            "Subject: {subject}\nDate: Mon, 23 Nov 2026 03:16:50 +0000\nMessage-ID: <{id}@{id_host}>\nMIME-Version: 1.0\n"
        );
        if self.percent(if is_spam { 30 } else { 60 }) {
            let _ = writeln!(header, "List-Unsubscribe: <{}>", self.link(sender, is_spam));
        }
        header
    }

    fn html(
        &mut self,
        greeting: &str,
        sentences: &[&str],
        button: Option<&str>,
        sender: &Sender,
        subject: &str,
        is_spam: bool,
    ) -> String {
        let mut core = String::new();
        if self.percent(60) {
            let _ = write!(
                core,
                "<img src=\"{}\" width=\"{}\">",
                self.link(sender, is_spam),
                self.pick(&[1, 120, 600])
            );
        }
        let _ = write!(core, "<p>{greeting}</p>");
        if self.percent(50) {
            for sentence in sentences {
                let _ = write!(core, "<p>{sentence}.</p>");
            }
        } else {
            let _ = write!(core, "<div>{}.</div>", sentences.join(". "));
        }
        if let Some(button) = button {
            let style = self.pick(&[
                "color:#fff;background:#0070ba;padding:12px 24px;text-decoration:none",
                "color:#0000ee",
                "display:inline-block;padding:10px",
            ]);
            let _ = write!(core, "<a href=\"{}\" style=\"{style}\">{button}</a>", self.link(sender, is_spam));
        }
        let foot = self.random.below(3);
        if foot == 0 {
            let _ = write!(core, "<p>&copy; 2025 {}</p>", sender.name);
        } else if foot == 1 {
            let _ = write!(
                core,
                "<p style=\"font-size:12px;color:#888\">{}, {} Main Street. <a href=\"{}\">Unsubscribe</a></p>",
                sender.name,
                self.random.below(999),
                self.link(sender, is_spam)
            );
        }
        match self.random.below(4) {
            0 => format!("<html><body>{core}</body></html>"),
            1 => format!(
                "<!DOCTYPE html><html><head><meta charset=\"utf-8\"><title>{subject}</title><style>body{{font-family:Arial}}</style></head><body><table width=\"600\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\" align=\"center\"><tr><td style=\"padding:20px;font-family:Arial,sans-serif\">{core}</td></tr></table></body></html>"
            ),
            2 => format!("<div dir=\"ltr\">{core}</div>"),
            _ => format!(
                "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"><html xmlns=\"http://www.w3.org/1999/xhtml\"><head><meta name=\"viewport\" content=\"width=device-width, initial-scale=1.0\"></head><body style=\"margin:0\"><center><table role=\"presentation\" width=\"100%\"><tbody><tr><td align=\"center\" bgcolor=\"#ffffff\">{core}</td></tr></tbody></table></center></body></html>"
            ),
        }
    }
}

fn greetings(language: &str) -> &'static [&'static str] {
    match language {
        "pt" => &["Olá,", "Prezado cliente,", ""],
        "es" => &["Hola,", "Estimado cliente,", ""],
        "fr" => &["Bonjour,", "Cher client,", ""],
        "de" => &["Guten Tag,", "Sehr geehrte Kundin, sehr geehrter Kunde,", ""],
        "it" => &["Ciao,", "Gentile cliente,", ""],
        "pl" => &["Dzień dobry,", "Szanowny kliencie,", ""],
        "nl" => &["Beste klant,", "Geachte klant,", ""],
        _ => &["Hi,", "Hello,", "Dear customer,", ""],
    }
}

fn title(words: &str) -> String {
    let capital = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    };
    words.split(' ').map(capital).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_kind_and_the_same_mail_comes_every_time() {
        let lines = KINDS.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(KINDS.lines().filter_map(Kind::parse).count(), lines);
        let lexicon = Lexicon::new();
        let (one, other) = (messages(200, 1, &lexicon), messages(200, 1, &lexicon));
        assert!(one.iter().zip(&other).all(|(a, b)| a.message == b.message));
        let spam = one.iter().filter(|m| m.is_spam).count();
        assert!((80..140).contains(&spam), "{spam}");
        assert!(one.iter().all(|m| m.message.contains("Subject: ") && !m.message.contains("{b}")));
    }
}
