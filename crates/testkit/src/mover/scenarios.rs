//! Faults that every mover must survive, or report by the right exit code.
//!
//! [`crate::mover_scenarios!`] makes a test of each. `start` gives a new [`Fixture`].

#![allow(
    missing_docs,
    reason = "a scenario's name is the sentence that it proves"
)]

use std::{fs, path::Path};

use contract::{Exit, MountedBundle};
use serde_json::json;

use super::{Fixture, Source};
use crate::{
    ConnectionFault, Cut, Disk, Fault, Gate, Object, Reply, Request, Server, Volume, When,
    pki::{Authority, Identity, LOCAL},
};

/// Makes a test of each scenario, from a function that gives a new [`Fixture`].
#[macro_export]
macro_rules! mover_scenarios {
    ($start:path) => {
        $crate::mover_scenarios! { $start:
            a_cut_body_is_continued_where_it_ended,
            resets_and_answers_that_never_come,
            a_stall_is_ended_and_the_rest_asked_for_again,
            a_range_that_is_not_the_one_asked_for_is_never_written,
            a_server_that_stays_busy_exhausts_the_retry_budget,
            a_server_that_is_gone_for_a_while,
            a_full_file_system,
            every_fault_at_once_on_several_connections,
            data_is_read_on_as_many_connections_as_are_asked_for,
            certificates_that_nobody_should_trust,
            certificates_to_be_trusted,
            a_bundle_for_all_sources_adds_to_the_system_s_authorities,
            a_bundle_for_all_sources_that_cannot_be_used_is_named,
            a_bundle_that_the_namespace_lacks_is_named_where_it_was_needed,
            the_password_does_not_follow_a_redirect,
            an_answer_without_end_does_not_fill_the_memory,
            no_secret_that_a_server_repeats_is_shown,
        }
    };
    ($start:path: $($scenario:ident,)*) => {$(
        #[test]
        fn $scenario() {
            $crate::mover::scenarios::$scenario($start);
        }
    )*};
}

/// One connection reads whatever there is with one request: a second one follows a cut.
fn give_some_bytes<S: Source>(server: &Server) {
    server.fault(S::request(0), Fault::cut(100_000, Cut::Orderly));
}

pub fn a_cut_body_is_continued_where_it_ended<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let server = fixture.source.data();
    server.fault(S::request(0), Fault::cut(2000, Cut::Fin));
    server.fault(S::request(1), Fault::cut(513, Cut::Orderly));
    server.fault(S::request(2), Fault::cut(3_000_000, Cut::Fin));
    server.fault(S::request(3), Fault::cut(0, Cut::Fin));
    assert_eq!(fixture.copies().retries, 4);
    let ranges = fixture.ranges();
    assert_eq!((ranges[0].0, ranges[1].0, ranges[2].0), (0, 2000, 2513));
    assert_eq!(ranges[4], ranges[3]);
}

pub fn resets_and_answers_that_never_come<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let server = fixture.source.data();
    server.fault(S::request(0), Fault::cut(100_000, Cut::Reset));
    server.fault(S::request(1), Fault::NoAnswer(Cut::Fin));
    server.fault(S::request(2), Fault::NoAnswer(Cut::Reset));
    assert_eq!(fixture.copies().retries, 3);
}

pub fn a_stall_is_ended_and_the_rest_asked_for_again<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let server = fixture.source.data();
    server.fault(S::request(0), Fault::stall(70_000, &Gate::new()));
    server.fault(S::request(1), Fault::HoldHead(Gate::new()));
    let command = fixture.command().flag("stall-timeout", "1s");
    // A slow machine may stall a healthy answer as well.
    assert!(fixture.copies_with(&command).retries >= 2);
    assert_eq!(fixture.ranges()[1].0, 70_000);
}

pub fn a_range_that_is_not_the_one_asked_for_is_never_written<S: Source>(
    start: fn() -> Fixture<S>,
) {
    for lie in [
        Fault::Shift(512),
        Fault::Header("Content-Range", "bytes 0-99/1000000".to_owned()),
        Fault::Header("Content-Range", "nonsense".to_owned()),
        Fault::Total(5 << 20),
        Fault::ContentLength(512),
        Fault::IgnoreRange,
    ] {
        let fixture = start();
        let server = fixture.source.data();
        give_some_bytes::<S>(server);
        server.fault(S::request(1).always(), lie.clone());
        // A lie of a source that has given bytes is believed after some tries within this time.
        let command = fixture.command().flag("no-progress-timeout", "1s");
        let run = command.run();
        let protocol = Some(Exit::SourceProtocol.code().into());
        assert_eq!(run.code(), protocol, "{lie:?}: {}", run.output());
        fixture.ended(&run, Exit::SourceProtocol);
    }
}

