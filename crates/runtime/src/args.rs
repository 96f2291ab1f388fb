//! Values of command lines that all binaries share.

use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing::Level;

/// Parser of `--log-level`: `error`, `warn`, `info`, `debug` or `trace`.
#[must_use]
pub fn log_level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
        .try_map(|name| name.parse::<Level>())
}

/// Parses an address to listen on: `ADDRESS:PORT`, `NAME:PORT`, or `:PORT` for all addresses.
///
/// A name, such as `localhost`, counts by its first IPv4 address, as in Go's `net.Listen`.
///
/// # Errors
/// A sentence that shows examples.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(all_addresses(port));
    }
    let mut all: Vec<SocketAddr> = text.to_socket_addrs().into_iter().flatten().collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.first().copied().ok_or_else(|| {
        format!("{text:?} is not ADDRESS:PORT or :PORT; write for example :8443, [::]:8443 or 127.0.0.1:8443")
    })
}

/// All addresses of the host, of both families, at this port.
#[must_use]
pub fn all_addresses(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}
