//! However a copy of a volume ends, nothing of it stays in the cloud for longer than until the next run.
//!
//! A proxy between the mover and the services holds the answer to one call: the service has acted, the mover does not know.
//! Each copy has a volume of its own: one whose snapshot was deleted has a file of 1 GiB afterwards, whose upload would take
//! longer than everything else.

use std::{fs::File, io::Read};

use contract::{
    Exit,
    args::{flag, secret},
};
use rustix::process::Signal;
use suite::{
    Cinder, Glance, Image, Volume, assert_exit, cinder::COPY, eventually, folder,
    mover::openstack_disk, uuid, variable,
};
use testkit::{Command, Disk, Event, Fault, Finished, Gate, Proxy, When};

use crate::mib;

/// The token, the snapshot, the volume, its mark, the upload.
const POSTS: usize = 5;
/// The image, the volume, the snapshot.
const DELETES: usize = 3;

/// How a volume is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// In use: every step is taken.
    BySnapshot,
    /// Detached: it is uploaded as it is.
    Directly,
}

/// One copy.
struct Scene {
    cinder: Cinder,
    disk: Disk,
    volume: Volume,
    claim: String,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(cinder: &Cinder, way: Way) -> Self {
        let disk = Disk::random(5, mib(2));
        let volume = cinder.volume(&disk);
        if way == Way::BySnapshot {
            cinder.attach(&volume);
        }
        Self {
            cinder: cinder.clone(),
            disk,
            volume,
            claim: uuid(),
            folder: folder(),
        }
    }

    fn command(&self) -> Command {
        let target = self.folder.path().join("target");
        openstack_disk(flag::VOLUME_ID, &self.volume.id, &target)
            .flag(flag::OWNER_UID, &self.claim)
            .arg("--force")
    }

    /// Starts a run, and ends it by the signal when the call is held. After SIGTERM the answer comes.
    #[track_caller]
    fn ends_at(&self, when: &When, signal: Signal) -> Finished {
        let (proxy, gate) = (Proxy::start(), Gate::new());
        proxy
            .server()
            .fault(when.clone(), Fault::HoldHead(gate.clone()));
        let run = self.command().env(secret::PROXY, proxy.url()).spawn();
        let pid = run.pid();
        let mut held = false;
        eventually("the call is held, or the run ends", || {
            let events = proxy.server().events();
            held = events
                .iter()
                .any(|event| matches!(event, Event::Held { .. }));
            held || !std::path::Path::new(&format!("/proc/{pid}/exe")).exists()
        });
        if held {
            run.signal(signal);
        }
        if signal == Signal::TERM {
            gate.open();
        }
        let finished = run.wait_within(COPY);
        gate.open();
        assert!(held, "no such call, {when:?}: {}", finished.output());
        if signal == Signal::KILL {
            assert_eq!(finished.signal(), Some(9), "{}", finished.output());
        }
        finished
    }

    /// The next run. Where several tests write at a time, Glance's database refuses one of them now and then, so that Cinder's
    /// upload fails: a controller tries again then.
    fn next_run(&self) -> Finished {
        let run = || self.command().spawn().wait_within(COPY);
        let first = run();
        if first.output().contains("did not upload the volume") {
            return run();
        }
        first
    }

    /// The target begins with the disk. Behind it are zeroes when the killed run had its snapshot deleted, so that the file
    /// of the volume has grown.
    #[track_caller]
    fn has_copied(&self) {
        let mut file = File::open(self.folder.path().join("target")).unwrap();
        let mut bytes = vec![0; self.disk.bytes().len()];
        file.read_exact(&mut bytes).unwrap();
        assert!(bytes == self.disk.bytes(), "the target is another disk");
    }

    #[track_caller]
    fn nothing_is_left(&self, run: &Finished, when: &When) {
        let left = self.cinder.named(&self.claim);
        assert_eq!(left, [""; 0], "{when:?}: {}", run.output());
    }

    /// After SIGTERM the run has 20 s, in which a slow machine may not get everything deleted. What stays it names.
    #[track_caller]
    fn what_is_left_is_named(&self, run: &Finished, when: &When) {
        let output = run.output();
        let warning = output
            .lines()
            .find(|line| line.contains("left in the cloud:"))
            .unwrap_or_default();
        let left = self.cinder.named(&self.claim);
        for object in &left {
            let id = object.split('"').nth(1).unwrap();
            assert!(warning.contains(id), "{when:?}: {left:?}: {output}");
        }
        if !left.is_empty() {
            let run = self.command().arg("--cleanup").spawn().wait_within(COPY);
            assert_exit(&run, Exit::Success);
            self.nothing_is_left(&run, when);
        }
    }
}

/// Objects of the user's and of another migration, which no run may touch.
struct Others {
    cinder: Cinder,
    volume: Volume,
    snapshot: String,
    image: Image,
    before: Vec<String>,
    claim: String,
}

impl Others {
    /// Among them those that another migration's killed run has left.
    fn new(cinder: &Cinder) -> Self {
        let other = Scene::new(cinder, Way::BySnapshot);
        let volume = cinder.volume(&Disk::random(6, mib(1)));
        let snapshot = cinder.snapshot(&volume);
        let image = Glance::default().image(other.folder.path(), &Disk::random(7, mib(1)));
        // The volume is made.
        let made = When::any().method("POST").skip(2);
        other.ends_at(&made, Signal::KILL);
        eventually("what the other run began is made", || {
            cinder.named(&other.claim).len() == 2
                && cinder
                    .named(&other.claim)
                    .iter()
                    .all(|object| object.ends_with("\"available\""))
        });
        let mut others = Self {
            cinder: cinder.clone(),
            volume,
            snapshot,
            image,
            before: Vec::new(),
            claim: other.claim,
        };
        others.before = others.now();
        others
    }

