//! The removal of what a migration made, which knows at each moment what is left.

use std::fmt;

use contract::Exit;
use mover::Failure;

use super::wait::{STEP, Wait, bound};

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
    /// The object's status; `None` when it is gone.
    async fn status(&self, object: &Temporary) -> Result<Option<String>, Failure>;
    /// Orders its end.
    async fn delete(&self, object: &Temporary) -> Result<Deletion, Failure>;
    /// Why it went wrong, in the service's words.
    async fn reason(&self, object: &Temporary) -> Option<String>;
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
    /// what depends on it is refused by the service.
    ///
    /// # Errors
    /// The first failure, when all has been tried.
    pub(super) async fn run(&mut self, services: &impl Services) -> Result<(), Failure> {
        let mut first = None;
        for object in self.left.clone() {
            tracing::info!("removing the temporary {object}");
            match remove(services, &object).await {
                Ok(()) => self.left.retain(|left| *left != object),
                Err(failure) => first = first.or(Some(failure)),
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Orders the end of one object until it is gone.
async fn remove(services: &impl Services, object: &Temporary) -> Result<(), Failure> {
    let bound = match object.what {
        What::Image => STEP,
        What::Volume | What::Snapshot => bound(object.size),
    };
    let mut wait = Wait::new(format!("the end of the {object}"), bound, None);
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

    use mover::Stop;

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
        removal.run(&services).await.unwrap();
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
            let failure = removal.run(&services).await.unwrap_err();
            assert_eq!(failure.exit(), exit, "{failure}");
            assert!(failure.message().contains(needle), "{failure}");
            assert_eq!(removal.left(), "volume 1");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_is_cut_off_knows_what_is_left() {
        let services = Double::default()
            .with(&object(What::Image), &[])
            .with(&object(What::Volume), &["stuck"])
            .with(&object(What::Snapshot), &[]);
        let (handle, stop) = Stop::new();
        handle.pull();
        let mut removal = Removal::new(all());
        let ended = tokio::time::timeout(stop.time_left(), removal.run(&services)).await;
        assert!(ended.is_err());
        assert_eq!(removal.left(), "volume 1, snapshot 1");
    }
}
