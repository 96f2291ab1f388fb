//! Keystone v3: from the keys of a secret to a token, its catalog, and a new token in its place.
//!
//! Facts from the Identity API v3 reference
//! (<https://docs.openstack.org/api-ref/identity/v3/>) and from Keystone as it behaves.

mod catalog;
mod client;
mod credentials;
mod identity;
mod session;

pub use catalog::{Availability, Catalog, ManyRegions};
pub use client::{Keystone, Token};
pub use credentials::Credentials;
pub use identity::auth_url;
pub use session::Session;
