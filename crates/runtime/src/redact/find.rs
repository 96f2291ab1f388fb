//! Finds a secret in a text, in every form in which servers and messages repeat it.

use zeroize::Zeroizing;

use super::is_unprintable;

/// Characters of a secret that are enough to mask it where a text was cut within it.
const SHORTEST_CUT: usize = 4;
/// Ordinary characters that a secret needs to be searched for with others in place of the special ones.
const FEWEST_ORDINARY: usize = 3;
/// Characters of base64 that are searched for: those of the shortest secret that depend on nothing else.
const SHORTEST_BASE64: usize = 4;
/// Stands for every special character.
const SPECIAL: char = '_';
/// What messages put behind a text that they have cut.
const CUTS: [&str; 3] = ["...", " ...", " [cut]"];
/// Escapes of HTML.
const ENTITIES: [(char, &str); 9] = [
    ('&', "&amp;"),
    ('<', "&lt;"),
    ('>', "&gt;"),
    ('"', "&quot;"),
    ('"', "&#34;"),
    ('\'', "&#39;"),
    ('\'', "&#x27;"),
    ('\'', "&apos;"),
    ('/', "&#x2f;"),
];

/// One form of a secret.
#[derive(PartialEq, Eq)]
pub(super) struct Needle {
    letters: Zeroizing<Vec<char>>,
    how: How,
}

/// How a form is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Anywhere, and with the escapes of URLs, JSON and HTML.
    Escaped,
    /// The same, but not as a part of a word.
    Word,
    /// Anywhere, letter by letter: it has hardly any that messages do not replace.
    Exact,
}

impl Needle {
    /// All forms of a secret.
    pub(super) fn of_secret(value: &str) -> Vec<Self> {
        let letters = letters_of(value);
        let ordinary = letters.iter().filter(|letter| fold(**letter) != SPECIAL);
        let how = if ordinary.count() < FEWEST_ORDINARY {
            How::Exact
        } else {
            How::Escaped
        };
        let mut forms = vec![Self { letters, how }];
        for text in base64_forms(value.as_bytes()) {
            forms.push(Self {
                letters: text,
                how: How::Escaped,
            });
        }
        forms
    }

    /// The forms of a name.
    pub(super) fn of_name(value: &str) -> Vec<Self> {
        vec![Self {
            letters: letters_of(value),
            how: How::Word,
        }]
    }

    /// Where it ends if it begins at `start`, or if its beginning does and the text was cut there.
    pub(super) fn found_at(&self, text: &[char], folded: &[char], start: usize) -> Option<usize> {
        match self.how {
            How::Exact => text
                .get(start..)?
                .starts_with(&self.letters)
                .then_some(start + self.letters.len()),
            How::Escaped => match self.walk(folded, start) {
                (end, count) if count == self.letters.len() => Some(end),
                (end, count) => (count >= SHORTEST_CUT && is_cut(text, end)).then_some(end),
            },
            How::Word => {
                let (end, count) = self.walk(folded, start);
                let is_whole = count == self.letters.len();
                let is_letter = |at: Option<usize>| {
                    at.and_then(|at| text.get(at))
                        .is_some_and(|letter| letter.is_alphanumeric())
                };
                let is_word = !is_letter(start.checked_sub(1)) && !is_letter(Some(end));
                (is_whole && is_word).then_some(end)
            }
        }
    }

    /// How far the text from `start` on is this one: where it ends, and how many of the letters it has.
    fn walk(&self, folded: &[char], start: usize) -> (usize, usize) {
        let (mut at, mut count) = (start, 0);
        while let Some(letter) = self.letters.get(count) {
            let rest = folded.get(at..).unwrap_or_default();
            let length = escaped(*letter, rest);
            if length > 0 {
                at += length;
                count += 1;
            } else if fold(*letter) == SPECIAL && rest.first() == Some(&SPECIAL) {
                // A run of special characters for another: escapes make it longer.
                let is_special = |letter: &&char| fold(**letter) == SPECIAL;
                at += rest.iter().take_while(is_special).count();
                let needed = self.letters.get(count..).unwrap_or_default();
                count += needed.iter().take_while(is_special).count();
            } else {
                break;
            }
        }
        (at, count)
    }
}