pub fn a_server_that_stays_busy_exhausts_the_retry_budget<S: Source>(start: fn() -> Fixture<S>) {
    for busy in [Fault::status(503), Fault::retry_after(503, 1)] {
        let fixture = start();
        let server = fixture.source.data();
        give_some_bytes::<S>(server);
        server.fault(S::request(1).always(), busy);
        let command = fixture.command().flag("no-progress-timeout", "2s");
        fixture.fails_with(&command, Exit::SourceUnavailable, &["503"]);
    }
}

pub fn a_server_that_is_gone_for_a_while<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let server = fixture.source.data();
    let gate = Gate::new();
    give_some_bytes::<S>(server);
    server.fault(S::request(1), Fault::stall(10, &gate));
    let running = fixture.command().flag("log-level", "debug").spawn();
    server.wait_for_held(1);
    server.refuse();
    server.drop_connections();
    gate.open();
    running.wait_for_line("refused");
    server.listen();
    fixture.has_copied(&running.wait());
}

pub fn a_full_file_system<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let volume = Volume::ext4(4 << 20);
    let target = volume.path("disk.img");
    let command = fixture.command_to(&target);
    if S::KNOWS_ZEROES {
        fixture.fails_with(
            &command,
            Exit::TargetFull,
            &["room for", "nothing was written"],
        );
        assert!(!target.exists());
    } else {
        fixture.fails_with(&command, Exit::TargetFull, &["bytes free"]);
    }
    // Zeroes that are written take room as well.
    let command = command.flag("detect-zeroes", "off").arg("--force");
    fixture.fails_with(&command, Exit::TargetFull, &["nothing was written"]);
}

pub fn every_fault_at_once_on_several_connections<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let server = fixture.source.data();
    server.fault(S::request(0), Fault::cut(77, Cut::Fin));
    server.fault(S::request(1), Fault::cut(1_048_576, Cut::Reset));
    server.fault(S::request(2), Fault::status(502));
    server.fault(S::request(3), Fault::NoAnswer(Cut::Orderly));
    server.fault(S::request(4), Fault::Close);
    server.fault(S::request(5), Fault::retry_after(503, 0));
    server.fault(S::request(6), Fault::Chunked(10_000));
    let command = fixture.command_to(&fixture.target());
    fixture.copies_with(&command.flag("connections", "4"));
}

pub fn data_is_read_on_as_many_connections_as_are_asked_for<S: Source>(start: fn() -> Fixture<S>) {
    // Long enough for four ranges, which do not wait for a digest.
    let fixture = start().with_disk(Disk::random(13, 100 << 20));
    let server = fixture.source.data();
    let gate = Gate::new();
    // A head tells that there are ranges.
    server.fault(S::request(0), Fault::stall(2000, &gate));
    server.fault(S::request(1).always(), Fault::HoldHead(gate.clone()));
    let command = fixture.command_to(&fixture.target());
    let command = command.flag("connections", "4").flag("verify", "off");
    let running = command.spawn();
    // None of them is answered before all have asked.
    server.wait_for_held(4);
    gate.open();
    fixture.has_copied(&running.wait());
}

pub fn certificates_that_nobody_should_trust<S: Source>(start: fn() -> Fixture<S>) {
    let authority = Authority::new("authority");
    for identity in [
        Authority::new("another").server(LOCAL),
        authority.server(&["source.example"]),
        authority.expired(LOCAL),
        authority.not_yet_valid(LOCAL),
        Identity::self_signed(LOCAL),
        authority
            .intermediate("i")
            .server(LOCAL)
            .without_intermediates(),
    ] {
        let fixture = start().with_identity(&identity);
        let command = fixture.command().env("cacert", authority.pem());
        fixture.fails_with(&command, Exit::Tls, &["certificate"]);
        assert!(fixture.source.control().requests().is_empty());
        fixture.copies_with(&command.env("insecureSkipVerify", "1"));
    }
}

pub fn certificates_to_be_trusted<S: Source>(start: fn() -> Fixture<S>) {
    let authority = Authority::new("authority");
    let bundle = format!("{}{}", Authority::new("another").pem(), authority.pem());
    let (own, small) = (
        Identity::self_signed(LOCAL),
        Identity::self_signed_authority(LOCAL),
    );
    let (own_pem, small_pem) = (own.pem(), small.pem());
    for (identity, cacert) in [
        (authority.intermediate("i").server(LOCAL), bundle),
        (own, own_pem),
        (small, small_pem),
    ] {
        let fixture = start().with_identity(&identity);
        fixture.copies_with(&fixture.command().env("cacert", cacert));
    }
}

