//! Leader election against an API server that keeps one lease, on a clock that the test moves.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "support/api.rs"]
mod api;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use populator_controller::election::{Candidacy, Election, Leadership};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use api::{Api, Asked, SILENCE, refusal};

/// An API server with optimistic locking, that may be out of order.
#[derive(Clone, Default)]
struct Server {
    lease: Arc<Mutex<Option<Value>>>,
    broken: Arc<AtomicBool>,
    /// What is written is kept, and the answer lost, once.
    loses_answer: Arc<AtomicBool>,
    /// Requests are not answered at all.
    hangs: Arc<AtomicBool>,
}

impl Server {
    fn candidate(&self, identity: &str) -> Election {
        let server = self.clone();
        let client = Api::default().client(move |asked| server.answer(asked));
        Election::new(client, "here", identity.to_owned())
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        if self.hangs.load(Ordering::Relaxed) {
            return (SILENCE, Value::Null);
        }
        if self.broken.load(Ordering::Relaxed) {
            return refusal(500, "InternalError", "out of order");
        }
        let mut kept = self.lease.lock().unwrap();
        let version = kept.as_ref().map_or(0, |lease| {
            let version = lease["metadata"]["resourceVersion"].as_str();
            version.unwrap().parse::<u32>().unwrap()
        });
        let store = |kept: &mut Option<Value>| {
            let mut lease = asked.body.clone();
            lease["metadata"]["resourceVersion"] = (version + 1).to_string().into();
            *kept = Some(lease.clone());
            if self.loses_answer.swap(false, Ordering::Relaxed) {
                return refusal(504, "Timeout", "the answer was lost");
            }
            (200, lease)
        };
        match (asked.line.split(' ').next().unwrap(), &*kept) {
            ("GET", Some(lease)) => (200, lease.clone()),
            ("GET", None) => refusal(404, "NotFound", "no lease"),
            ("POST", None) => store(&mut kept),
            ("PUT", Some(_))
                if asked.body["metadata"]["resourceVersion"] == *version.to_string() =>
            {
                store(&mut kept)
            }
            _ => refusal(409, "Conflict", "changed meanwhile"),
        }
    }

    fn holder(&self) -> Value {
        self.lease.lock().unwrap().as_ref().unwrap()["spec"]["holderIdentity"].clone()
    }
}

async fn win(election: Election) -> Leadership {
    match election.win().await {
        Candidacy::Leading(leadership) => *leadership,
        Candidacy::Forbidden => panic!("forbidden"),
    }
}

/// Does not win for so long.
async fn stands_by(election: Election, time: Duration) {
    assert!(timeout(time, election.win()).await.is_err(), "it leads");
}

