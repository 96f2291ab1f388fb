//! The endpoint to which the status of a populator resource is written.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::Client;
use populator_api::{GROUP, VERSION};
use tokio::time::Instant;

use population::model::Kind;

/// Forklift's operator, or an administrator, may replace a definition while the process runs.
const VALID_FOR: Duration = Duration::from_mins(5);

/// The endpoint of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The subresource `status`: our definition, with all its fields.
    Status,
    /// The resource itself: Forklift's definition, with `status.progress` alone.
    Main,
}

/// The endpoint of each kind, as the API server's discovery lists it. A 404 on a write proves
/// nothing, since the API server answers the same for a deleted resource.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    learned: Mutex<Option<Learned>>,
}

#[derive(Debug, Clone)]
struct Learned {
    at: Instant,
    endpoints: BTreeMap<Kind, Endpoint>,
}

impl Endpoints {
    /// The endpoint of `kind`; `None` when the cluster has no such kind.
    pub(super) async fn of(&self, kind: Kind, client: &Client) -> kube::Result<Option<Endpoint>> {
        if let Some(learned) = self.learned() {
            return Ok(learned.endpoints.get(&kind).copied());
        }
        let found = match client
            .list_api_group_resources(&format!("{GROUP}/{VERSION}"))
            .await
        {
            Ok(found) => found.resources,
            Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
            Err(error) => return Err(error),
        };
        let has = |plural: &str| found.iter().any(|resource| resource.name == plural);
        let endpoint = |kind: Kind| {
            let plural = kind.plural();
            if has(&format!("{plural}/status")) {
                Some((kind, Endpoint::Status))
            } else {
                has(plural).then_some((kind, Endpoint::Main))
            }
        };
        let endpoints: BTreeMap<_, _> = Kind::ALL.into_iter().filter_map(endpoint).collect();
        let outcome = endpoints.get(&kind).copied();
        *self.lock() = Some(Learned {
            at: Instant::now(),
            endpoints,
        });
        Ok(outcome)
    }

    /// Drops what was learned, after a write that failed: the next call asks again.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn learned(&self) -> Option<Learned> {
        let learned = self.lock().clone();
        learned.filter(|learned| learned.at.elapsed() < VALID_FOR)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Learned>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