pub fn a_bundle_for_all_sources_adds_to_the_system_s_authorities<S: Source>(
    start: fn() -> Fixture<S>,
) {
    let fixture = start();
    let own = fixture.file("own.pem", fixture.authority.pem());
    let pem = Authority::new("another").pem();
    let another = fixture.file("another.pem", &pem);
    let with = |bundle: &Path, system: &Path, cacert: &str| {
        let command = fixture.command().flag("ca-bundle", bundle);
        let command = command
            .env("SSL_CERT_FILE", system)
            .env("SSL_CERT_DIR", "/nonexistent");
        command.env("cacert", cacert)
    };
    let none = Path::new("/nonexistent");
    for (bundle, system) in [(&*own, none), (&own, &another), (&another, &own)] {
        fixture.copies_with(&with(bundle, system, ""));
        fs::remove_file(fixture.target()).unwrap();
    }
    let before = fixture.source.control().requests().len();
    for (system, cacert, words) in [
        (none, "", ["--ca-bundle=", "another.pem", "CN=authority"]),
        (
            &another,
            "",
            ["--ca-bundle=", "another.pem", "CN=authority"],
        ),
        // The secret's own names exactly whom this source is trusted by.
        (
            &own,
            &pem,
            ["none of the 1 in `cacert`", "CN=authority", "issuer"],
        ),
    ] {
        let bundle = if cacert.is_empty() { &another } else { &own };
        fixture.fails_with(&with(bundle, system, cacert), Exit::Tls, &words);
    }
    assert_eq!(fixture.source.control().requests().len(), before);
    fixture.copies_with(&with(none, none, "").env("insecureSkipVerify", "1"));
}

pub fn a_bundle_for_all_sources_that_cannot_be_used_is_named<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let own = fixture.file("own.pem", fixture.authority.pem());
    let with = |bundle: &Path| {
        let command = fixture.command().flag("ca-bundle", bundle);
        command.env("cacert", "").env("SSL_CERT_FILE", &own)
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let missing = fixture.target().with_file_name("missing.pem");
    for (bundle, word) in [
        (missing, "cannot be read"),
        (fixture.file("empty.pem", ""), "is empty"),
        (
            fixture.file("rubbish.pem", "rubbish"),
            "holds no certificate",
        ),
        (
            fixture.file("broken.pem", broken),
            "not an X.509 certificate",
        ),
    ] {
        let name = format!("--ca-bundle={}", bundle.display());
        fixture.fails_with(&with(&bundle), Exit::Configuration, &[&name, word, "PEM"]);
    }
    assert!(fixture.source.control().requests().is_empty());
    // One of many does not take the others with it.
    let mixed = fixture.file("mixed.pem", broken.to_owned() + &fixture.authority.pem());
    let run = with(&mixed).env("SSL_CERT_FILE", "/nonexistent").run();
    fixture.has_copied(&run);
    assert!(
        run.output().contains("mixed.pem: certificate 1 is not"),
        "{}",
        run.output()
    );
}

pub fn a_bundle_that_the_namespace_lacks_is_named_where_it_was_needed<S: Source>(
    start: fn() -> Fixture<S>,
) {
    let fixture = start();
    let own = fixture.file("own.pem", fixture.authority.pem());
    let another = fixture.file("another.pem", Authority::new("another").pem());
    let mounted = MountedBundle {
        namespace: "vms",
        config_map: "trusted-ca",
        key: "ca-bundle.crt",
    };
    let words = [
        "there is no ConfigMap trusted-ca with",
        "key ca-bundle.crt",
        "namespace vms",
    ];
    let with = |system: &Path| {
        let command = fixture.command().flag("ca-bundle", mounted.path());
        command.env("cacert", "").env("SSL_CERT_FILE", system)
    };
    fixture.fails_with(&with(&another), Exit::Tls, &words);
    // What another setting decides is not explained by it.
    let refused = with(&own)
        .env("cacert", Authority::new("third").pem())
        .run();
    let message = fixture.ended(&refused, Exit::Tls).message;
    assert!(!message.contains("ConfigMap"), "{message}");
    let run = with(&own).run();
    fixture.has_copied(&run);
    for word in words {
        assert!(
            run.output().contains(word),
            "no {word:?} in {}",
            run.output()
        );
    }
}

