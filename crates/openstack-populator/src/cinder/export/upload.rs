//! From a volume to an image.

use contract::Exit;
use mover::Failure;

use super::{Export, because, of_temporary, vanished};
use crate::cinder::{
    Volume,
    quota::{Full, Refusal, Room, has_met_quota},
    removal::{What, temporary},
    wait::{Wait, bound},
};

impl Export {
    /// Waits until the temporary volume can be uploaded.
    pub(super) async fn available(&self, id: &str, gib: u64) -> Result<Volume, Failure> {
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

    /// Makes an image of the temporary volume, and waits for it. While a quota is full the volume is kept: who has an image
    /// waits for no other room. The time that the volume took is none of this wait.
    pub(super) async fn upload_temporary(&self, volume: &Volume) -> Result<String, Failure> {
        let mut room = Room::new(&self.mark.name(), &self.stop);
        for key in volume.reserved() {
            self.go_on()?;
            self.cinder.unset_image_metadata(&volume.id, key).await?;
        }
        if !self.mark.may_take_over(&volume.volume_image_metadata) {
            self.go_on()?;
            let marked = self.cinder.mark_image_of(&volume.id, &self.mark).await;
            marked.map_err(|failure| of_temporary("volume", &volume.id, failure))?;
        }
        loop {
            let full = match self.upload(volume).await {
                Ok(image) => match self.uploaded(volume, image).await {
                    Err(Refusal::Quota(full)) => full,
                    ended => return Ok(ended?),
                },
                Err(Refusal::Quota(full)) => full,
                Err(Refusal::State(failure) | Refusal::Other(failure)) => {
                    return Err(of_temporary("volume", &volume.id, failure));
                }
            };
            room.wait(&full).await?;
            // An upload that failed may not have left it yet.
            self.available(&volume.id, volume.size).await?;
        }
    }

    /// Waits for the upload of the user's volume, which is left as it is, so that its image is marked afterwards. One that
    /// cannot be is known by its name still.
    pub(super) async fn upload_own(
        &self,
        volume: &Volume,
        image: String,
    ) -> Result<String, Refusal> {
        if let Err(failure) = self.store.mark(&image, &self.mark).await {
            tracing::warn!("{failure}; going on, since its name says whose it is");
        }
        self.uploaded(volume, image).await
    }

    /// Begins an upload.
    pub(super) async fn upload(&self, volume: &Volume) -> Result<String, Refusal> {
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
    /// image shows is final. An image that is refused for a quota is removed, since it counts in that quota.
    pub(super) async fn uploaded(&self, volume: &Volume, image: String) -> Result<String, Refusal> {
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
                let said = reason.clone().unwrap_or_default();
                let text = format!(
                    "{} did not upload the volume {} as an image, whose status is {}{}",
                    self.cinder,
                    volume.id,
                    net::quoted(&status),
                    because(reason)
                );
                if !has_met_quota(&said) {
                    return Err(Failure::new(Exit::SourceUnavailable, text).into());
                }
                self.remove(vec![temporary(What::Image, image, 0)]).await?;
                let request = String::new();
                return Err(Refusal::Quota(Full {
                    text,
                    said,
                    request,
                }));
            }
            wait.pause(&status).await?;
        }
    }
}