/// The letters of a secret, in memory that did not grow, which would leave copies behind.
fn letters_of(value: &str) -> Zeroizing<Vec<char>> {
    let mut letters = Zeroizing::new(Vec::with_capacity(value.len()));
    letters.extend(value.chars());
    letters
}

/// A letter for comparisons: in lower case, and all that messages replace, or put an escape before, alike.
pub(super) fn fold(letter: char) -> char {
    match letter {
        '\\' | '{' | '}' | '[' | ']' | '"' | ' ' | '_' => SPECIAL,
        letter if is_unprintable(letter) => SPECIAL,
        letter => letter.to_ascii_lowercase(),
    }
}

/// How many characters at the beginning of a folded text stand for a letter that is not special, or for one
/// that is escaped; 0 for none.
fn escaped(letter: char, rest: &[char]) -> usize {
    let Some(&first) = rest.first() else {
        return 0;
    };
    let plain = fold(letter);
    // First, since an escape may begin with the very letter that it stands for.
    let length = match first {
        '%' => {
            let mut bytes = [0; 4];
            let encoded: Vec<String> = letter
                .encode_utf8(&mut bytes)
                .bytes()
                .map(|byte| format!("%{byte:02x}"))
                .collect();
            length_of(&encoded.concat(), rest)
        }
        '+' if letter == ' ' => 1,
        '&' => ENTITIES
            .iter()
            .filter(|(escaped, _)| *escaped == letter)
            .map(|(_, entity)| length_of(entity, rest))
            .max()
            .unwrap_or_default(),
        // The escapes of JSON: the backslash is special. More of them where it was escaped again.
        SPECIAL if plain != SPECIAL => {
            let slashes = rest.iter().take_while(|other| **other == SPECIAL).count();
            let rest = rest.get(slashes..).unwrap_or_default();
            if letter == '/' && rest.first() == Some(&'/') {
                return slashes + 1;
            }
            let mut units = [0; 2];
            let encoded: Vec<String> = letter
                .encode_utf16(&mut units)
                .iter()
                .map(|unit| format!("u{unit:04x}"))
                .collect();
            match length_of(&encoded.join("_"), rest) {
                0 => 0,
                length => slashes + length,
            }
        }
        _ => 0,
    };
    if length == 0 && first == plain && plain != SPECIAL {
        return 1;
    }
    length
}

/// How long `wanted` is if the text begins with it, otherwise 0.
fn length_of(wanted: &str, text: &[char]) -> usize {
    let length = wanted.chars().count();
    let begins = text.len() >= length && wanted.chars().eq(text[..length].iter().copied());
    if begins { length } else { 0 }
}

/// Whether a text was cut here: by its end, or by the mark of a message.
fn is_cut(text: &[char], at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default();
    rest.is_empty() || CUTS.iter().any(|mark| length_of(mark, rest) > 0)
}

/// The characters of base64 that stand for `bytes` alone, at each of the three places where they can begin,
/// in the common alphabet and in that of URLs.
fn base64_forms(bytes: &[u8]) -> Vec<Zeroizing<Vec<char>>> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut forms = Vec::new();
    for shift in 0..3 {
        let mut shifted = Zeroizing::new(vec![0; shift]);
        shifted.reserve_exact(bytes.len() + 2);
        shifted.extend_from_slice(bytes);
        // Those of the bytes before, and the last one, hold bits of others.
        let first = (shift * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        shifted.extend_from_slice(&[0, 0]);
        let letter = |index: usize| {
            let (byte, bit) = (index * 6 / 8, index * 6 % 8);
            let pair = u16::from_be_bytes([shifted[byte], shifted[byte + 1]]);
            char::from(LETTERS[usize::from(pair >> (10 - bit) & 63)])
        };
        let common: Zeroizing<Vec<char>> = Zeroizing::new((first..last).map(letter).collect());
        if common.len() < SHORTEST_BASE64 {
            continue;
        }
        if common.iter().any(|letter| matches!(letter, '+' | '/')) {
            let of_urls = common.iter().map(|letter| match letter {
                '+' => '-',
                '/' => '_',
                other => *other,
            });
            forms.push(Zeroizing::new(of_urls.collect()));
        }
        forms.push(common);
    }
    forms
}
