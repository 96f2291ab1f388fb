//! Copies a disk from oVirt, through an ovirt-imageio daemon, into a block device or a file.
//!
//! ```text
//! main -> job -> session (acquire, open, copy, finish, abandon)
//!                   |                        |
//!                 engine (REST)      transfer (data path)
//! ```

mod cli;
mod config;
pub mod engine;
mod job;
pub mod session;

pub use cli::Cli;
pub use config::secrets;
pub use job::{SourceArguments, run};
