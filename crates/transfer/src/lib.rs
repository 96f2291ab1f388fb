//! The copy engine: moves the bytes of a [`Source`] into a [`Sink`], as fast as both allow, and
//! says "done" only when they are durable and proven.
//!
//! ```text
//! Source --extents--> planner --ranges--> workers --buffers--> Sink
//!                                            |
//!                                            +--in order--> digest thread
//! ```
//!
//! There is no Kubernetes, no command line and no global in here: settings, clock, randomness and
//! cancellation are passed in, and progress is read from [`Progress`].
//!
//! The feature `testing` adds doubles: a source and a sink in memory, with faults to inject.

mod digest;
mod engine;
mod error;
mod extent;
mod keep_alive;
mod progress;
mod rate;
mod retry;
mod room;
pub mod sink;
pub mod source;

pub use digest::{Algorithm, Digest};
pub use engine::{Controls, Options, Report, Verification, copy, first_range};
pub use error::{Error, Kind};
pub use extent::{ByteRange, Content, Extent, READ_ALONG};
pub use progress::{Phase, Progress, Retries, RetryReason, Snapshot};
pub use rate::Rate;
pub use retry::RetryPolicy;
pub use room::check_room;
pub use sink::Sink;
pub use source::{Access, Reader, Source};
