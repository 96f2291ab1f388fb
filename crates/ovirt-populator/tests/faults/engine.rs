//! What the engine may say and do.

use contract::Exit;
use serde_json::json;
use testkit::{
    Cut, Fault, Gate, Reply, When,
    fake::engine::{TOKEN, TRANSFERS},
    process::Signal,
};

use crate::fixture::{request, start};

fn fault(status: u16, detail: &str) -> Fault {
    let body = json!({"reason": "Operation Failed", "detail": detail});
    Fault::Answer(Reply::json(status, &body))
}

#[test]
fn a_session_that_ends_midway_is_renewed() {
    let fixture = start();
    let server = fixture.source.data();
    let gate = Gate::new();
    server.fault(request(1), Fault::stall(100, &gate));
    let running = fixture.command().spawn();
    server.wait_for_held(1);
    fixture.source.expire_tokens();
    gate.open();
    fixture.has_copied(&running.wait());
}

#[test]
fn a_wrong_password_ends_at_once() {
    let fixture = start();
    let command = fixture.command().env("password", "wrong");
    fixture.fails_with(&command, Exit::Credentials, &[]);
    let requests = fixture.source.api().requests();
    assert_eq!(requests.iter().filter(|it| it.path() == TOKEN).count(), 1);
}

#[test]
fn phases_that_take_their_time() {
    let fixture = start();
    fixture
        .source
        .change(|knobs| knobs.first_phases = vec!["initializing", "initializing"]);
    fixture.copies();
}

#[test]
fn a_locked_disk_is_waited_for() {
    let fixture = start();
    let api = fixture.source.api();
    let locked = "[Cannot transfer Virtual Disk: The following disks are locked: disk1. Please try \
                  again in a few minutes.]";
    api.fault(
        When::path(TRANSFERS).method("POST").times(2),
        fault(409, locked),
    );
    fixture.copies();
}

#[test]
fn a_disk_that_stays_locked() {
    let fixture = start();
    fixture
        .source
        .change(|knobs| "locked".clone_into(&mut knobs.disk_status));
    let command = fixture.command().flag("locked-wait", "1s");
    fixture.fails_with(&command, Exit::SourceBusy, &["locked"]);
    assert!(fixture.source.data().requests().is_empty());
}

#[test]
fn refusals_end_it_in_the_engines_own_words() {
    for (status, detail, exit) in [
        (
            403,
            "[User is not authorized to perform this action.]",
            Exit::Permission,
        ),
        (
            400,
            "[Cannot transfer Virtual Disk. The specified disk does not exist.]",
            Exit::SourceMissing,
        ),
        (
            409,
            "[Cannot transfer Virtual Disk. The disk disk1 is plugged to non-Down VMs: VM1]",
            Exit::SourceUnusable,
        ),
    ] {
        let fixture = start();
        let when = When::path(TRANSFERS).method("POST").always();
        fixture.source.api().fault(when, fault(status, detail));
        let run = fixture.command().run();
        assert_eq!(
            run.code(),
            Some(exit.code().into()),
            "{detail}: {}",
            run.output()
        );
        let words = detail.trim_matches(['[', ']']);
        assert!(fixture.ended(&run, exit).message.contains(words));
    }
}

#[test]
fn a_creation_whose_answer_is_lost_is_not_repeated_blindly() {
    let fixture = start();
    let api = fixture.source.api();
    api.fault(
        When::path(TRANSFERS).method("POST"),
        Fault::NoAnswer(Cut::Reset),
    );
    let run = fixture.command().run();
    fixture.ended(&run, Exit::Success);
    fixture.disk.assert_on(&fixture.target());
    assert_eq!(fixture.source.transfers().0, 1, "{}", run.output());
}

#[test]
fn a_transfer_that_the_engine_cancels_is_replaced_and_the_copy_starts_over() {
    let fixture = start();
    let server = fixture.source.data();
    let gate = Gate::new();
    server.fault(request(2), Fault::stall(100, &gate));
    let running = fixture.command().spawn();
    server.wait_for_held(1);
    fixture.source.cancel_by_system();
    server.drop_connections();
    gate.open();
    fixture.has_copied(&running.wait());
    assert_eq!(fixture.source.transfers(), (2, 0));
    let restarts = fixture
        .ranges()
        .iter()
        .filter(|(first, _)| *first == 0)
        .count();
    assert_eq!(restarts, 2);
}

#[test]
fn a_transfer_that_is_paused_or_vanishes_is_replaced() {
    type Event = fn(&testkit::fake::Engine);
    let events: [Event; 2] = [
        testkit::fake::Engine::pause_by_system,
        testkit::fake::Engine::forget_transfers,
    ];
    for event in events {
        let fixture = start();
        let server = fixture.source.data();
        let gate = Gate::new();
        server.fault(request(2), Fault::stall(100, &gate));
        let running = fixture.command().spawn();
        server.wait_for_held(1);
        event(&fixture.source);
        server.drop_connections();
        gate.open();
        fixture.has_copied(&running.wait());
        assert_eq!(fixture.source.transfers(), (2, 0));
    }
}

#[test]
fn a_transfer_that_the_engine_finalizes_by_itself_is_a_success() {
    let fixture = start();
    fixture.source.change(|knobs| knobs.auto_finalize = true);
    let run = fixture.command().run();
    fixture.ended(&run, Exit::Success);
    fixture.disk.assert_on(&fixture.target());
    assert_eq!(fixture.source.transfers().0, 1);
}

#[test]
fn a_signal_while_the_creation_is_under_way() {
    let fixture = start();
    let api = fixture.source.api();
    let gate = Gate::new();
    let create = When::path(TRANSFERS).method("POST");
    api.fault(create, Fault::HoldHead(gate.clone()));
    let running = fixture.command().spawn();
    api.wait_for_held(1);
    assert_eq!(fixture.source.transfers(), (1, 1));
    running.signal(Signal::TERM);
    gate.open();
    fixture.ended(&running.wait(), Exit::Terminated);
    assert!(fixture.source.asked_for("cancel"));
}

#[test]
fn an_engine_that_restarts_when_the_copy_is_done() {
    let fixture = start();
    let api = fixture.source.api();
    let server = fixture.source.data();
    let gate = Gate::new();
    server.fault(request(1), Fault::stall(100, &gate));
    let running = fixture.command().spawn();
    server.wait_for_held(1);
    let html = Reply::text(503, "<html>Service Unavailable</html>");
    api.fault(When::path(TRANSFERS).times(3), Fault::Answer(html));
    gate.open();
    fixture.has_copied(&running.wait());
}

#[test]
fn a_signal_ends_the_transfer() {
    for (signal, exit) in [
        (Signal::TERM, Exit::Terminated),
        (Signal::INT, Exit::Interrupted),
    ] {
        let fixture = start();
        let server = fixture.source.data();
        server.fault(request(1), Fault::stall(100, &Gate::new()));
        let running = fixture.command().spawn();
        server.wait_for_held(1);
        assert_eq!(fixture.source.transfers(), (1, 1));
        running.signal(signal);
        fixture.ended(&running.wait(), exit);
        assert!(fixture.source.asked_for("cancel") && !fixture.source.asked_for("finalize"));
    }
}

#[test]
fn a_signal_while_the_disk_is_locked() {
    let fixture = start();
    fixture
        .source
        .change(|knobs| "locked".clone_into(&mut knobs.disk_status));
    let running = fixture.command().spawn();
    fixture.source.api().wait_for_request("a try", |request| {
        request.path() == TRANSFERS && request.method == "POST"
    });
    running.signal(Signal::TERM);
    fixture.ended(&running.wait(), Exit::Terminated);
}
