//! Glance: the record of an image, whether its data can be copied, and what its hash must be.
//!
//! Facts from the Image API v2 reference (<https://docs.openstack.org/api-ref/image/v2/>) and from
//! Glance as it behaves.

mod client;
mod hash;
mod image;
mod mapping;

pub use client::{Glance, ImageId};
pub use hash::{Hash, stated_hash};
pub use image::Image;
