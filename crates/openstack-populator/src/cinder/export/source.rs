//! From the user's volume or snapshot to a temporary volume, or straight to an image.

use contract::Exit;
use mover::Failure;

use super::{Export, of_temporary, vanished};
use crate::cinder::{
    Place, PlaceId, Route, Snapshot, Volume,
    quota::{Own, Refusal, Room},
    removal::What,
    route::{route_of_snapshot, route_of_volume},
    wait::{STEP, Wait, bound},
};

/// What the user's volume or snapshot has become.
pub(super) enum First {
    /// The volume was uploaded as it is.
    Image(String),
    /// A temporary volume, which is being made.
    Volume(Volume),
}

/// The first step of the user's volume.
enum Begun {
    Image(String),
    Snapshot(Snapshot),
}

impl Export {
    /// Makes the temporary volume, or the image where none is needed.
    ///
    /// A snapshot of ours that is too much for the quota of its volume is not kept while room is waited for: snapshots and
    /// volumes count their GiB in one quota, so that copies which kept theirs could wait for each other for ever. Nor is
    /// one that an earlier run left.
    pub(super) async fn first(&self, place: &Place, room: &mut Room) -> Result<First, Failure> {
        loop {
            let snapshot = match place {
                Place::Snapshot(id) => self.free_snapshot(id).await?,
                Place::Volume(id) => match self.first_of(id, room).await? {
                    Begun::Image(image) => return Ok(First::Image(image)),
                    Begun::Snapshot(snapshot) => snapshot,
                },
            };
            self.go_on()?;
            match self.cinder.make_volume(&snapshot, &self.mark).await {
                Ok(made) => {
                    self.uses(What::Volume, &made.id, made.size);
                    tracing::info!(
                        volume = made.id,
                        snapshot = snapshot.id,
                        gib = made.size,
                        "making a volume from the snapshot"
                    );
                    return Ok(First::Volume(made));
                }
                Err(Refusal::Quota(full)) => {
                    if let Some(failure) = full.alone(self.held_with(&snapshot).await?, 0) {
                        return Err(failure);
                    }
                    // Only what is marked is listed, never the user's own.
                    self.remove(self.snapshots().await?).await?;
                    room.wait(&full).await?;
                }
                Err(Refusal::State(failure) | Refusal::Other(failure)) => {
                    return Err(match place {
                        Place::Volume(_) => of_temporary("snapshot", &snapshot.id, failure),
                        Place::Snapshot(_) => failure,
                    });
                }
            }
        }
    }

    /// What a snapshot and its volume hold of the quotas.
    async fn held_with(&self, snapshot: &Snapshot) -> Result<Own, Failure> {
        let volume = match &snapshot.volume_id {
            Some(id) => self.cinder.volume(id).await?,
            None => None,
        };
        let volumes = u64::from(volume.is_some());
        let gib = volume.map_or(0, |volume| volume.size);
        Ok(Own {
            gib: gib.saturating_add(snapshot.size),
            volumes,
        })
    }

    /// Takes the first step of the user's volume, once that is free, and waits for its end. Several copies of one volume
    /// upload it one after the other.
    async fn first_of(&self, id: &PlaceId, room: &mut Room) -> Result<Begun, Failure> {
        let mut wait = None;
        let mut was_free = false;
        loop {
            let (volume, route) = self.free_volume(id, &mut wait).await?;
            let begun = match self.begin(id, &volume, route).await {
                Ok(Begun::Image(image)) => {
                    let uploaded = self.upload_own(&volume, image).await;
                    uploaded.map(Begun::Image)
                }
                begun => begun,
            };
            let refusal = match begun {
                Ok(Begun::Image(image)) => return Ok(Begun::Image(image)),
                Ok(Begun::Snapshot(snapshot)) => {
                    let made = self.snapshot_made(&snapshot.id, volume.size).await;
                    return made.map(Begun::Snapshot);
                }
                Err(Refusal::Quota(full)) => {
                    let (gib, volumes) = (volume.size, 1);
                    if let Some(failure) = full.alone(Own { gib, volumes }, gib) {
                        return Err(failure);
                    }
                    room.wait(&full).await?;
                    // What was seen of the volume is old.
                    (wait, was_free) = (None, false);
                    continue;
                }
                Err(Refusal::Other(failure)) => return Err(failure),
                Err(Refusal::State(refusal)) => refusal,
            };
            // Another copy, or a backup, may have taken the volume between the look and the order; that may even be over by
            // now, so only a second refusal of a free volume counts.
            let now = self.volume(id).await?;
            let is_free = route_of_volume(&now, self.cinder.version())? != Route::Wait;
            if is_free && was_free {
                return Err(refusal);
            }
            was_free = is_free;
            tracing::info!("{refusal}; trying again when the volume is free");
        }
    }

    /// Orders the first step.
    async fn begin(&self, id: &PlaceId, volume: &Volume, route: Route) -> Result<Begun, Refusal> {
        if let Route::Snapshot { force } = route {
            return self.snapshot_of(id, force).await.map(Begun::Snapshot);
        }
        self.remove(self.snapshots().await?).await?;
        self.upload(volume).await.map(Begun::Image)
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
    async fn snapshot_of(&self, id: &PlaceId, force: bool) -> Result<Snapshot, Refusal> {
        let found = self.cinder.snapshots_of(&self.mark).await?;
        let mine = found.into_iter().find(|snapshot| {
            self.mark.may_take_over(&snapshot.metadata)
                && matches!(snapshot.status.as_str(), "available" | "creating")
        });
        if let Some(snapshot) = mine {
            tracing::info!(
                snapshot = snapshot.id,
                "an earlier run made the snapshot; taking it over"
            );
            self.uses(What::Snapshot, &snapshot.id, snapshot.size);
            return Ok(snapshot);
        }
        self.remove(self.snapshots().await?).await?;
        self.go_on()?;
        let made = self.cinder.make_snapshot(id, force, &self.mark).await?;
        self.uses(What::Snapshot, &made.id, made.size);
        tracing::info!(snapshot = made.id, volume = %id, "making a snapshot of the volume");
        Ok(made)
    }

    /// Waits until the temporary snapshot is there.
    async fn snapshot_made(&self, id: &str, gib: u64) -> Result<Snapshot, Failure> {
        let mut wait = Wait::new(format!("the snapshot {id}"), bound(gib), Some(&self.stop));
        loop {
            let Some(snapshot) = self.cinder.snapshot(id).await? else {
                return Err(vanished("snapshot", id));
            };
            match snapshot.status.as_str() {
                "available" => return Ok(snapshot),
                "creating" => wait.pause(&snapshot.status).await?,
                status => return Err(self.failed("snapshot", id, status).await),
            }
        }
    }

    pub(super) async fn volume(&self, id: &PlaceId) -> Result<Volume, Failure> {
        let found = self.cinder.volume(&id.to_string()).await?;
        found.ok_or_else(|| self.missing("volume", id))
    }

    pub(super) async fn snapshot(&self, id: &PlaceId) -> Result<Snapshot, Failure> {
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
}
