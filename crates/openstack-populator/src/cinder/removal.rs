//! The removal of what a migration made, which knows at each moment what is left.

use std::{fmt, time::Duration};

use contract::Exit;
use mover::{Failure, Stop};
use tokio::time::{self, Instant};

use super::wait::{STEP, Wait, bound, last_moment};

/// At the end of a bounded clean-up: for calls under way, and to order the end of what cannot be waited for.
const ORDERS: Duration = Duration::from_mins(1);

/// What kind of object it is, in the order in which they can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Image,
    Volume,
    Snapshot,
}

/// One temporary object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Temporary {
    pub(super) what: What,
    pub(super) id: String,
    /// In GiB; of an image it is not asked.
    pub(super) size: u64,
}

impl Temporary {
    /// Whether the two are the same object.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.what, &self.id) == (other.what, &other.id)
    }
}

/// An object; `size` is in GiB.
pub(super) const fn temporary(what: What, id: String, size: u64) -> Temporary {
    Temporary { what, id, size }
}

/// What became of an order to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    /// There is no such object, or no longer.
    Gone,
    /// It will go.
    Ordered,
    /// It is in use.
    Busy,
}

/// The services, as far as objects come to their end in them.
pub(super) trait Services {
    /// All objects of the migration, in the order in which they can go.
    async fn objects(&self) -> Result<Vec<Temporary>, Failure>;
    /// The object's status; `None` when it is gone.
    async fn status(&self, object: &Temporary) -> Result<Option<String>, Failure>;
    /// Orders its end.
    async fn delete(&self, object: &Temporary) -> Result<Deletion, Failure>;
    /// Why it went wrong, in the service's words.
    async fn reason(&self, object: &Temporary) -> Option<String>;
}

/// What is left in the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Each object, with its kind and its id; empty when there may be none.
    pub left: String,
    /// Why it could not be removed, or not in time.
    pub why: Failure,
}

impl From<Rest> for Failure {
    fn from(rest: Rest) -> Self {
        Self::new(rest.why.exit(), rest.to_string())
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, why } = self;
        match left.as_str() {
            "" => why.fmt(f),
            left => write!(f, "{why}; left in the cloud: {left}"),
        }
    }
}

/// Removes all objects of the migration, in `bound` where there is one, and in the time to tidy up when the run is to end. Of a
/// bounded removal no other run follows, so that the second half of that time is for ordering the end of whatever is left.
/// `known` are those to name when they cannot even be listed.
///
/// # Errors
/// What is left, and the first reason for it.
pub(super) async fn clean(
    services: &impl Services,
    known: Vec<Temporary>,
    stop: &Stop,
    bound: Option<Duration>,
) -> Result<(), Rest> {
    let start = Instant::now();
    let mut removal = Removal::new(known);
    let over = async {
        match bound {
            Some(bound) => {
                time::sleep_until(start + bound).await;
                bound
            }
            None => std::future::pending().await,
        }
    };
    let part = if bound.is_some() { 2 } else { 1 };
    let result = tokio::select! {
        result = async {
            removal = Removal::new(services.objects().await?);
            let until = bound.map(|bound| start + bound.saturating_sub(ORDERS));
            removal.run(services, until).await
        } => result,
        () = last_moment(stop, part) => Err(Failure::new(Exit::Terminated, "the time to tidy up is over")),
        bound = over => Err(Failure::new(
            Exit::SourceBusy,
            format!("the cloud took longer than {} s to delete it, or to answer", bound.as_secs()),
        )),
    };
    if bound.is_some() && matches!(&result, Err(why) if why.exit() == Exit::Terminated) {
        removal.order(services, stop).await;
    }
    result.map_err(|why| Rest {
        left: removal.left(),
        why,
    })
}

/// A removal under way.
#[derive(Debug)]
pub(super) struct Removal {
    left: Vec<Temporary>,
}

impl Removal {
    /// `objects` in the order in which they can go: an image before the volume that it is uploaded from, a volume before
    /// the snapshot that it is made of.
    pub(super) const fn new(objects: Vec<Temporary>) -> Self {
        Self { left: objects }
    }

    /// What is not gone, for messages; empty when all is.
    pub(super) fn left(&self) -> String {
        let names: Vec<_> = self.left.iter().map(ToString::to_string).collect();
        names.join(", ")
    }

