//! Words as their reader sees them: characters that look alike made one, invisible ones dropped, accents and case folded,
//! digits made one digit.

use super::features::hash;

/// Words of one text that are looked at.
pub const MAX_WORDS: usize = 4000;
const MAX_WORD_BYTES: usize = 40;
/// The ASCII letters and digits.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    plain
};

/// The words of a text, in order, with what was odd about its characters.
#[derive(Default)]
pub struct Words {
    pub hashes: Vec<u64>,
    /// The words themselves, when asked for.
    pub texts: Option<Vec<String>>,
    /// Words written with letters of two alphabets, or with letters that only look like some.
    pub lookalikes: usize,
    /// Invisible characters inside of words.
    pub invisible: usize,
    pub letters: usize,
    pub capitals: usize,
    /// Characters outside of ASCII.
    pub foreign: usize,
    pub emoji: usize,
    pub exclamations: usize,
}

impl Words {
    /// Reads a text. `named`: keep the words themselves.
    #[must_use]
    pub fn of(text: &str, named: bool) -> Self {
        let mut words = Words { texts: named.then(Vec::new), ..Words::default() };
        words.read(text);
        words
    }

    /// Reads on, so that what follows is beside what came before.
    pub fn read(&mut self, text: &str) {
        let mut word = Word::default();
        let mut invisible_pending = false;
        let mut rest = text;
        while self.hashes.len() < MAX_WORDS {
            // Plain letters and digits, most of most mail, go a run at a time.
            let run = rest.bytes().position(|b| !IS_PLAIN[usize::from(b)]).unwrap_or(rest.len());
            if run > 0 {
                self.invisible += usize::from(std::mem::take(&mut invisible_pending));
                self.letters += run;
                self.capitals += word.take_plain(&rest.as_bytes()[..run]);
            }
            let Some(c) = rest[run..].chars().next() else { break };
            rest = &rest[run + c.len_utf8()..];
            if is_invisible(c) {
                invisible_pending = word.len > 0;
                continue;
            }
            let is_word = c.is_alphanumeric();
            self.invisible += usize::from(std::mem::take(&mut invisible_pending) && is_word);
            if !is_word {
                self.note_symbol(c);
                // "don't", "e-mail" are one word each, and so are letters spaced by dots.
                if !(matches!(c, '\'' | '’') && word.len > 0) {
                    self.end(&mut word);
                }
                continue;
            }
            self.letters += 1;
            self.capitals += usize::from(c.is_uppercase());
            self.foreign += 1;
            if is_wide(c) {
                self.end(&mut word);
                word.push(c);
                self.end(&mut word);
            } else {
                word.take(c);
            }
        }
        self.end(&mut word);
    }

    fn note_symbol(&mut self, c: char) {
        self.exclamations += usize::from(c == '!');
        self.emoji += usize::from(matches!(c as u32, 0x1F000..=0x1FAFF | 0x2600..=0x27BF));
    }

    fn end(&mut self, word: &mut Word) {
        if word.len == 0 {
            return;
        }
        let done = std::mem::take(word);
        self.lookalikes += usize::from(done.is_lookalike());
        let text = done.text();
        self.hashes.push(hash(text.as_bytes()));
        if let Some(texts) = &mut self.texts {
            texts.push(text.to_owned());
        }
    }
}

/// A word being read.
#[derive(Clone)]
struct Word {
    bytes: [u8; MAX_WORD_BYTES],
    len: usize,
    digits: usize,
    chars: usize,
    has_latin: bool,
    has_confusable: bool,
    has_styled: bool,
}

impl Default for Word {
    fn default() -> Self {
        Word {
            bytes: [0; MAX_WORD_BYTES],
            len: 0,
            digits: 0,
            chars: 0,
            has_latin: false,
            has_confusable: false,
            has_styled: false,
        }
    }
}

impl Word {
    /// Takes ASCII letters and digits; gives how many of them are capitals.
    fn take_plain(&mut self, run: &[u8]) -> usize {
        let kept = run.len().min(MAX_WORD_BYTES - self.len);
        let (mut digits, mut capitals) = (0, 0);
        for (to, from) in self.bytes[self.len..].iter_mut().zip(run) {
            let is_digit = from.is_ascii_digit();
            digits += usize::from(is_digit);
            capitals += usize::from(from.is_ascii_uppercase());
            *to = if is_digit { b'0' } else { from.to_ascii_lowercase() };
        }
        for more in &run[kept..] {
            digits += usize::from(more.is_ascii_digit());
            capitals += usize::from(more.is_ascii_uppercase());
        }
        self.len += kept;
        self.chars += run.len();
        self.digits += digits;
        self.has_latin |= digits < run.len();
        capitals
    }

    /// Takes a letter or digit outside of ASCII.
    fn take(&mut self, c: char) {
        self.chars += 1;
        if let Some(plain) = styled(c) {
            self.has_styled = true;
            self.push(plain);
        } else if let Some(plain) = confusable(c).filter(|_| self.has_latin) {
            self.has_confusable = true;
            self.push(plain);
        } else {
            let lower = c.to_lowercase().next().unwrap_or(c);
            fold(lower, |c| self.push(c));
        }
    }