pub fn the_password_does_not_follow_a_redirect<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let config = fixture.authority.server(LOCAL).server_config();
    let elsewhere = Server::builder().tls(config).start();
    let location = elsewhere.url(S::LOGIN);
    let control = fixture.source.control();
    control.route(S::LOGIN, move |_| Reply::redirect(307, &location));
    let run = fixture.command().run();
    assert_ne!(run.code(), Some(0), "{}", run.output());
    let told = |request: &Request| {
        request.text().contains("password") || request.header("authorization").is_some()
    };
    assert!(!elsewhere.requests().iter().any(told));
}

pub fn an_answer_without_end_does_not_fill_the_memory<S: Source>(start: fn() -> Fixture<S>) {
    let fixture = start();
    let endless = Object::new(1 << 40, |_, buffer| buffer.fill(b' '));
    fixture.source.control().route(S::RECORD, move |request| {
        Reply::object(request, &endless).fault(Fault::UntilClose)
    });
    let run = fixture.command().run();
    fixture.ended(&run, Exit::SourceProtocol);
    assert!(run.peak_rss < 100 << 20, "{} bytes", run.peak_rss);
}

/// Servers repeat what they are sent, and what they say is quoted.
pub fn no_secret_that_a_server_repeats_is_shown<S: Source>(start: fn() -> Fixture<S>) {
    let password = S::SECRETS[0];
    // What the server knows by then: the password, the first token, the first ticket.
    let said = |known: usize| {
        let tokens = S::SECRETS.iter().take(known).skip(1);
        let tokens: Vec<String> = tokens.map(|secret| format!("{secret}1")).collect();
        let encoded = password.replace('-', "%2D");
        format!("password={encoded}&{password} {}", tokens.join(" "))
    };
    let forms = [password, &password.replace('-', "%2d")];
    let words = |known| {
        let said = said(known) + " \u{1b}[2J\u{202e}\nforged";
        let words =
            json!({"error": said, "error_code": said, "detail": said, "error_description": said});
        Fault::Answer(Reply::json(400, &words))
    };
    let status_line = format!(
        "HTTP/1.1 418 {password}\r\nX-{password}: {password}\r\nContent-Length: {}\r\n\r\n{password}",
        password.len()
    );
    let redirect = Reply::redirect(302, &format!("http://{password}.example/"));
    // A server and a run for each, since tokens are numbered.
    let check = |place: &str, is_quoted: bool, inject: &dyn Fn(&Fixture<S>)| {
        for format in ["text", "json"] {
            let fixture = start();
            inject(&fixture);
            let command = fixture.command().flag("log-format", format);
            let run = command.flag("no-progress-timeout", "1s").run();
            let code = run.code().and_then(Exit::from_code).unwrap();
            assert_ne!(code, Exit::Success, "{place}");
            let message = fixture.ended(&run, code).message;
            let shown = run.output() + &message;
            for form in forms {
                assert!(!shown.to_lowercase().contains(form), "{place}: {shown}");
            }
            assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{place}: {shown}");
            let is_forged = shown.lines().any(|line| line.starts_with("forged"));
            assert!(!is_forged, "{place}: {shown}");
            // What would have shown it is there.
            assert!(!is_quoted || message.contains("***"), "{place}: {shown}");
        }
    };
    let login = || When::path(S::LOGIN).always();
    let record = || When::path(S::RECORD).always();
    let data = || S::request(1).always();
    let places = [
        ("log-in", false, login(), words(1)),
        (
            "status line",
            false,
            login(),
            Fault::Raw(status_line.clone().into()),
        ),
        ("record", false, record(), words(2)),
        ("redirect", true, record(), Fault::Answer(redirect)),
    ];
    for (place, is_quoted, when, fault) in places {
        check(place, is_quoted, &|fixture| {
            fixture.source.control().fault(when.clone(), fault.clone());
        });
    }
    let said = said(3) + " \u{202e}";
    let places = [
        ("status line of data", false, Fault::Raw(status_line.into())),
        ("range", true, Fault::Header("Content-Range", said.clone())),
        ("encoding", true, Fault::Header("Content-Encoding", said)),
    ];
    for (place, is_quoted, fault) in places {
        check(place, is_quoted, &|fixture| {
            give_some_bytes::<S>(fixture.source.data());
            fixture.source.data().fault(data(), fault.clone());
        });
    }
    check("certificate", true, &|fixture| {
        let named = fixture.authority.server(&[&format!("{password}.example")]);
        let fault = ConnectionFault::Identity(named.server_config());
        fixture.source.control().connection_faults_from(0, fault);
    });
}
