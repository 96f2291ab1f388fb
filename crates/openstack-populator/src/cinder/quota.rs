//! Quotas of the project: what is refused for one, and the wait for other copies to make room.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use contract::Exit;
use mover::{Failure, PollBackoff, Stop};
use tokio::time::{self, Instant};

use super::wait::stopped;

/// How long one run waits for room for a snapshot and a volume together, and for an image: from the first refusal on, with what
/// is tried between the pauses. A copy of 1 TiB at 300 MiB/s takes as long.
const BOUND: Duration = Duration::from_hours(1);
/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));

/// Why an order was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The object that it is about is not in a state for it, or is not at present.
    State(Failure),
    /// A quota of the project has no room, and may have some when other copies have ended.
    Quota(Full),
    /// Anything else.
    Other(Failure),
}

impl Refusal {
    /// The same refusal with another failure, where it is not for a quota.
    pub(super) fn map(self, change: impl FnOnce(Failure) -> Failure) -> Self {
        match self {
            Self::State(failure) => Self::State(change(failure)),
            Self::Quota(full) => Self::Quota(full),
            Self::Other(failure) => Self::Other(change(failure)),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::State(failure) | Refusal::Other(failure) => failure,
            Refusal::Quota(full) => full.busy(),
        }
    }
}

/// A quota that has no room.
#[derive(Debug)]
pub(crate) struct Full {
    /// What was refused, with the service's words.
    pub(super) text: String,
    /// The service's words alone; empty when there are none.
    pub(super) said: String,
    /// The request's id, for the end of a message.
    pub(super) request: String,
}

impl Full {
    /// The failure where other copies may make room.
    pub(super) fn busy(&self) -> Failure {
        let Self { text, request, .. } = self;
        Failure::new(
            Exit::SourceBusy,
            format!(
                "{text}; a quota of the project is used up: wait for other copies to end, delete what is not needed, or have it raised \
                 (openstack quota show){request}"
            ),
        )
    }

    /// The failure where the copy's source and its own objects fill the quota, so that no other copy's end makes room. `then`
    /// is what the copy needs after what was refused, in GiB. `None` where others hold a part, or the words leave it open.
    pub(super) fn alone(&self, own: Own, then: u64) -> Option<Failure> {
        let Self {
            text,
            said,
            request,
        } = self;
        let size = number_after(said, "Requested ").zip(number_after(said, "G and "));
        let gib = size.filter(|(_, consumed)| *consumed <= own.gib);
        let count = number_after(said, "volumes allowed (").filter(|limit| *limit <= own.volumes);
        let need = match (gib, count) {
            (Some((asked, consumed)), _) => {
                let need = consumed.saturating_add(asked).saturating_add(then);
                format!("{need} GiB of volumes and snapshots")
            }
            (None, Some(_)) => format!("{} volumes", own.volumes + 1),
            (None, None) => return None,
        };
        Some(Failure::new(
            Exit::SourceUnusable,
            format!(
                "{text}; what is copied and its own temporary objects fill the quota, so that no wait helps: this copy alone needs a \
                 quota of at least {need}; have it raised (openstack quota show){request}"
            ),
        ))
    }
}

/// What the source of a copy and the copy's snapshot hold of the project's quotas for as long as the copy lasts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) gib: u64,
    pub(super) volumes: u64,
}

/// The wait of one run for room.
#[derive(Debug)]
pub(super) struct Room {
    stop: Stop,
    /// When room was missing for the first time.
    since: Option<Instant>,
    pauses: PollBackoff,
    /// From 0.5 up to 1.
    pace: f64,
}

impl Room {
    /// `name` is of this copy alone. By it the pauses differ a little from copy to copy, so that those which are refused
    /// together do not all ask together again.
    pub(super) fn new(name: &str, stop: &Stop) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let part = u32::try_from(hasher.finish() >> 32).unwrap_or(u32::MAX);
        Self {
            stop: stop.clone(),
            since: None,
            pauses: PollBackoff::new(PAUSES.0, PAUSES.1),
            pace: f64::from(part) / f64::from(u32::MAX) / 2.0 + 0.5,
        }
    }

    /// Pauses before the next try of what was refused.
    ///
    /// # Errors
    /// [`Exit::SourceBusy`] when the time is over, [`Exit::Terminated`] when the run is to end.
    pub(super) async fn wait(&mut self, full: &Full) -> Result<(), Failure> {
        let refusal = full.busy();
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = BOUND.saturating_sub(waited);
        if left.is_zero() {
            return Err(Failure::new(
                Exit::SourceBusy,
                format!(
                    "waited {} s for room in a quota: {refusal}",
                    waited.as_secs()
                ),
            ));
        }
        tracing::info!("{}", line(waited, &refusal));
        let pause = self.pauses.next_delay().mul_f64(self.pace).min(left);
        tokio::select! {
            () = time::sleep(pause) => {}
            () = self.stop.asked() => return Err(stopped()),
        }
        Ok(())
    }
}

