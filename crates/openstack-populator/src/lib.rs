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
//! Where the disk cannot be read out of ranges of the file, the file comes into a
//! [`ScratchFile`](transfer::sink::ScratchFile) first, if the user gives a folder for it.
//!
//! A volume or a snapshot of Cinder takes a way of its own to such an image, which is temporary: [`cinder`].
//!
//! Everything that decides (which request a secret makes, which endpoint fits, whether an image may
//! be copied, which hash it must have) is a function without I/O. [`run`] does the asking.

mod answer;
pub mod cinder;
mod cli;
mod cloud;
mod clouds;
pub mod disk_image;
pub mod glance;
mod image_policy;
mod job;
pub mod keystone;
mod path;
mod source;

pub use cli::Cli;
pub use clouds::secrets;
pub use image_policy::{Form, Policy};
pub use job::run;
pub use source::SourceArguments;
