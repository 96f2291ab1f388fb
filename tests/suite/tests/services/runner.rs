//! `tests/services/run` leaves nothing behind, however it ends.

use std::{collections::BTreeSet, fs, path::Path};

use suite::{eventually, variable};
use testkit::{Command, process::Signal};

/// Network namespaces other than ours that some process is in.
fn other_namespaces() -> BTreeSet<String> {
    let of = |process: &Path| {
        let link = fs::read_link(process.join("ns/net")).ok()?;
        Some(link.to_string_lossy().into_owned())
    };
    let ours = of(Path::new("/proc/self"));
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| of(&entry.path()))
        .filter(|namespace| Some(namespace) != ours.as_ref())
        .collect()
}

fn runner(script: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/run");
    ["--only", "imageio", "--", "bash", "-c", script]
        .iter()
        .fold(Command::new(path), Command::arg)
        .env("PATH", variable("PATH"))
        .env("POPULATORS_CACHE", variable("POPULATORS_CACHE"))
}

#[test]
fn the_status_is_the_commands() {
    let run = runner("curl -s --cacert $SERVICES_CA $ENGINE_URL/_fake/log; exit 7").run();
    assert_eq!(run.code(), Some(7), "{}", run.output());
    assert_eq!(run.stdout.trim(), "[]", "an engine of its own");
}

#[test]
fn a_run_that_is_ended_or_killed_takes_everything_with_it() {
    for (signal, code) in [(Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let run = runner("readlink /proc/self/ns/net; exec sleep 1000000").spawn();
        let namespace = run.wait_for_line("net:[");
        assert!(other_namespaces().contains(&namespace));
        run.signal(signal);
        // Its output ends when the last process that holds it does.
        assert_eq!(run.wait().code(), code);
        eventually("no process is left", || {
            !other_namespaces().contains(&namespace)
        });
    }
}