fn line(waited: Duration, refusal: &Failure) -> String {
    format!(
        "waiting for room in a quota, for {} s of at most {} s: {refusal}",
        waited.as_secs(),
        BOUND.as_secs()
    )
}

/// Whether what is asked for is more than the quota itself, so that no other copy's end makes room for it. `said` are Cinder's words
/// for `VolumeSizeExceedsAvailableQuota`, `VolumeSizeExceedsLimit`, `VolumeLimitExceeded` and `SnapshotLimitExceeded`
/// (`cinder/exception.py`). Other words leave it open.
pub(super) fn is_too_small(said: &str) -> bool {
    let size = number_after(said, "Requested ").zip(number_after(said, "quota is "));
    let one = number_after(said, "volume size ").zip(number_after(said, "maximum allowed limit "));
    let count = number_after(said, "allowed (").map(|limit| (1, limit));
    size.or(one)
        .or(count)
        .is_some_and(|(asked, limit)| asked > limit)
}

/// Whether Glance's words, which Cinder passes on when it refuses an upload, are of a quota of images: "413 Request Entity Too
/// Large", "User ... is over limit", "Project ... is over a limit for [Resource `image_count_total` ...]".
pub(super) fn is_of_images(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    let words = ["over limit", "over a limit", "overlimit", "quota"];
    // An id may have these digits too, among others.
    let mut numbers = said.split(|c: char| !c.is_ascii_alphanumeric());
    words.iter().any(|word| said.contains(word)) || numbers.any(|number| number == "413")
}

/// Whether Cinder's message on an upload that failed is of a quota of images: what Glance counts when it gets the data
/// (`cinder/message/message_field.py`).
pub(super) fn has_met_quota(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    reason.contains("image quota has been met")
}

