//! TLS: whom to trust, and a blocking stream.

mod authority;
mod bundle;
mod handshake;
mod record;
mod stream;
mod trust;
mod verify;
mod wire;
mod words;

pub(crate) use handshake::HandshakeTries;
pub(crate) use stream::TlsStream;
pub use trust::Trust;
#[cfg(feature = "testing")]
pub use wire::Wire;
pub(crate) use words::{broken_tls, handshake_error};
