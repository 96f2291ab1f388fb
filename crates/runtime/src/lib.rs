//! Process shell of the binaries: logging, endpoints for metrics and health, signals, termination file, TLS
//! provider, and what may leave the process as text. It knows nothing of what the process is for.
//!
//! `main` calls [`logging::init`] and [`crypto::install`] once; everything else is made and passed
//! on like any other value.

pub mod args;
pub mod crypto;
pub mod endpoint;
pub mod executor;
pub mod logging;
mod memory;
pub mod redact;
pub mod signals;
pub mod tasks;
pub mod termination;

pub use endpoint::{Endpoint, HealthEndpoint, Linger, Transport};
pub use memory::{page_size, protect as protect_memory};
pub use redact::Redactor;
pub use signals::{Signal, Signals};
pub use tasks::Tasks;
