//! Cinder: a volume or a snapshot becomes an image of Glance, which is copied and then removed.
//!
//! ```text
//! volume in use --> snapshot --> volume --> image --> (copied as every image is)
//!                   removed third  second    first
//! ```
//!
//! Nothing is kept between two runs: each looks up by name what carries its [`Mark`], takes over what
//! is usable and removes the rest.
//!
//! Facts from the Block Storage API v3 reference
//! (<https://docs.openstack.org/api-ref/block-storage/v3/>) and from Cinder as it behaves.

mod api;
mod client;
mod export;
mod mark;
mod model;
mod quota;
mod removal;
mod route;
mod store;
mod wait;

pub(crate) use api::Api;
pub use client::{Cinder, Microversion};
pub use export::Export;
pub use mark::{Mark, MarkId, Place, PlaceId};
pub use model::{Snapshot, StoredImage, Volume};
pub use removal::Rest;
pub use route::{Route, route_of_snapshot, route_of_volume};
