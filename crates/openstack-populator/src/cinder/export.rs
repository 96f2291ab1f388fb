//! From a volume or a snapshot to an image that can be copied, and the removal of all that was made for it.

use std::sync::{Mutex, PoisonError};

use contract::Exit;
use mover::{Failure, Stop};

use super::{
    Api, Cinder, Mark, Place, PlaceId, Route, Snapshot, Volume,
    removal::{Deletion, Removal, Services, Temporary, What},
    route::{refuse_encrypted, route_of_snapshot, route_of_volume},
    store::Store,
    wait::{STEP, Wait, bound, stopped},
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
            () = self.last_moment(2) => Err(stopped()),
        }
    }

    /// Removes every object of this migration: the images, the volumes, the snapshots.
    ///
    /// # Errors
    /// What is left, which the text names, is in the cloud still; a later call removes it.
    pub async fn clean(&self) -> Result<(), Failure> {
        // Until the lists are read, to have something to name.
        let mut removal = Removal::new(self.used());
        let result = tokio::select! {
            result = async {
                let objects = [self.images().await?, self.volumes().await?, self.snapshots().await?];
                removal = Removal::new(objects.concat());
                removal.run(self).await
            } => result,
            () = self.last_moment(1) => Err(Failure::new(Exit::Terminated, "the time to tidy up is over")),
        };
        let left = removal.left();
        result.map_err(|failure| match left.as_str() {
            "" => failure,
            left => {
                let exit = failure.exit();
                Failure::new(exit, format!("{failure}; left in the cloud: {left}"))
            }
        })
    }

    /// The name of its objects, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.mark.name()
    }

    async fn last_moment(&self, part: u32) {
        self.stop.asked().await;
        tokio::time::sleep(self.stop.time_left() / part).await;
    }

    async fn make(&self, place: &Place) -> Result<String, Failure> {
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
                return self.uploaded(&volume, image.id.clone()).await;
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

        let snapshot = match place {
            Place::Snapshot(id) => self.free_snapshot(id).await?,
            Place::Volume(id) => match self.first_of(id).await? {
                First::Image(image) => return Ok(image),
                First::Snapshot(snapshot) => snapshot,
            },
        };
        self.go_on()?;
        let made = self.cinder.make_volume(&snapshot, &self.mark).await;
        let made = made.map_err(|failure| match place {
            Place::Volume(_) => of_temporary("snapshot", &snapshot.id, failure),
            Place::Snapshot(_) => failure,
        })?;
        self.uses(What::Volume, &made.id, made.size);
        tracing::info!(
            volume = made.id,
            snapshot = snapshot.id,
            gib = made.size,
            "making a volume from the snapshot"
        );
        let volume = self.available(&made.id, made.size).await?;
        refuse_encrypted(&volume)?;
        self.upload_temporary(&volume).await
    }

    /// Takes the first step of the user's volume, once that is free. Several copies of one volume upload it one after the
    /// other.
    async fn first_of(&self, id: &PlaceId) -> Result<First, Failure> {
        let mut wait = None;
        let mut was_free = false;
        loop {
            let (volume, route) = self.free_volume(id, &mut wait).await?;
            if let Route::Snapshot { force } = route {
                let snapshot = self.snapshot_of(id, &volume, force).await?;
                return Ok(First::Snapshot(snapshot));
            }
            self.remove(self.snapshots().await?).await?;
            let refusal = match self.upload(&volume).await {
                Err(failure) if failure.exit() == Exit::SourceUnusable => failure,
                begun => return self.upload_own(&volume, begun?).await.map(First::Image),
            };
            // Another copy may have begun its upload between the look and the order; that may even be over by now, so only
            // a second refusal of a free volume counts.
            let now = self.volume(id).await?;
            let is_free = route_of_volume(&now, self.cinder.version())? == Route::Upload;
            if is_free && was_free {
                return Err(refusal);
            }
            was_free = is_free;
            tracing::info!("{refusal}; trying again when the volume is free");
        }
    }

    /// Waits until the user's volume is free, and gives its route. It may be uploaded for another copy, so that its size
    /// counts.
    async fn free_volume(
        &self,
        id: &PlaceId,
        wait: &mut Option<Wait>,
    ) -> Result<(Volume, Route), Failure> {
        loop {
            let volume = self.volume(id).await?;
            let wait = wait.get_or_insert_with(|| {
                let bound = bound(volume.size);
                Wait::new(format!("the volume {id}"), bound, Some(&self.stop))
            });
            match route_of_volume(&volume, self.cinder.version())? {
                Route::Wait => wait.pause(&volume.status).await?,
                route => return Ok((volume, route)),
            }
        }
    }

    /// Waits until the user's snapshot is there.
    async fn free_snapshot(&self, id: &PlaceId) -> Result<Snapshot, Failure> {
        let mut wait = Wait::new(format!("the snapshot {id}"), STEP, Some(&self.stop));
        loop {
            let snapshot = self.snapshot(id).await?;
            if route_of_snapshot(&snapshot)? != Route::Wait {
                return Ok(snapshot);
            }
            wait.pause(&snapshot.status).await?;
        }
    }

    /// The temporary snapshot: an earlier run's, or a new one.
    async fn snapshot_of(
        &self,
        id: &PlaceId,
        volume: &Volume,
        force: bool,
    ) -> Result<Snapshot, Failure> {
        let found = self.cinder.snapshots_of(&self.mark).await?;
        let mine = found.into_iter().find(|snapshot| {
            self.mark.may_take_over(&snapshot.metadata)
                && matches!(snapshot.status.as_str(), "available" | "creating")
        });
        let snapshot = if let Some(snapshot) = mine {
            tracing::info!(
                snapshot = snapshot.id,
                "an earlier run made the snapshot; taking it over"
            );
            self.uses(What::Snapshot, &snapshot.id, snapshot.size);
            snapshot
        } else {
            self.remove(self.snapshots().await?).await?;
            self.go_on()?;
            let made = self.cinder.make_snapshot(id, force, &self.mark).await?;
            self.uses(What::Snapshot, &made.id, made.size);
            tracing::info!(snapshot = made.id, volume = %id, "making a snapshot of the volume");
            made
        };
        let mut wait = Wait::new(
            format!("the snapshot {}", snapshot.id),
            bound(volume.size),
            Some(&self.stop),
        );
        loop {
            let Some(snapshot) = self.cinder.snapshot(&snapshot.id).await? else {
                return Err(vanished("snapshot", &snapshot.id));
            };
            match snapshot.status.as_str() {
                "available" => return Ok(snapshot),
                "creating" => wait.pause(&snapshot.status).await?,
                status => return Err(self.failed("snapshot", &snapshot.id, status).await),
            }
        }
    }

    /// Waits until the temporary volume can be uploaded.
    async fn available(&self, id: &str, gib: u64) -> Result<Volume, Failure> {
        let mut wait = Wait::new(format!("the volume {id}"), bound(gib), Some(&self.stop));
        loop {
            let Some(volume) = self.cinder.volume(id).await? else {
                return Err(vanished("volume", id));
            };
            match volume.status.as_str() {
                "available" => return Ok(volume),
                "creating" | "downloading" | "uploading" => wait.pause(&volume.status).await?,
                status => return Err(self.failed("volume", id, status).await),
            }
        }
    }

    async fn upload_temporary(&self, volume: &Volume) -> Result<String, Failure> {
        for key in volume.reserved() {
            self.go_on()?;
            self.cinder.unset_image_metadata(&volume.id, key).await?;
        }
        if !self.mark.may_take_over(&volume.volume_image_metadata) {
            self.go_on()?;
            let marked = self.cinder.mark_image_of(&volume.id, &self.mark).await;
            marked.map_err(|failure| of_temporary("volume", &volume.id, failure))?;
        }
        let image = self.upload(volume).await;
        let image = image.map_err(|failure| of_temporary("volume", &volume.id, failure))?;
        self.uploaded(volume, image).await
    }

    /// Waits for the upload of the user's volume, which is left as it is, so that its image is marked afterwards. One that
    /// cannot be is known by its name still.
    async fn upload_own(&self, volume: &Volume, image: String) -> Result<String, Failure> {
        if let Err(failure) = self.store.mark(&image, &self.mark).await {
            tracing::warn!("{failure}; going on, since its name says whose it is");
        }
        self.uploaded(volume, image).await
    }

    /// Begins an upload.
    async fn upload(&self, volume: &Volume) -> Result<String, Failure> {
        self.go_on()?;
        let image = self.cinder.upload(&volume.id, &self.mark).await?;
        self.uses(What::Image, &image, 0);
        tracing::info!(
            image,
            volume = volume.id,
            "uploading the volume as an image"
        );
        Ok(image)
    }

    /// Waits for the end of an upload. The volume is looked at before the image: once it has left the upload, what the
    /// image shows is final.
    async fn uploaded(&self, volume: &Volume, image: String) -> Result<String, Failure> {
        let mut wait = Wait::new(
            format!(
                "the image {image}, which is uploaded from the volume {}",
                volume.id
            ),
            bound(volume.size),
            Some(&self.stop),
        );
        loop {
            let volume_now = self.cinder.volume(&volume.id).await?;
            let image_now = self.store.image(&image).await?;
            let status = image_now.map_or_else(|| "gone".to_owned(), |image| image.status);
            if status == "active" {
                return Ok(image);
            }
            let ends = matches!(status.as_str(), "gone" | "killed" | "deleted");
            if ends || volume_now.is_none_or(|volume| volume.status != "uploading") {
                let reason = self.cinder.reason(&volume.id).await;
                return Err(Failure::new(
                    Exit::SourceUnavailable,
                    format!(
                        "{} did not upload the volume {} as an image, whose status is {}{}",
                        self.cinder,
                        volume.id,
                        net::quoted(&status),
                        because(reason)
                    ),
                ));
            }
            wait.pause(&status).await?;
        }
    }

    async fn volume(&self, id: &PlaceId) -> Result<Volume, Failure> {
        let found = self.cinder.volume(&id.to_string()).await?;
        found.ok_or_else(|| self.missing("volume", id))
    }

    async fn snapshot(&self, id: &PlaceId) -> Result<Snapshot, Failure> {
        let found = self.cinder.snapshot(&id.to_string()).await?;
        found.ok_or_else(|| self.missing("snapshot", id))
    }

    fn missing(&self, what: &str, id: &PlaceId) -> Failure {
        Failure::new(
            Exit::SourceMissing,
            format!(
                "{} has no {what} {id}: it does not exist, or belongs to another project than the one that the secret names",
                self.cinder
            ),
        )
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

    async fn remove(&self, objects: Vec<Temporary>) -> Result<(), Failure> {
        Removal::new(objects).run(self).await
    }

    async fn images(&self) -> Result<Vec<Temporary>, Failure> {
        let images = self.store.images_of(&self.mark).await?.into_iter();
        Ok(images
            .map(|image| temporary(What::Image, image.id, 0))
            .collect())
    }

    async fn volumes(&self) -> Result<Vec<Temporary>, Failure> {
        let volumes = self.cinder.volumes_of(&self.mark).await?.into_iter();
        Ok(volumes
            .map(|volume| temporary(What::Volume, volume.id, volume.size))
            .collect())
    }

    async fn snapshots(&self) -> Result<Vec<Temporary>, Failure> {
        let snapshots = self.cinder.snapshots_of(&self.mark).await?.into_iter();
        Ok(snapshots
            .map(|snapshot| temporary(What::Snapshot, snapshot.id, snapshot.size))
            .collect())
    }
}

/// What the first step makes of the user's volume.
enum First {
    Image(String),
    Snapshot(Snapshot),
}

impl Services for Export {
    async fn status(&self, object: &Temporary) -> Result<Option<String>, Failure> {
        let id = &object.id;
        Ok(match object.what {
            What::Image => self.store.image(id).await?.map(|image| image.status),
            What::Volume => self.cinder.volume(id).await?.map(|volume| volume.status),
            What::Snapshot => {
                let snapshot = self.cinder.snapshot(id).await?;
                snapshot.map(|snapshot| snapshot.status)
            }
        })
    }

    async fn delete(&self, object: &Temporary) -> Result<Deletion, Failure> {
        let id = &object.id;
        match object.what {
            What::Image => self.store.delete(id).await,
            What::Volume => self.cinder.delete(&format!("volumes/{id}")).await,
            What::Snapshot => self.cinder.delete(&format!("snapshots/{id}")).await,
        }
    }

    async fn reason(&self, object: &Temporary) -> Option<String> {
        match object.what {
            What::Image => None,
            What::Volume | What::Snapshot => self.cinder.reason(&object.id).await,
        }
    }
}

const fn temporary(what: What, id: String, size: u64) -> Temporary {
    Temporary { what, id, size }
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
