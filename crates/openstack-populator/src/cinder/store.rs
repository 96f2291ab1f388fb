//! Glance's calls for images that are temporary.

use http::{Method, StatusCode};
use mover::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Api, Mark, StoredImage, removal::Deletion};

/// Glance, as far as images come and go.
#[derive(Debug, Clone)]
pub(super) struct Store(pub(super) Api);

#[derive(Deserialize, Default)]
struct Images {
    images: Vec<StoredImage>,
}

impl Store {
    /// The images of this mark. One that is uploaded from a volume of the user's has no metadata of ours until
    /// [`Self::mark`], and is known by its name, which holds the claim's UID or a random number. What others share is not
    /// looked at.
    pub(super) async fn images_of(&self, mark: &Mark) -> Result<Vec<StoredImage>, Failure> {
        let name = mark.name();
        let fields = [("name", name.as_str()), ("visibility", "private")];
        let url = self.0.query("images", &fields);
        let found: Option<Images> = self.0.find(url, "list the images").await?;
        let mut images = found.unwrap_or_default().images;
        images.retain(|image| {
            image.visibility == "private"
                && !has_ended(image)
                && image
                    .properties
                    .get("name")
                    .is_some_and(|found| found == name.as_str())
                && (mark.is_on(&image.properties) || Mark::is_missing(&image.properties))
        });
        Ok(images)
    }

    pub(super) async fn image(&self, id: &str) -> Result<Option<StoredImage>, Failure> {
        let url = self.0.url(&format!("images/{id}"));
        self.0.find(url, "read the temporary image").await
    }

    /// Gives an image the mark, which one that is uploaded from a volume of the user's does not inherit.
    pub(super) async fn mark(&self, id: &str, mark: &Mark) -> Result<(), Failure> {
        const DOING: &str = "mark the temporary image";
        let metadata = mark.metadata();
        let add = |(key, value)| json!({"op": "add", "path": format!("/{key}"), "value": value});
        let changes: Vec<Value> = metadata
            .as_object()
            .into_iter()
            .flatten()
            .map(add)
            .collect();
        let (url, body) = (self.0.url(&format!("images/{id}")), Value::from(changes));
        let answer = self.0.call(Method::PATCH, url, Some(&body), DOING).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(self.0.refusal(&answer, DOING))
    }

    /// Orders the end of an image.
    pub(super) async fn delete(&self, id: &str) -> Result<Deletion, Failure> {
        const DOING: &str = "delete the temporary image";
        let url = self.0.url(&format!("images/{id}"));
        let answer = self.0.call(Method::DELETE, url, None, DOING).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Deletion::Gone),
            status if status.is_success() => Ok(Deletion::Gone),
            StatusCode::CONFLICT => Ok(Deletion::Busy),
            _ => match self.image(id).await? {
                Some(image) if !has_ended(&image) => Err(self.0.refusal(&answer, DOING)),
                _ => Ok(Deletion::Gone),
            },
        }
    }
}

/// Whether Glance has deleted the image, and only its record is there still. It fails so (500) when its database is busy, and
/// takes no other order for the record then.
fn has_ended(image: &StoredImage) -> bool {
    image.status == "deleted"
}
