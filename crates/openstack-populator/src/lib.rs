//! Copies the data of a Glance image into a block device or a file.
//!
//! ```text
//! secret, clouds.yaml, OS_*
//!    |
//!    +-----> Credentials --POST--> Keystone --> token + catalog --> image endpoint
//!                                                                        |
//!              target <-- transfer::copy <-- HttpSource <-- file <-- image record
//!                                 ^             |  ^
//!                                 +--DiskImage--+  Session: a new token after 401
//!                              (an image that is not raw)
//! ```
//!
//! Everything that decides (which request a secret makes, which endpoint fits, whether an image may
//! be copied, which hash it must have) is a function without I/O. [`run`] does the asking.

mod answer;
mod cli;
mod clouds;
pub mod disk_image;
pub mod glance;
mod image_policy;
mod job;
pub mod keystone;
mod path;

pub use cli::Cli;
pub use clouds::secrets;
pub use image_policy::Policy;
pub use job::{SourceArguments, run};
