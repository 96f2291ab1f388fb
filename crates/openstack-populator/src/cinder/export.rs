//! From a volume or a snapshot to an image that can be copied, and the removal of all that was made for it.

mod services;
mod source;
mod upload;

use std::sync::{Mutex, PoisonError};

use contract::Exit;
use mover::{Failure, Stop};

use self::source::First;
use super::{
    Api, Cinder, Mark, Place, Volume,
    quota::{Refusal, Room},
    removal::{Removal, Rest, Temporary, What, clean, temporary},
    route::{refuse_encrypted, route_of_snapshot, route_of_volume},
    store::Store,
    wait::{STEP, last_moment, stopped},
};

/// One migration's objects in the cloud.
#[derive(Debug)]
pub struct Export {
    cinder: Cinder,
    store: Store,
    mark: Mark,
    stop: Stop,
    /// What this run has made or taken over.
    used: Mutex<Vec<Temporary>>,
}

impl Export {
    /// `glance` is a client whose base ends in `/v2`.
    #[must_use]
    pub(crate) const fn new(cinder: Cinder, glance: Api, mark: Mark, stop: Stop) -> Self {
        Self {
            cinder,
            store: Store(glance),
            mark,
            stop,
            used: Mutex::new(Vec::new()),
        }
    }

    /// Looks whether it can be copied, and gives its size in bytes. Makes nothing.
    ///
    /// # Errors
    /// [`Exit::SourceMissing`], [`Exit::SourceUnusable`], and those of the calls.
    pub async fn look(&self, place: &Place) -> Result<u64, Failure> {
        match place {
            Place::Volume(id) => {
                let volume = self.volume(id).await?;
                route_of_volume(&volume, self.cinder.version())?;
                Ok(volume.bytes())
            }
            Place::Snapshot(id) => {
                let snapshot = self.snapshot(id).await?;
                route_of_snapshot(&snapshot)?;
                // A snapshot says nothing of encryption; its volume does, while it is there.
                if let Some(id) = snapshot.volume_id.as_deref()
                    && let Some(volume) = self.cinder.volume(id).await?
                {
                    refuse_encrypted(&volume)?;
                }
                Ok(snapshot.bytes())
            }
        }
    }

    /// Makes the image, or takes over what an earlier run of this migration made; gives its id. When the run is to end,
    /// a call that is under way is waited for, as long as half of the time to tidy up lasts, so that what it makes is seen
    /// by [`Self::clean`].
    ///
    /// # Errors
    /// [`Exit::SourceBusy`] when a wait or a quota is over, and those of [`Self::look`].
    pub async fn image(&self, place: &Place) -> Result<String, Failure> {
        tokio::select! {
            result = self.make(place) => result,
            () = last_moment(&self.stop, 2) => Err(stopped()),
        }
    }

    /// Removes every object of this migration: the images, the volumes, the snapshots.
    ///
    /// # Errors
    /// What is left is in the cloud still; a later call removes it.
    pub async fn clean(&self) -> Result<(), Rest> {
        clean(self, self.used(), &self.stop, None).await
    }

    /// The same when the copy is complete: nothing of what the cloud does in its own time withholds it for longer than
    /// 15 min in all.
    ///
    /// # Errors
    /// Those of [`Self::clean`].
    pub async fn clean_after_copy(&self) -> Result<(), Rest> {
        clean(self, self.used(), &self.stop, Some(STEP)).await
    }

    /// The name of its objects, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.mark.name()
    }

    async fn failed(&self, what: &str, id: &str, status: &str) -> Failure {
        let reason = self.cinder.reason(id).await;
        Failure::new(
            Exit::SourceUnavailable,
            format!(
                "{} did not make the temporary {what} {id}: its status is {}{}",
                self.cinder,
                net::quoted(status),
                because(reason)
            ),
        )
    }

    /// Nothing is begun when the run is to end.
    fn go_on(&self) -> Result<(), Failure> {
        if self.stop.is_asked() {
            return Err(stopped());
        }
        Ok(())
    }

    async fn make(&self, place: &Place) -> Result<String, Failure> {
        let mut room = Room::new(&self.mark.name(), &self.stop);
        let images = self.store.images_of(&self.mark).await?;
        let volumes = self.cinder.volumes_of(&self.mark).await?;
        let mut usable = images
            .iter()
            .filter(|image| self.mark.may_take_over(&image.properties));
        if let Some(image) = usable.clone().find(|image| image.status == "active") {
            tracing::info!(
                image = image.id,
                "an earlier run made the image; taking it over"
            );
            self.uses(What::Image, &image.id, 0);
            return Ok(image.id.clone());
        }
        let mine = volumes
            .iter()
            .find(|volume| self.mark.may_take_over(&volume.metadata) && can_be_used(volume));
        if let Some(image) = usable.next() {
            let uploaded_from = match (mine, place) {
                (Some(volume), _) => Some(volume.clone()),
                (None, Place::Volume(id)) => self.cinder.volume(&id.to_string()).await?,
                (None, Place::Snapshot(_)) => None,
            };
            if let Some(volume) = uploaded_from.filter(|volume| volume.status == "uploading") {
                self.uses(What::Image, &image.id, 0);
                tracing::info!(
                    image = image.id,
                    "an earlier run began the upload; waiting for its end"
                );
                match self.uploaded(&volume, image.id.clone()).await {
                    Err(Refusal::Quota(full)) => room.wait(&full).await?,
                    ended => return Ok(ended?),
                }
            }
        }
        self.remove(self.images().await?).await?;
        if let Some(volume) = mine {
            tracing::info!(
                volume = volume.id,
                "an earlier run made the volume; taking it over"
            );
            self.uses(What::Volume, &volume.id, volume.size);
            let volume = self.available(&volume.id, volume.size).await?;
            return self.upload_temporary(&volume).await;
        }
        self.remove(self.volumes().await?).await?;

        let made = match self.first(place, &mut room).await? {
            First::Image(image) => return Ok(image),
            First::Volume(made) => made,
        };
        let volume = self.available(&made.id, made.size).await?;
        refuse_encrypted(&volume)?;
        self.upload_temporary(&volume).await
    }

    fn uses(&self, what: What, id: &str, size: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.push(temporary(what, id.to_owned(), size));
    }

    fn used(&self) -> Vec<Temporary> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = used.clone();
        used.sort_by_key(|object| object.what);
        used
    }

    /// Removes what this run does not use, or no longer.
    async fn remove(&self, objects: Vec<Temporary>) -> Result<(), Failure> {
        Removal::new(objects.clone()).run(self, None).await?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|used| !objects.iter().any(|gone| gone.is(used)));
        Ok(())
    }
}

fn can_be_used(volume: &Volume) -> bool {
    matches!(
        volume.status.as_str(),
        "available" | "creating" | "downloading" | "uploading"
    )
}

fn because(reason: Option<String>) -> String {
    reason.map_or_else(String::new, |reason| format!("; Cinder says: {reason}"))
}

/// A failure of a call for a temporary object: one that is missing says nothing of what the user named.
fn of_temporary(what: &str, id: &str, failure: Failure) -> Failure {
    match failure.exit() {
        Exit::SourceMissing => vanished(what, id),
        _ => failure,
    }
}

fn vanished(what: &str, id: &str) -> Failure {
    Failure::new(
        Exit::SourceUnavailable,
        format!("the temporary {what} {id} was deleted while it was needed; start the copy again"),
    )
}
