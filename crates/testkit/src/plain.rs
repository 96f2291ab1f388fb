//! The rule for every text that users read: it is made of words.

/// Longest text that is still read, in bytes.
const LONGEST: usize = 1200;

/// Fails when a text is not fit to be read by people: the `Debug` of a library's type, bytes in
/// decimal or escaped, an object identifier, control characters, or no end.
///
/// # Panics
/// With the text, and what is wrong with it.
#[track_caller]
pub fn assert_plain(text: &str) {
    let wrong = |why: &str| panic!("{why}: {text}");
    if text.trim().is_empty() {
        wrong("nothing is said");
    }
    if text.len() > LONGEST {
        wrong("too long");
    }
    if text.chars().any(char::is_control) {
        wrong("control characters");
    }
    for sign in [
        "Error {",
        "Error(",
        "Some(",
        "Err(",
        "Ok(",
        "{ ",
        " }",
        "\\x",
        "\\u{",
        "\\n",
        "\\r",
        "[]",
        "()",
        "DnsName(",
        "IpAddress(",
        "OtherError",
        "Context {",
        "kind:",
        "os_error",
        " 0x",
    ] {
        if text.contains(sign) {
            wrong(&format!("{sign:?} is no word"));
        }
    }
    if has_bytes(text) {
        wrong("bytes in decimal");
    }
    if text
        .split([' ', ',', ';', ':', '(', ')', '"'])
        .any(is_object_identifier)
    {
        wrong("an object identifier");
    }
}

/// `[1, 2, 3` or `1, 2, 3, 4`: a list of numbers below 256.
fn has_bytes(text: &str) -> bool {
    let mut row = 0;
    for part in text.split(", ") {
        let number = part.rsplit(['[', ' ']).next().unwrap_or_default();
        row = if number.parse::<u8>().is_ok() {
            row + 1
        } else {
            0
        };
        if row >= 3 {
            return true;
        }
    }
    false
}

/// `1.2.840.113549.1.1.5`, but no IPv4 address and no version.
fn is_object_identifier(word: &str) -> bool {
    let parts = word.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.clone().count() > 4 && parts.into_iter().all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_plain_and_dumps_are_not() {
        for text in [
            "https://127.0.0.1:54322: the server's certificate is not accepted: it has expired; have it \
             renewed, check this machine's clock, or set `insecureSkipVerify` to check nothing",
            "the target /dev/vdb has 1073741824 bytes, the disk 2147483648; use a larger volume",
            "3 tries in 5 s, 12 answers; 206 without a Content-Range",
            "no connection: Connection refused (os error 111)",
            "found 1, 2 and more regions: One, Two",
        ] {
            assert_plain(text);
        }
        for text in [
            "",
            "MissingSectionEnd { end_marker: [67, 69, 82, 84] }",
            "bytes 45, 45, 45, 45",
            "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))",
            "signed with 1.2.840.113549.1.1.5",
            "cannot parse \"a\\x00b\"",
            "it is for DnsName(\"other.example\")",
            "two\nlines",
            &"long ".repeat(1000),
        ] {
            let plain = std::panic::catch_unwind(|| assert_plain(text));
            assert!(plain.is_err(), "{text}");
        }
    }
}
