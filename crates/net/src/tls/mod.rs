//! TLS: whom to trust, and a blocking stream.

mod stream;
mod trust;
mod verify;

pub(crate) use stream::TlsStream;
pub use trust::Trust;
pub(crate) use verify::{broken_tls, handshake_error};
