//! TLS of the data path over a stream of bytes in memory, for tests and the fuzzer.

use std::{fmt, sync::Arc};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

pub use crate::tls::Wire;
use crate::{Error, Trust, tls::TlsStream};

/// A client's settings, whose connections resume each other's sessions.
#[derive(Clone)]
pub struct TlsClient(Arc<ClientConfig>);

/// An established connection.
pub struct Tls<W>(TlsStream<W>);

impl TlsClient {
    /// A client as the data path has it; or, without `own_records`, one whose records rustls opens.
    pub fn new(trust: &Trust, own_records: bool) -> Result<Self, Error> {
        let config = if own_records {
            trust.data_config()
        } else {
            trust.client_config()
        };
        Ok(Self(Arc::new(config?)))
    }

    /// Makes the handshake.
    pub fn connect<W: Wire>(&self, wire: W, name: ServerName<'static>) -> Result<Tls<W>, Error> {
        TlsStream::connect(wire, Arc::clone(&self.0), name).map(Tls)
    }
}

impl<W: Wire> Tls<W> {
    /// Whether our own layer opens the records.
    pub fn has_own_records(&self) -> bool {
        self.0.has_own_records()
    }

    /// Reads at least one byte, or 0 after the peer's closing alert; at least `to_come` bytes are
    /// still to be sent.
    pub fn read(&mut self, out: &mut [u8], to_come: u64) -> Result<usize, Error> {
        self.0.read(out, to_come)
    }

    /// Replaces the key for sending after so many records, and not only when it is used up.
    pub fn replace_keys_after(&mut self, records: u64) {
        self.0.replace_keys_after(records);
    }

    /// Sends all of `data`.
    pub fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        self.0.write_all(data)
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for Tls<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}
