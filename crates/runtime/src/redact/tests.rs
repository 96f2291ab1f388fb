use super::*;

fn of(secrets: &[&str]) -> Redactor {
    let redactor = Redactor::new();
    for secret in secrets {
        redactor.add_secret(secret);
    }
    redactor
}

#[test]
fn every_form_of_a_secret_is_masked() {
    // "pässword/<1>&+\"{}": each kind of escape has something to do.
    let redactor = of(&["päss word/<1>&+\"{}x"]);
    for form in [
        "päss word/<1>&+\"{}x",
        "PäSS WORD/<1>&+\"{}X",
        // URLs: a path, a form, everything, in lower case.
        "p%C3%A4ss%20word/<1>&+%22%7B%7Dx",
        "p%C3%A4ss+word%2F%3C1%3E%26%2B%22%7B%7Dx",
        "p%c3%a4ss%20word%2f%3c1%3e%26%2b%22%7b%7dx",
        // JSON, of several writers, and JSON within JSON.
        "päss word/<1>&+\\\"{}x",
        "p\\u00e4ss word\\/\\u003c1\\u003e\\u0026+\\\"{}x",
        "päss word/<1>&+\\\\\\\"{}x",
        // HTML.
        "päss word/&lt;1&gt;&amp;+&quot;{}x",
        "päss word&#x2F;&lt;1&gt;&amp;+&#34;{}x",
        // What our messages make of it.
        "päss word/<1>&+___x",
        // base64, and base64 of URLs.
        "cMOkc3Mgd29yZC88MT4mKyJ7fXg=",
    ] {
        let masked = redactor.apply(&format!("before={form}&after"));
        assert!(masked.starts_with("before=***"), "{form}: {masked}");
        assert!(masked.ends_with("&after"), "{form}: {masked}");
        assert!(!masked.contains("ord"), "{form}: {masked}");
    }
}

#[test]
fn base64_of_a_text_with_the_secret_in_it_does_not_hold_it() {
    let redactor = of(&["Hunter2Pw?>"]);
    for (before, encoded) in [
        // Of "a:Hunter2Pw?>", "ab:Hunter2Pw?>z", "abc:Hunter2Pw?>zz", "Hunter2Pw?>".
        ("a:", "YTpIdW50ZXIyUHc/Pg=="),
        ("ab:", "YWI6SHVudGVyMlB3Pz56"),
        ("abc:", "YWJjOkh1bnRlcjJQdz8+eno="),
        ("", "SHVudGVyMlB3Pz4="),
        ("of URLs", "YWJjOkh1bnRlcjJQdz8-eno="),
    ] {
        let masked = redactor.apply(encoded);
        let left = masked.replace("***", "");
        assert!(left.len() <= 10, "{before}: {masked}");
        assert!(masked.contains("***"), "{before}: {masked}");
    }
}

#[test]
fn a_secret_that_was_cut_is_masked() {
    let redactor = of(&["Hunter2Password"]);
    for (text, masked) in [
        ("says: Hunter2Pas...", "says: ***..."),
        ("says: \"Hunter2P...\"", "says: \"***...\""),
        ("says: Hunt ...", "says: *** ..."),
        ("says: Hunter2Pass [cut]", "says: *** [cut]"),
        ("says: Hunter2", "says: ***"),
        // Another word.
        ("a Hunter is here", "a Hunter is here"),
        ("Hun...", "Hun..."),
    ] {
        assert_eq!(redactor.apply(text), masked);
    }
}

#[test]
fn the_longest_secret_wins_and_all_of_them_are_found() {
    let redactor = of(&["secret", "secret-of-two-words", "another"]);
    assert_eq!(
        redactor.apply("secret-of-two-words, another and secret; secretsecret"),
        "***, *** and ***; ******"
    );
}

#[test]
fn names_are_masked_as_words_and_short_values_are_left_alone() {
    let redactor = of(&["abc", "  abcd \n"]);
    redactor.add_name("admin");
    redactor.add_name("bob");
    assert_eq!(
        redactor.apply("abc abcd admin@internal administrator bob Admin."),
        "abc *** ***@internal administrator bob ***."
    );
}

#[test]
fn a_secret_of_special_characters_does_not_mask_every_blank() {
    let redactor = of(&["\"{} ", "{ }_\\"]);
    assert_eq!(
        redactor.apply("a b _ {} and { }_\\ end"),
        "a b _ {} and *** end"
    );
}

#[test]
fn a_secret_of_many_blanks_is_searched_for_in_little_time() {
    let redactor = of(&[&format!("abc{}d", " _".repeat(500))]);
    let text = format!("abc{}", "_ ".repeat(4000));
    assert!(redactor.apply(&text).starts_with("***"));
}

#[test]
fn the_first_secrets_stay_however_many_follow() {
    let redactor = of(&["the-first-of-all"]);
    for number in 0..1000 {
        redactor.add_secret(&format!("ticket-{number:06}"));
    }
    assert_eq!(redactor.0.read().unwrap().len(), MOST);
    assert_eq!(
        redactor.apply("the-first-of-all, ticket-000999"),
        "***, ***"
    );
}

#[test]
fn clones_know_the_same_and_show_nothing() {
    let redactor = Redactor::new();
    let clone = redactor.clone();
    clone.add_secret("hunter2");
    assert_eq!(redactor.apply("hunter2"), "***");
    assert_eq!(format!("{redactor:?}"), "Redactor");
}

#[test]
fn control_and_direction_characters_become_blanks() {
    let text = "a\u{1b}[31mb\r\nc\u{202e}d\u{2028}e\u{85}f\u{200b}g\u{2066}h\u{e0041}i\tj\u{0}k";
    let line = "a [31mb  c d e f g h i j k";
    assert_eq!(sanitised(text), line);
    assert_eq!(Redactor::new().apply(text), line);
    assert_eq!(of(&["hunter2"]).apply(text), line);
    assert_eq!(sanitised("Datenträger 磁盘 🖴"), "Datenträger 磁盘 🖴");
}

#[test]
fn texts_are_bounded_at_a_character() {
    for text in [
        "x".repeat(10_000),
        "€".repeat(5_000),
        "\u{7}".repeat(1 << 20),
    ] {
        for line in [sanitised(&text).into_owned(), of(&["hunter2"]).apply(&text)] {
            assert!(
                line.len() <= LONGEST && line.len() > LONGEST - 10,
                "{}",
                line.len()
            );
            assert!(line.ends_with(CUT));
        }
    }
    let whole = "x".repeat(LONGEST);
    assert_eq!(sanitised(&whole), whole);
}