    fn push(&mut self, c: char) {
        let mut buffer = [0; 4];
        let encoded = c.encode_utf8(&mut buffer).as_bytes();
        if self.len + encoded.len() <= MAX_WORD_BYTES {
            self.bytes[self.len..self.len + encoded.len()].copy_from_slice(encoded);
            self.len += encoded.len();
        }
    }

    fn is_lookalike(&self) -> bool {
        (self.has_confusable && self.has_latin) || self.has_styled
    }

    fn text(&self) -> &str {
        // Long words with digits are identifiers: which one they are says nothing.
        if self.digits > 2 && self.chars > 9 && self.digits < self.chars {
            return "<identifier>";
        }
        if self.chars > 30 {
            return "<long>";
        }
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("<long>")
    }
}

/// Characters that a reader does not see.
fn is_invisible(c: char) -> bool {
    matches!(c as u32, 0xAD | 0x34F | 0x61C | 0x180E | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xFEFF)
}

/// Scripts written without spaces: each character is a word.
fn is_wide(c: char) -> bool {
    matches!(c as u32, 0x0E00..=0x0E7F | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0x20000..=0x2FA1F)
}

/// Letters in another style (full width, mathematical, circled), as plain ones.
fn styled(c: char) -> Option<char> {
    let code = c as u32;
    let letter = |offset: u32| char::from_u32(u32::from(b'a') + offset % 26);
    match code {
        0xFF10..=0xFF19 => Some('0'),
        0xFF21..=0xFF3A => letter(code - 0xFF21),
        0xFF41..=0xFF5A => letter(code - 0xFF41),
        // Thirteen alphabets of 26 capitals and 26 small letters, one after the other.
        0x1D400..=0x1D6A3 => letter(code - 0x1D400),
        0x1D7CE..=0x1D7FF => Some('0'),
        0x24B6..=0x24E9 => letter(code - 0x24B6),
        0x1F130..=0x1F149 => letter(code - 0x1F130),
        _ => None,
    }
}

/// Cyrillic and Greek letters that look like Latin ones.
fn confusable(c: char) -> Option<char> {
    let plain = match c {
        'а' | 'А' | 'α' | 'Α' => 'a',
        'В' | 'Β' => 'b',
        'с' | 'С' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'Е' | 'Ε' => 'e',
        'Н' | 'Η' | 'һ' => 'h',
        'і' | 'І' | 'ι' | 'Ι' | 'ı' => 'i',
        'ј' | 'Ј' => 'j',
        'к' | 'К' | 'κ' | 'Κ' => 'k',
        'М' | 'Μ' => 'm',
        'п' | 'Ν' => 'n',
        'о' | 'О' | 'ο' | 'Ο' => 'o',
        'р' | 'Р' | 'ρ' | 'Ρ' => 'p',
        'ѕ' | 'Ѕ' => 's',
        'Т' | 'τ' | 'Τ' => 't',
        'ν' => 'v',
        'х' | 'Х' | 'χ' | 'Χ' => 'x',
        'у' | 'У' | 'γ' | 'Υ' => 'y',
        'Ζ' => 'z',
        _ => return None,
    };
    Some(plain)
}

/// Latin letters without their accents; others as they are.
fn fold(c: char, mut push: impl FnMut(char)) {
    let plain = match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => 'c',
        'ď' | 'đ' | 'ð' => 'd',
        'è'..='ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => 'e',
        'ğ' | 'ģ' => 'g',
        'ì'..='ï' | 'ī' | 'į' | 'ı' => 'i',
        'ķ' => 'k',
        'ĺ' | 'ļ' | 'ľ' | 'ł' => 'l',
        'ñ' | 'ń' | 'ņ' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ŕ' | 'ř' => 'r',
        'ś' | 'ş' | 'š' | 'ș' => 's',
        'ţ' | 'ť' | 'ț' => 't',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' | 'ų' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ß' => {
            push('s');
            's'
        }
        'æ' => {
            push('a');
            'e'
        }
        'œ' => {
            push('o');
            'e'
        }
        other => other,
    };
    push(plain);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        Words::of(text, true).texts.unwrap_or_default()
    }

    #[test]
    fn words_are_as_their_reader_sees_them() {
        for (text, expect) in [
            ("Verify your ACCOUNT, now!", vec!["verify", "your", "account", "now"]),
            ("V\u{200b}i\u{200d}a\u{ad}gra", vec!["viagra"]),
            ("Pаypаl", vec!["paypal"]),
            ("𝗖𝗹𝗮𝗶𝗺 ＦＲＥＥ", vec!["claim", "free"]),
            ("Überprüfung Straße não", vec!["uberprufung", "strasse", "nao"]),
            ("order 12345 for $99.50", vec!["order", "00000", "for", "00", "00"]),
            ("id a1b2c3d4e5f6g7", vec!["id", "<identifier>"]),
            ("привет", vec!["привет"]),
            ("確認", vec!["確", "認"]),
            ("don't", vec!["dont"]),
        ] {
            assert_eq!(words(text), expect, "{text}");
        }
        let odd = Words::of("Pаypаl a\u{200b}b", false);
        assert_eq!((odd.lookalikes, odd.invisible), (1, 1));
    }

    #[test]
    fn no_text_is_read_without_end() {
        assert_eq!(Words::of(&"a ".repeat(100_000), false).hashes.len(), MAX_WORDS);
        assert_eq!(words(&"x".repeat(5000)), ["<long>"]);
    }
}