    fn now(&self) -> Vec<String> {
        let mut now = self.cinder.named(&self.claim);
        let snapshot = format!("/snapshots/{}", self.snapshot);
        for path in [self.volume.path(), snapshot] {
            let record = self.cinder.record(&path);
            now.push(format!(
                "{path} {} {}",
                record["status"], record["metadata"]
            ));
        }
        now.push(format!("image {}", self.image.metadata()["status"]));
        now
    }

    #[track_caller]
    fn are_untouched(&self) {
        assert_eq!(self.now(), self.before);
    }
}

fn nth(method: &'static str, n: usize) -> When {
    When::any().method(method).skip(n)
}

/// Calls that change something, after that for the token.
fn posts() -> impl Iterator<Item = When> {
    (1..POSTS).map(|n| nth("POST", n))
}

/// The first question about the snapshot, the volume, and the image under way.
fn polls() -> impl Iterator<Item = When> {
    let cinder = format!(
        "{}/v3/{}",
        variable("CINDER_URL"),
        variable("PROJECT_MIGRATE")
    );
    let images = format!("{}/v2/images/", variable("GLANCE_URL"));
    // After the list of snapshots; after the user's volume, the list, and the user's volume again.
    [
        (format!("{cinder}/snapshots/"), 1),
        (format!("{cinder}/volumes/"), 3),
        (images, 0),
    ]
    .into_iter()
    .map(|(path, before)| When::path(&path).method("GET").skip(before))
}

fn deletes() -> impl Iterator<Item = When> {
    (0..DELETES).map(|n| nth("DELETE", n))
}

/// The upload, its mark, and the end of the image.
fn direct_calls() -> [When; 4] {
    [
        nth("POST", 1),
        nth("PATCH", 0),
        When::ranged(),
        nth("DELETE", 0),
    ]
}

#[track_caller]
fn the_next_run_continues(cinder: &Cinder, way: Way, calls: impl IntoIterator<Item = When>) {
    let others = Others::new(cinder);
    for when in calls {
        let scene = Scene::new(cinder, way);
        scene.ends_at(&when, Signal::KILL);
        let run = scene.next_run();
        assert_exit(&run, Exit::Success);
        scene.has_copied();
        scene.nothing_is_left(&run, &when);
    }
    others.are_untouched();
}

#[test]
fn a_run_that_is_killed_at_an_order_is_continued_by_the_next() {
    let calls = posts().chain(deletes());
    the_next_run_continues(&Cinder::start(), Way::BySnapshot, calls);
}

#[test]
fn a_run_that_is_killed_at_a_question_is_continued_by_the_next() {
    let calls = polls().chain([When::ranged()]);
    the_next_run_continues(&Cinder::start(), Way::BySnapshot, calls);
}

#[test]
fn a_run_that_is_killed_at_a_direct_upload_is_continued_by_the_next() {
    the_next_run_continues(&Cinder::start(), Way::Directly, direct_calls());
}

#[test]
fn what_a_killed_run_leaves_is_removed_on_demand() {
    let cinder = Cinder::start();
    let others = Others::new(&cinder);
    // The snapshot, the upload, the end of the volume.
    let by_snapshot = [nth("POST", 1), nth("POST", POSTS - 1), nth("DELETE", 1)];
    let by_snapshot = by_snapshot
        .into_iter()
        .chain([When::ranged()])
        .map(|when| (Way::BySnapshot, when));
    let direct = direct_calls().into_iter().take(2);
    for (way, when) in by_snapshot.chain(direct.map(|when| (Way::Directly, when))) {
        let scene = Scene::new(&cinder, way);
        scene.ends_at(&when, Signal::KILL);
        assert_ne!(cinder.named(&scene.claim), [""; 0], "{when:?}");
        let run = scene.command().arg("--cleanup").spawn().wait_within(COPY);
        assert_exit(&run, Exit::Success);
        scene.nothing_is_left(&run, &when);
    }
    others.are_untouched();
}

#[track_caller]
fn a_run_that_is_asked_to_end_removes_or_names(way: Way, calls: impl IntoIterator<Item = When>) {
    let cinder = Cinder::start();
    let others = Others::new(&cinder);
    for when in calls {
        let scene = Scene::new(&cinder, way);
        let run = scene.ends_at(&when, Signal::TERM);
        assert_exit(&run, Exit::Terminated);
        scene.what_is_left_is_named(&run, &when);
    }
    others.are_untouched();
}

#[test]
fn a_run_that_is_asked_to_end_at_an_order_removes_or_names_what_it_made() {
    a_run_that_is_asked_to_end_removes_or_names(Way::BySnapshot, posts());
}

#[test]
fn a_run_that_is_asked_to_end_at_a_question_removes_or_names_what_it_made() {
    let calls = polls().chain([When::ranged()]);
    a_run_that_is_asked_to_end_removes_or_names(Way::BySnapshot, calls);
}

#[test]
fn a_run_that_is_asked_to_end_at_a_direct_upload_removes_or_names_what_it_made() {
    let calls = direct_calls().into_iter().take(3);
    a_run_that_is_asked_to_end_removes_or_names(Way::Directly, calls);
}

/// The copy is complete, so that it is a success; what is left to remove is removed nonetheless.
#[test]
fn a_run_that_is_asked_to_end_while_it_tidies_up_has_succeeded() {
    let cinder = Cinder::start();
    for when in deletes() {
        let scene = Scene::new(&cinder, Way::BySnapshot);
        let run = scene.ends_at(&when, Signal::TERM);
        assert_exit(&run, Exit::Success);
        scene.disk.assert_on(&scene.folder.path().join("target"));
        scene.what_is_left_is_named(&run, &when);
    }
}
