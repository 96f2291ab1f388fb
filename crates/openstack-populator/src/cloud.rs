//! A cloud that has accepted the credentials: its services, and the token for them.

use std::sync::Arc;

use contract::args::secret;
use mover::{Context, Failure};
use net::{Repeat, Rest};
use transfer::{Error, Kind, source::Authorization};
use url::Url;

use crate::{
    cinder::{Api, Cinder, Export, Mark},
    glance::{Glance, Image, ImageId},
    keystone::{Availability, Catalog, Credentials, Keystone, ManyRegions, Session},
};

/// The services of one cloud.
#[derive(Debug)]
pub(crate) struct Cloud {
    /// Keystone's name, for messages.
    pub(crate) name: String,
    pub(crate) glance: Glance,
    pub(crate) session: Arc<Session>,
    rest: Rest,
    image_url: Url,
    catalog: Catalog,
    region: Option<String>,
    availability: Availability,
    many: ManyRegions,
    retry: Repeat,
}

impl Cloud {
    /// Asks Keystone for a token, and finds the image service.
    pub(crate) async fn open(context: &Context, identity: Url) -> Result<Self, Failure> {
        let secrets = &context.secrets;
        let credentials = Credentials::from_keys(|key| secrets.get(key))
            .map_err(|error| Failure::from(error).context(secrets.origin()))?;
        let availability: Availability =
            secrets.text(secret::AVAILABILITY).unwrap_or("").parse()?;
        let region = secrets.text(secret::REGION_NAME).map(str::trim);
        let region = region.filter(|region| !region.is_empty());
        let retry = Repeat::Idempotent(context.no_progress_timeout);
        let rest = context.rest()?;

        let keystone = Keystone::new(
            rest.clone(),
            identity,
            credentials,
            context.redactor.clone(),
        );
        tracing::info!(
            auth_type = keystone.credentials().auth_type(),
            "asking {keystone} for a token"
        );
        let token = keystone.authenticate(retry).await?;
        let catalog = token.catalog.clone().ok_or_else(no_catalog)?;
        // Forklift starts it without asking for a region where the user named none.
        let many = if context.started_by_controller {
            ManyRegions::TakeFirst
        } else {
            ManyRegions::Refuse
        };
        let image_url = catalog.image_url(region, availability, many)?;
        if let Some(expires_at) = token.expires_at {
            tracing::debug!(%expires_at, "the token is good for now");
        }
        let name = keystone.to_string();
        let session = Session::new(keystone, &token, tokio::runtime::Handle::current())?;
        Ok(Self {
            name,
            glance: Glance::new(rest.clone(), image_url.clone()),
            session: Arc::new(session),
            rest,
            image_url,
            catalog,
            region: region.map(str::to_owned),
            availability,
            many,
            retry,
        })
    }

    /// The record of an image.
    pub(crate) async fn image(&self, id: &ImageId) -> Result<Image, Failure> {
        let token = self.session.headers()?;
        Ok(self.glance.image(id, &token, self.retry).await?)
    }

    /// Whether there is a volume service.
    pub(crate) fn has_volumes(&self) -> bool {
        self.volume_url().is_ok()
    }

    fn volume_url(&self) -> Result<Url, Error> {
        let region = self.region.as_deref();
        self.catalog
            .volume_url(region, self.availability, self.many)
    }

    /// Finds the volume service, for the objects of `mark`.
    pub(crate) async fn export(&self, context: &Context, mark: Mark) -> Result<Export, Failure> {
        let url = self.volume_url()?;
        let client = || (self.rest.clone(), Arc::clone(&self.session));
        let retry = context.no_progress_timeout;
        let (rest, session) = client();
        let cinder = Cinder::open(rest, url, session, retry).await?;
        let (rest, session) = client();
        let glance = Api::new("Glance", rest, self.image_url.clone(), session, retry);
        Ok(Export::new(cinder, glance, mark, context.stop.clone()))
    }
}

fn no_catalog() -> Error {
    Error::new(
        Kind::Configuration,
        format!(
            "Keystone gave a token without a catalog, since the secret names no scope and the user has no default project; set {}, or {} with {}",
            secret::PROJECT_ID,
            secret::PROJECT_NAME,
            secret::PROJECT_DOMAIN_NAME
        ),
    )
}
