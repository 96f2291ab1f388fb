//! The services, as far as a removal needs them, and the lists of what there is to remove.

use mover::Failure;

use super::Export;
use crate::cinder::removal::{Deletion, Services, Temporary, What, temporary};

impl Services for Export {
    async fn objects(&self) -> Result<Vec<Temporary>, Failure> {
        let objects = [
            self.images().await?,
            self.volumes().await?,
            self.snapshots().await?,
        ];
        Ok(objects.concat())
    }

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

impl Export {
    pub(super) async fn images(&self) -> Result<Vec<Temporary>, Failure> {
        let images = self.store.images_of(&self.mark).await?.into_iter();
        Ok(images
            .map(|image| temporary(What::Image, image.id, 0))
            .collect())
    }

    pub(super) async fn volumes(&self) -> Result<Vec<Temporary>, Failure> {
        let volumes = self.cinder.volumes_of(&self.mark).await?.into_iter();
        Ok(volumes
            .map(|volume| temporary(What::Volume, volume.id, volume.size))
            .collect())
    }

    pub(super) async fn snapshots(&self) -> Result<Vec<Temporary>, Failure> {
        let snapshots = self.cinder.snapshots_of(&self.mark).await?.into_iter();
        Ok(snapshots
            .map(|snapshot| temporary(What::Snapshot, snapshot.id, snapshot.size))
            .collect())
    }
}
