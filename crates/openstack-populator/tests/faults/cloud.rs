//! What Keystone and Glance may say.

use contract::Exit;
use testkit::{
    Cut, Disk, Fault, Gate, Reply, When,
    fake::glance::{FILE, RECORD, TOKENS},
    process::Signal,
};

use crate::fixture::{start, start_with};

#[test]
fn a_token_that_ends_midway_is_renewed() {
    let fixture = start();
    let gate = Gate::new();
    let server = fixture.source.server();
    let copy = || When::path(FILE);
    server.fault(copy(), Fault::stall(2000, &gate));
    server.fault(copy(), Fault::cut(100_000, Cut::Reset));
    let running = fixture.command().spawn();
    server.wait_for_held(1);
    fixture.source.expire_tokens();
    gate.open();
    fixture.has_copied(&running.wait());
    assert_eq!(fixture.source.tokens_issued(), 2);
}

#[test]
fn a_token_that_cannot_be_renewed() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(FILE), Fault::cut(100_000, Cut::Reset));
    server.fault(When::path(FILE).skip(1).always(), Fault::status(401));
    server.fault(When::path(TOKENS).skip(1).always(), Fault::status(401));
    fixture.fails(Exit::Credentials, &[]);
}

#[test]
fn a_server_that_refuses_every_token_does_not_loop_for_ever() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(FILE).always(), Fault::status(401));
    fixture.fails(Exit::Credentials, &[]);
    assert!(fixture.source.tokens_issued() < 10);
}

#[test]
fn a_wrong_password_ends_at_once() {
    let fixture = start();
    let command = fixture.command().env("password", "wrong");
    fixture.fails_with(&command, Exit::Credentials, &[]);
    assert_eq!(fixture.source.server().requests().len(), 1);
}

#[test]
fn keystone_and_the_record_are_asked_again_when_they_fail() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(TOKENS), Fault::status(503));
    server.fault(When::path(RECORD), Fault::status(502));
    server.fault(When::path(FILE), Fault::status(503));
    fixture.copies();
}

#[test]
fn answers_that_end_it() {
    for (path, status, exit) in [
        (RECORD, 404, Exit::SourceMissing),
        (RECORD, 403, Exit::Permission),
        (FILE, 403, Exit::Permission),
        (FILE, 404, Exit::SourceMissing),
        (FILE, 410, Exit::SourceMissing),
        (FILE, 204, Exit::SourceUnusable),
    ] {
        let fixture = start();
        let server = fixture.source.server();
        server.fault(
            When::path(path).always(),
            Fault::Answer(Reply::status(status)),
        );
        let run = fixture.command().run();
        assert_eq!(
            run.code(),
            Some(exit.code().into()),
            "{path} {status}: {}",
            run.output()
        );
        fixture.ended(&run, exit);
    }
}

#[test]
fn images_that_cannot_be_copied() {
    for status in ["queued", "saving", "deactivated", "killed"] {
        let fixture = start();
        fixture
            .source
            .change(|image| status.clone_into(&mut image.status));
        fixture.fails(Exit::SourceUnusable, &[status]);
        assert!(fixture.source.data_requests().is_empty());
        assert!(!fixture.target().exists());
    }
}

#[test]
fn a_stated_hash_that_is_wrong() {
    let fixture = start();
    let wrong = "ab".repeat(64);
    let stated = ("sha512".to_owned(), wrong.clone());
    fixture.source.change(|image| image.hash = Some(stated));
    fixture.fails(Exit::HashMismatch, &[&wrong]);
}

#[test]
fn a_record_that_states_another_size() {
    for size in [(5 << 20) + 776, (5 << 20) + 778, 10 << 20] {
        let fixture = start();
        fixture.source.change(|image| image.size = Some(size));
        fixture.fails(Exit::SourceProtocol, &[]);
    }
}

fn qcow2() -> Disk {
    let mut bytes = b"QFI\xfb\0\0\0\x03".to_vec();
    bytes.resize(1 << 20, 0);
    Disk::from(bytes)
}

#[test]
fn qcow2_that_poses_as_raw() {
    let fixture = start_with(qcow2());
    fixture.fails(Exit::SourceUnusable, &["qcow2"]);
    fixture.copies_with(&fixture.command().arg("--verbatim").arg("--force"));
}

#[test]
fn an_image_that_is_not_raw() {
    let fixture = start_with(qcow2());
    fixture
        .source
        .change(|image| "qcow2".clone_into(&mut image.disk_format));
    fixture.fails(Exit::SourceUnusable, &["qcow2"]);
    assert!(!fixture.target().exists());
    // As Forklift's controller starts it: verbatim, and said so.
    let forklift = fixture
        .command()
        .flag("cr-name", "populator")
        .flag("cr-namespace", "default")
        .flag("owner-uid", "uid")
        .flag("metrics-address", "off");
    let run = forklift.run();
    fixture.has_copied(&run);
    assert!(run.output().contains("qcow2"), "{}", run.output());
}

#[test]
fn sigterm_ends_a_copy_whose_answers_stall() {
    let fixture = start();
    let server = fixture.source.server();
    server.fault(When::path(FILE), Fault::stall(2000, &Gate::new()));
    let running = fixture.command().spawn();
    server.wait_for_held(1);
    let asked = fixture.source.data_requests().len();
    running.signal(Signal::TERM);
    // Before the stall time is over, and without another request.
    fixture.ended(&running.wait(), Exit::Terminated);
    assert_eq!(fixture.source.data_requests().len(), asked);
}