/// The number that follows the words, at the first place where one does.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let numbers = text.match_indices(words).filter_map(|(at, _)| {
        let rest = &text[at + words.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    });
    numbers.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Full {
        let said = "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded";
        Full {
            text: format!("it answered 413: {said}"),
            said: said.into(),
            request: String::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_grows_and_is_bounded_and_names_the_quota() {
        let (_handle, stop) = Stop::new();
        let mut room = Room::new("a", &stop);
        let start = Instant::now();
        let mut pauses = Vec::new();
        let failure = loop {
            let before = start.elapsed();
            if let Err(failure) = room.wait(&full()).await {
                break failure;
            }
            pauses.push(start.elapsed().saturating_sub(before));
        };
        assert_eq!(failure.exit(), Exit::SourceBusy);
        for needle in ["waited 3600 s", "volumes allowed (10)"] {
            assert!(failure.message().contains(needle), "{failure}");
        }
        // The clock's ticks are of 1 ms.
        let spent = start.elapsed();
        assert!(
            spent >= BOUND && spent < BOUND + Duration::from_secs(1),
            "{spent:?}"
        );
        assert!(pauses[0] < Duration::from_secs(3), "{pauses:?}");
        assert!(pauses.len() < 80, "{}", pauses.len());
        let longest = pauses.iter().max().unwrap();
        assert!(*longest >= Duration::from_secs(59));
    }

    #[tokio::test(start_paused = true)]
    async fn copies_that_are_refused_together_do_not_ask_together() {
        let (_handle, stop) = Stop::new();
        let mut seen = std::collections::BTreeSet::new();
        for name in ["a", "b", "c", "d"] {
            let mut room = Room::new(name, &stop);
            assert!((0.5..=1.0).contains(&room.pace), "{}", room.pace);
            let start = Instant::now();
            room.wait(&full()).await.unwrap();
            seen.insert(start.elapsed());
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    }

    /// Between two pauses a snapshot is made and removed, or an image uploaded.
    #[tokio::test(start_paused = true)]
    async fn what_is_tried_between_the_pauses_counts() {
        let (_handle, stop) = Stop::new();
        let mut room = Room::new("a", &stop);
        let (start, between) = (Instant::now(), Duration::from_mins(10));
        while room.wait(&full()).await.is_ok() {
            time::advance(between).await;
        }
        let spent = start.elapsed();
        assert!(spent >= BOUND && spent < BOUND + between, "{spent:?}");
    }

    #[test]
    fn the_log_says_what_is_waited_for_and_how_long() {
        let line = line(Duration::from_secs(90), &full().busy());
        let words = "waiting for room in a quota, for 90 s of at most 3600 s: it answered 413: VolumeLimitExceeded: Maximum number";
        assert!(line.starts_with(words), "{line}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_at_once() {
        let (handle, stop) = Stop::new();
        let mut room = Room::new("a", &stop);
        handle.pull();
        let start = Instant::now();
        let failure = room.wait(&full()).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Terminated);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_quota_that_can_never_suffice_is_known_by_its_numbers() {
        for (said, never) in [
            (
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested 5G, quota is 3G \
                 and 0G has been consumed",
                true,
            ),
            (
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes_lvm quota. Requested 5G, quota is \
                 1000G and 998G has been consumed",
                false,
            ),
            (
                "Requested volume or snapshot exceeds allowed Gigabytes quota. Requested 5G, quota is 5G and 1G has been consumed",
                false,
            ),
            (
                "VolumeSizeExceedsLimit: Requested volume size 200G is larger than maximum allowed limit 100G",
                true,
            ),
            (
                "VolumeLimitExceeded: Maximum number of volumes allowed (0) exceeded for quota 'volumes'",
                true,
            ),
            (
                "VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'",
                false,
            ),
            (
                "SnapshotLimitExceeded: Maximum number of snapshots allowed (1) exceeded",
                false,
            ),
            ("ImageLimitExceeded: Image quota exceeded", false),
            ("Requested 99999999999999999999G, quota is 1G", false),
            ("Requested , quota is ", false),
            ("", false),
        ] {
            assert_eq!(is_too_small(said), never, "{said}");
        }
    }

    #[test]
    fn a_quota_that_the_copy_alone_fills_is_known_by_what_is_consumed() {
        let size =
            |consumed| format!("Requested 4G, quota is 10G and {consumed}G has been consumed");
        let count = |limit| {
            format!(
                "VolumeLimitExceeded: Maximum number of volumes allowed ({limit}) exceeded for quota 'volumes'"
            )
        };
        for (said, gib, volumes, then, need) in [
            (size(8), 8, 1, 0, Some("at least 12 GiB")),
            (size(4), 8, 1, 4, Some("at least 12 GiB")),
            (size(9), 8, 1, 0, None),
            (count(1), 8, 1, 0, Some("at least 2 volumes")),
            (count(2), 8, 1, 0, None),
            (count(1), 8, 0, 0, None),
            (
                "SnapshotLimitExceeded: Maximum number of snapshots allowed (1) exceeded".into(),
                8,
                1,
                0,
                None,
            ),
            (String::new(), 8, 1, 0, None),
        ] {
            let full = Full { said, ..full() };
            let failure = full.alone(Own { gib, volumes }, then);
            assert_eq!(failure.is_some(), need.is_some(), "{}", full.said);
            if let Some((failure, need)) = failure.zip(need) {
                assert_eq!(failure.exit(), Exit::SourceUnusable);
                assert!(failure.message().contains(need), "{failure}");
            }
        }
    }

    #[test]
    fn glances_quota_is_known_by_its_words() {
        for (said, is) in [
            (
                "413 Request Entity Too Large: User a is over limit: Resource image_count_total is over limit of 3",
                true,
            ),
            ("HTTP 413 Request Entity Too Large", true),
            ("HTTPOverLimit (HTTP 413)", true),
            (
                "Project a is over a limit for [Resource image_count_total is over limit of 3 due to current usage 3 and delta 1]",
                true,
            ),
            ("ImageLimitExceeded: Image Quota exceeded", true),
            (
                "Invalid volume: Volume 9df04130-413f-4413-8e5d-2e2a2e7b1413 status must be available or in-use, but current status is: uploading",
                false,
            ),
            ("400 Bad Request: Invalid container format", false),
            ("", false),
        ] {
            assert_eq!(is_of_images(said), is, "{said}");
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        let stated = testkit::timers::stated("room in a quota");
        assert_eq!(stated, [BOUND]);
        let stated = testkit::timers::stated("try while a quota is full");
        assert_eq!(stated, [PAUSES.0, PAUSES.1]);
    }
}