    /// Removes one after the other, each when the one before is gone. One that cannot be removed does not keep the others:
    /// what depends on it is refused by the service. No end is waited for beyond `until`; of what is left then, each is
    /// ordered to end once, since the service may do that later.
    ///
    /// # Errors
    /// The first failure, when all has been tried.
    pub(super) async fn run(
        &mut self,
        services: &impl Services,
        until: Option<Instant>,
    ) -> Result<(), Failure> {
        let mut first = None;
        for object in self.left.clone() {
            tracing::info!("removing the temporary {object}");
            match remove(services, &object, until).await {
                Ok(()) => self.left.retain(|left| *left != object),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Orders the end of each that is left once, in the time to tidy up, and waits for none. One that is not answered leaves
    /// the others their part of the time.
    async fn order(&mut self, services: &impl Services, stop: &Stop) {
        let objects = self.left.clone();
        for (object, behind) in objects.iter().zip((1..=objects.len()).rev()) {
            let part = stop.time_left() / u32::try_from(behind).unwrap_or(u32::MAX);
            match time::timeout(part, services.delete(object)).await {
                Ok(Ok(Deletion::Gone)) => self.left.retain(|left| left != object),
                Ok(Ok(Deletion::Ordered | Deletion::Busy)) | Err(_) => {}
                Ok(Err(failure)) => tracing::warn!("{failure}"),
            }
        }
    }
}

/// Orders the end of one object until it is gone.
async fn remove(
    services: &impl Services,
    object: &Temporary,
    until: Option<Instant>,
) -> Result<(), Failure> {
    let bound = match object.what {
        What::Image => STEP,
        What::Volume | What::Snapshot => bound(object.size),
    };
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    let bound = left.map_or(bound, |left| left.min(bound));
    let mut wait = Wait::new(format!("the end of the {object}"), bound, None).of_an_end();
    while let Some(status) = services.status(object).await? {
        match status.as_str() {
            "deleting" => {}
            "error_deleting" => {
                let reason = services.reason(object).await;
                let because = reason.map_or_else(String::new, |text| format!("; it says: {text}"));
                return Err(Failure::new(
                    Exit::SourceUnavailable,
                    format!(
                        "the cloud could not delete the temporary {object}{because}; an administrator has to"
                    ),
                ));
            }
            _ => {
                if services.delete(object).await? == Deletion::Gone {
                    return Ok(());
                }
            }
        }
        wait.pause(&status).await?;
    }
    Ok(())
}

impl fmt::Display for Temporary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::Image => "image",
            What::Volume => "volume",
            What::Snapshot => "snapshot",
        };
        write!(f, "{what} {}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashMap};

    use super::*;

    /// Objects, each with the statuses that it has before it can go; the orders in the sequence in which they came.
    #[derive(Default)]
    struct Double {
        statuses: RefCell<HashMap<String, Vec<&'static str>>>,
        orders: RefCell<Vec<String>>,
    }

    impl Double {
        fn with(mut self, object: &Temporary, before: &[&'static str]) -> Self {
            let mut statuses = before.to_vec();
            statuses.reverse();
            self.statuses.get_mut().insert(object.to_string(), statuses);
            self
        }
    }

    impl Services for Double {
        async fn objects(&self) -> Result<Vec<Temporary>, Failure> {
            Ok(all())
        }

        async fn status(&self, object: &Temporary) -> Result<Option<String>, Failure> {
            let statuses = self.statuses.borrow();
            let status = statuses.get(&object.to_string());
            Ok(status.map(|left| (*left.last().unwrap_or(&"available")).to_owned()))
        }

        async fn delete(&self, object: &Temporary) -> Result<Deletion, Failure> {
            self.orders.borrow_mut().push(object.to_string());
            let mut statuses = self.statuses.borrow_mut();
            match statuses.get_mut(&object.to_string()).and_then(Vec::pop) {
                Some("refused") => Err(Failure::new(Exit::Permission, "not allowed")),
                // For ever.
                Some("stuck") => {
                    let left = statuses.get_mut(&object.to_string());
                    left.unwrap().push("stuck");
                    Ok(Deletion::Busy)
                }
                Some(_) => Ok(Deletion::Busy),
                None => {
                    statuses.remove(&object.to_string());
                    Ok(Deletion::Ordered)
                }
            }
        }

        async fn reason(&self, _: &Temporary) -> Option<String> {
            Some("the disk is on fire".into())
        }
    }

    fn object(what: What) -> Temporary {
        Temporary {
            what,
            id: "1".into(),
            size: 1,
        }
    }

    fn all() -> Vec<Temporary> {
        [What::Image, What::Volume, What::Snapshot]
            .map(object)
            .to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn each_goes_when_the_one_before_is_gone() {
        let [image, volume, snapshot] = [What::Image, What::Volume, What::Snapshot].map(object);
        let services = Double::default()
            .with(&image, &["saving"])
            .with(&volume, &["uploading", "uploading"])
            .with(&snapshot, &[]);
        let mut removal = Removal::new(all());
        removal.run(&services, None).await.unwrap();
        let orders = services.orders.into_inner();
        let expected = "image 1,image 1,volume 1,volume 1,volume 1,snapshot 1";
        assert_eq!(orders.join(","), expected);
        assert_eq!(removal.left(), "");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_is_named_and_keeps_no_other() {
        for (status, exit, needle) in [
            ("refused", Exit::Permission, "not allowed"),
            ("error_deleting", Exit::SourceUnavailable, "on fire"),
            ("stuck", Exit::SourceBusy, "\"stuck\""),
        ] {
            let services = Double::default()
                .with(&object(What::Image), &[])
                .with(&object(What::Volume), &[status])
                .with(&object(What::Snapshot), &[]);
            let mut removal = Removal::new(all());
            let failure = removal.run(&services, None).await.unwrap_err();
            assert_eq!(failure.exit(), exit, "{failure}");
            assert!(failure.message().contains(needle), "{failure}");
            assert_eq!(removal.left(), "volume 1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_is_bounded_orders_each_end_and_waits_no_longer() {
        let [image, volume, snapshot] = [What::Image, What::Volume, What::Snapshot].map(object);
        let services = Double::default()
            .with(&image, &[])
            .with(&volume, &["stuck"])
            .with(&snapshot, &["busy"]);
        let mut removal = Removal::new(all());
        let start = Instant::now();
        let bound = Duration::from_mins(3);
        let failure = removal
            .run(&services, Some(start + bound))
            .await
            .unwrap_err();
        let spent = start.elapsed();
        assert!(
            spent >= bound && spent < bound + Duration::from_secs(6),
            "{spent:?}"
        );
        assert_eq!(failure.exit(), Exit::SourceBusy);
        assert!(
            failure.message().contains("the end of the volume 1"),
            "{failure}"
        );
        assert_eq!(removal.left(), "volume 1, snapshot 1");
        let orders = services.orders.into_inner();
        let of_snapshot = orders.iter().filter(|order| *order == "snapshot 1");
        assert_eq!(of_snapshot.count(), 1, "{orders:?}");
    }

    /// Cinder may overwrite a deleted volume first, which takes hours.
    #[tokio::test(start_paused = true)]
    async fn a_clean_up_is_bounded_in_all_and_names_what_is_left() {
        let [image, volume, snapshot] = [What::Image, What::Volume, What::Snapshot].map(object);
        let services = Double::default()
            .with(&image, &["stuck"])
            .with(&volume, &["stuck"])
            .with(&snapshot, &["stuck"]);
        let (_handle, stop) = Stop::new();
        let start = Instant::now();
        let rest = clean(&services, Vec::new(), &stop, Some(STEP)).await;
        let spent = start.elapsed();
        assert!(spent <= STEP && spent + ORDERS >= STEP, "{spent:?}");
        let rest = rest.unwrap_err();
        assert_eq!(rest.left, "image 1, volume 1, snapshot 1");
        assert!(
            rest.why.message().contains("the end of the image 1"),
            "{rest}"
        );
        // Without a bound each of them has its own.
        let start = Instant::now();
        let rest = clean(&services, Vec::new(), &stop, None).await;
        assert!(
            start.elapsed() >= STEP + bound(1) + bound(1),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(rest.unwrap_err().left, "image 1, volume 1, snapshot 1");
    }

    /// Answers nothing.
    struct Silent;

    impl Services for Silent {
        async fn objects(&self) -> Result<Vec<Temporary>, Failure> {
            std::future::pending().await
        }

        async fn status(&self, _: &Temporary) -> Result<Option<String>, Failure> {
            std::future::pending().await
        }

        async fn delete(&self, _: &Temporary) -> Result<Deletion, Failure> {
            std::future::pending().await
        }

        async fn reason(&self, _: &Temporary) -> Option<String> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_is_silent_withholds_no_copy() {
        let (_handle, stop) = Stop::new();
        let start = Instant::now();
        let rest = clean(&Silent, all(), &stop, Some(STEP)).await.unwrap_err();
        let spent = start.elapsed();
        assert!(
            spent >= STEP && spent < STEP + Duration::from_secs(1),
            "{spent:?}"
        );
        assert_eq!(rest.left, "image 1, volume 1, snapshot 1");
        assert_eq!(rest.why.exit(), Exit::SourceBusy);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_is_cut_off_knows_what_is_left() {
        let services = Double::default()
            .with(&object(What::Image), &[])
            .with(&object(What::Volume), &["stuck"])
            .with(&object(What::Snapshot), &[]);
        for bound in [None, Some(STEP)] {
            let (handle, stop) = Stop::new();
            handle.pull();
            let start = Instant::now();
            let rest = clean(&services, Vec::new(), &stop, bound)
                .await
                .unwrap_err();
            assert_eq!(rest.why.exit(), Exit::Terminated, "{rest}");
            assert_eq!(rest.left, "volume 1, snapshot 1");
            assert!(start.elapsed() < Stop::CLEAN_UP + Duration::from_secs(1));
        }
    }

    /// No run follows that of a complete copy, and a failed one has a next run.
    #[tokio::test(start_paused = true)]
    async fn a_stop_of_a_bounded_removal_orders_the_end_of_all() {
        for (bound, ordered) in [(Some(STEP), 1), (None, 0)] {
            let services = Double::default()
                .with(&object(What::Image), &[])
                .with(&object(What::Volume), &["deleting"])
                .with(&object(What::Snapshot), &[]);
            let (handle, stop) = Stop::new();
            handle.pull();
            let rest = clean(&services, Vec::new(), &stop, bound)
                .await
                .unwrap_err();
            assert_eq!(rest.why.exit(), Exit::Terminated, "{rest}");
            assert_eq!(rest.left, "volume 1, snapshot 1");
            let orders = services.orders.into_inner();
            let of_snapshot = orders.iter().filter(|order| *order == "snapshot 1");
            assert_eq!(of_snapshot.count(), ordered, "{bound:?} {orders:?}");
        }
    }

    /// Answers no order for the volume, and others after a second.
    struct Hanging(Double);

    impl Services for Hanging {
        async fn objects(&self) -> Result<Vec<Temporary>, Failure> {
            Ok(all())
        }

        async fn status(&self, object: &Temporary) -> Result<Option<String>, Failure> {
            self.0.status(object).await
        }

        async fn delete(&self, object: &Temporary) -> Result<Deletion, Failure> {
            if object.what == What::Volume {
                return std::future::pending().await;
            }
            time::sleep(Duration::from_secs(1)).await;
            self.0.delete(object).await
        }

        async fn reason(&self, _: &Temporary) -> Option<String> {
            None
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_hangs_at_a_stop_leaves_time_for_the_others() {
        let [volume, snapshot] = [What::Volume, What::Snapshot].map(object);
        let double = Double::default().with(&volume, &[]).with(&snapshot, &[]);
        let services = Hanging(double);
        let (handle, stop) = Stop::new();
        handle.pull();
        let start = Instant::now();
        let rest = clean(&services, Vec::new(), &stop, Some(STEP)).await;
        assert_eq!(rest.unwrap_err().left, "volume 1, snapshot 1");
        assert_eq!(services.0.orders.into_inner(), ["snapshot 1"]);
        let most = Stop::CLEAN_UP + Duration::from_secs(1);
        assert!(start.elapsed() < most, "{:?}", start.elapsed());
    }

    #[test]
    fn the_table_of_timers_is_right() {
        assert_eq!(testkit::timers::stated("tidying up after a copy"), [STEP]);
    }
}