const LONG: Duration = Duration::from_secs(100);

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_takes_over_when_it_dies() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    assert_eq!(server.holder(), "a");
    {
        let lost = timeout(LONG, first.lost());
        let (lost, ()) = tokio::join!(lost, stands_by(server.candidate("b"), LONG));
        assert!(lost.is_err(), "it keeps the lease for as long as it lives");
    }
    let died = Instant::now();
    drop(first);
    win(server.candidate("b")).await;
    assert!(
        died.elapsed() >= Duration::from_secs(15),
        "{:?}",
        died.elapsed()
    );
    assert!(
        died.elapsed() < Duration::from_secs(40),
        "{:?}",
        died.elapsed()
    );
    assert_eq!(server.holder(), "b");
    let lease = server.lease.lock().unwrap().clone().unwrap();
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_released_is_free_at_once() {
    let server = Server::default();
    win(server.candidate("a")).await.release().await;
    let start = Instant::now();
    win(server.candidate("b")).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_finds_the_lease_taken_stops() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    // Another replica wrote it, although it was valid.
    let other = json!({"metadata": {"name": "populator-controller", "resourceVersion": "77"},
                       "spec": {"holderIdentity": "b"}});
    *server.lease.lock().unwrap() = Some(other);
    let why = timeout(LONG, first.lost()).await;
    let why = why.unwrap();
    assert!(why.contains("was taken"), "{why}");
    // It does not take back what is not its own.
    first.release().await;
    assert_eq!(server.holder(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_an_api_server_stops_before_another_one_may_begin() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    let start = Instant::now();
    server.broken.store(true, Ordering::Relaxed);
    let why = first.lost().await;
    assert!(why.contains("could not be renewed"), "{why}");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_is_survived() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    server.broken.store(true, Ordering::Relaxed);
    assert!(timeout(Duration::from_secs(4), first.lost()).await.is_err());
    server.broken.store(false, Ordering::Relaxed);
    assert!(timeout(LONG, first.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_does_not_cost_the_lease() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    server.loses_answer.store(true, Ordering::Relaxed);
    assert!(timeout(LONG, first.lost()).await.is_err(), "it still leads");
    assert!(!server.loses_answer.load(Ordering::Relaxed));
    assert_eq!(server.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_api_server_is_silent_stops_before_another_one_may_begin() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    let start = Instant::now();
    server.hangs.store(true, Ordering::Relaxed);
    let why = timeout(Duration::from_secs(15), first.lost()).await;
    assert!(why.unwrap().contains("has not answered"));
    // Its end does not hang either.
    let released = timeout(Duration::from_secs(15), first.release()).await;
    released.unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_candidate_goes_on_asking_a_silent_api_server() {
    let server = Server::default();
    server.hangs.store(true, Ordering::Relaxed);
    let recovers = async {
        tokio::time::sleep(LONG).await;
        server.hangs.store(false, Ordering::Relaxed);
    };
    let (won, ()) = tokio::join!(timeout(2 * LONG, win(server.candidate("a"))), recovers);
    won.unwrap();
    assert_eq!(server.holder(), "a");
}

#[tokio::test(start_paused = true)]
async fn times_of_another_clock_mean_nothing() {
    let server = Server::default();
    for renewed in ["1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let other = json!({"metadata": {"name": "populator-controller", "resourceVersion": "5"},
            "spec": {"holderIdentity": "b", "leaseDurationSeconds": 15, "renewTime": renewed}});
        *server.lease.lock().unwrap() = Some(other);
        let start = Instant::now();
        win(server.candidate("a")).await;
        assert!(
            start.elapsed() >= Duration::from_secs(15),
            "{renewed}: {:?}",
            start.elapsed()
        );
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "{renewed}: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn where_leases_are_not_allowed_it_reports_that() {
    let client = Api::default().client(|_| refusal(403, "Forbidden", "no leases"));
    let outcome = Election::new(client, "here", "a".to_owned()).win().await;
    assert!(matches!(outcome, Candidacy::Forbidden));
}

#[tokio::test(start_paused = true)]
async fn of_two_that_are_equally_quick_one_wins() {
    let server = Server::default();
    let (a, b) = (server.candidate("a"), server.candidate("b"));
    let first = tokio::join!(
        timeout(Duration::from_secs(1), win(a)),
        timeout(Duration::from_secs(1), win(b))
    );
    let leading = [first.0.is_ok(), first.1.is_ok()];
    assert!(leading[0] != leading[1], "{leading:?}");
}

/// Writes that hang must not outlive the lease: the next leader decides on what they may still change.
#[tokio::test(start_paused = true)]
async fn work_under_way_ends_before_another_one_may_begin() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    let start = Instant::now();
    assert!(first.finish(std::future::ready(())).await, "there is time");
    server.hangs.store(true, Ordering::Relaxed);
    first.lost().await;
    let left = Instant::now();
    assert!(!first.finish(std::future::pending()).await);
    assert!(left.elapsed() > Duration::from_secs(1), "it has some time");
    let all = start.elapsed();
    assert!(all <= Duration::from_secs(15), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_leaves_no_time() {
    let server = Server::default();
    let mut first = win(server.candidate("a")).await;
    let other = json!({"metadata": {"name": "populator-controller", "resourceVersion": "77"},
                       "spec": {"holderIdentity": "b"}});
    *server.lease.lock().unwrap() = Some(other);
    first.lost().await;
    let taken = Instant::now();
    assert!(!first.finish(std::future::pending()).await);
    assert_eq!(taken.elapsed(), Duration::ZERO);
}

/// It serves without a lease; then the right to leases is granted.
#[tokio::test(start_paused = true)]
async fn leases_that_are_allowed_later_are_used() {
    let server = Server::default();
    let is_allowed = Arc::new(AtomicBool::new(false));
    let candidate = |identity: &str| {
        let (server, is_allowed) = (server.clone(), Arc::clone(&is_allowed));
        let client = Api::default().client(move |asked| {
            if is_allowed.load(Ordering::Relaxed) {
                server.answer(asked)
            } else {
                refusal(403, "Forbidden", "no leases")
            }
        });
        Election::new(client, "here", identity.to_owned())
    };
    let grant = async {
        tokio::time::sleep(10 * LONG).await;
        is_allowed.store(true, Ordering::Relaxed);
    };
    let (a, b) = (candidate("a").win_late(), candidate("b").win_late());
    let (a, b, ()) = tokio::join!(a, b, grant);
    let (won, lost) = match (a, b) {
        (Ok(won), Err(why)) | (Err(why), Ok(won)) => (won, why),
        (a, b) => panic!("one of them leads: {:?} {:?}", a.err(), b.err()),
    };
    let leader = server.holder();
    let leader = leader.as_str().unwrap();
    assert!(lost.contains(&format!("{leader} leads")), "{lost}");
    won.release().await;
}
