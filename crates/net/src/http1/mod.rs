//! HTTP/1.1 of the data path: blocking, over TCP or TLS. Bodies are received into the caller's buffer.

mod body;
mod connection;
mod connector;
mod head;
pub(crate) mod transport;

pub use connection::{Connection, ResponseHead};
pub use connector::Connector;
