//! Whom a run may connect to: the server that the user named, and what that server leads to.
//!
//! A server leads elsewhere by a redirect, by its catalog or by the URL of a ticket. Whoever may name the
//! server so chooses what the mover fetches from its place in the network, and gets the answer as a disk.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use url::{Host, Url};

use crate::{Error, Kind, origin::Origin};

/// What is allowed beyond the rules of [`Egress`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// An https server may lead to http.
    pub plain_http: bool,
    /// A server may lead to addresses of this machine, of its link, and of services that clouds keep there.
    pub local_targets: bool,
}

/// The rules for connections. Cheap to clone; clones share what they learn.
///
/// * No URL has user information.
/// * A server that the user named by https leads to https alone.
/// * No server leads to an address that means another machine to everyone: loopback, link-local,
///   unspecified, multicast, or a metadata service of a cloud. The server that the user named may itself
///   have such an address, and then lead to others of the same kind. What counts are the addresses that are
///   connected to, as they were resolved, and not a second resolution. Behind a proxy, which resolves for
///   itself, only addresses that are written out are known.
#[derive(Clone)]
pub struct Egress(Arc<Rules>);

struct Rules {
    /// The server that the user named; `None` where nothing is ruled out.
    source: Option<Origin>,
    allow: Allow,
    /// What the source's addresses have been so far, all of them; `None` before the first.
    home: Mutex<Option<Place>>,
    has_warned: AtomicBool,
}

impl Egress {
    /// The rules for a run whose user named `source`. Gives a warning where that is plain http.
    ///
    /// # Errors
    /// [`Kind::Settings`] when it is no http URL, or has user information.
    pub fn from_source(source: &Url, allow: Allow) -> Result<Self, Error> {
        refuse_user_information(source)
            .map_err(|error| Error::new(Kind::Settings, error.to_string()))?;
        let origin = Origin::of(source)?;
        let rules = Self::new(Some(origin.clone()), allow);
        if !origin.is_https() {
            rules.warn_of_plain_http(&origin);
        }
        Ok(rules)
    }

    /// Every address, by https and http.
    #[must_use]
    pub fn anywhere() -> Self {
        Self::new(None, Allow::default())
    }

    fn new(source: Option<Origin>, allow: Allow) -> Self {
        Self(Arc::new(Rules {
            source,
            allow,
            home: Mutex::new(None),
            has_warned: AtomicBool::new(false),
        }))
    }

    /// Whether a redirect may leave https.
    pub(crate) fn may_leave_https(&self) -> bool {
        self.0.allow.plain_http
    }

    /// Whether a request may be made to `url`, as far as the URL itself says; `is_proxied` if a proxy
    /// resolves its host.
    ///
    /// # Errors
    /// [`Kind::Redirect`] where a server led to what is ruled out.
    pub(crate) fn check(&self, url: &Url, is_proxied: bool) -> Result<(), Error> {
        refuse_user_information(url)?;
        let origin = Origin::of(url)?;
        let Some(source) = &self.0.source else {
            return Ok(());
        };
        if source.is_https() && !origin.is_https() {
            if !self.0.allow.plain_http {
                return Err(refused(format!(
                    "{source}: it leads to {origin}, which is plain http: everything could be read and \
                     changed on the way; have the server state an https URL, or allow it by \
                     --allow-plain-http"
                )));
            }
            self.warn_of_plain_http(&origin);
        }
        let address = match origin.host() {
            Host::Ipv4(address) => IpAddr::V4(*address),
            Host::Ipv6(address) => IpAddr::V6(*address),
            // The one name whose address is known (RFC 6761, 6.3).
            Host::Domain(name) if is_proxied && is_localhost(name) => Ipv4Addr::LOCALHOST.into(),
            // The source's address is the proxy's secret.
            Host::Domain(_) if is_proxied && origin.host() == source.host() => {
                *lock(&self.0.home) = Some(Place::Ordinary);
                return Ok(());
            }
            Host::Domain(_) => return Ok(()),
        };
        self.admit(origin.host(), vec![(address, origin.port()).into()])
            .map(drop)
    }

    /// Those of a host's addresses that may be connected to.
    ///
    /// # Errors
    /// [`Kind::Redirect`] when it has addresses, and none may.
    pub(crate) fn admit(
        &self,
        host: &Host<String>,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Error> {
        let Some(source) = &self.0.source else {
            return Ok(addresses);
        };
        let Some(first) = addresses.first().map(SocketAddr::ip) else {
            return Ok(addresses);
        };
        if self.0.allow.local_targets {
            return Ok(addresses);
        }
        let place = |address: &SocketAddr| Place::of(address.ip());
        let home = {
            let mut home = lock(&self.0.home);
            if source.host() == host {
                let now = if addresses.iter().any(|one| place(one) == Place::Ordinary) {
                    Place::Ordinary
                } else {
                    Place::of(first)
                };
                // A name that changes between kinds of addresses opens none of the special ones.
                let kept = home.is_none_or(|before| before == now);
                *home = Some(if kept { now } else { Place::Ordinary });
            }
            home.unwrap_or(Place::Ordinary)
        };
        addresses.retain(|one| [Place::Ordinary, home].contains(&place(one)));
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let what = Place::of(first);
        Err(refused(format!(
            "{host}: {source} leads to {first}, {what}, which is not followed; have the server state an \
             address in its network, or allow it by --allow-local-targets"
        )))
    }

    fn warn_of_plain_http(&self, origin: &Origin) {
        if !self.0.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{origin} is plain http: credentials and data can be read and changed on the way; use https"
            );
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("source", &self.0.source.as_ref().map(Origin::to_string))
            .field("allow", &self.0.allow)
            .finish_non_exhaustive()
    }
}

/// Kinds of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of one machine, wherever it is asked for.
    Ordinary,
    Loopback,
    LinkLocal,
    Metadata,
    Unspecified,
    Multicast,
}

impl Place {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        /// Alibaba Cloud's metadata, and Azure's host agent ("`WireServer`").
        const METADATA: [Ipv4Addr; 2] = [
            Ipv4Addr::new(100, 100, 100, 200),
            Ipv4Addr::new(168, 63, 129, 16),
        ];
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_link_local() {
            Self::LinkLocal
        } else if address.octets()[0] == 0 {
            Self::Unspecified
        } else if address.is_multicast() || address.is_broadcast() {
            Self::Multicast
        } else if METADATA.contains(&address) {
            Self::Metadata
        } else {
            Self::Ordinary
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        /// The metadata of AWS and of Google Cloud.
        const METADATA: [Ipv6Addr; 2] = [
            Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
            Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
        ];
        if address.is_loopback() {
            return Self::Loopback;
        }
        if address.is_unspecified() {
            return Self::Unspecified;
        }
        if let Some(inner) = embedded(address) {
            return Self::of_v4(inner);
        }
        if address.is_unicast_link_local() {
            Self::LinkLocal
        } else if address.is_multicast() {
            Self::Multicast
        } else if METADATA.contains(&address) {
            Self::Metadata
        } else {
            Self::Ordinary
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordinary => "an address of another machine",
            Self::Loopback => "an address of this machine",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "the address of a cloud's metadata",
            Self::Unspecified => "an address of no machine",
            Self::Multicast => "an address of many machines",
        })
    }
}

/// The IPv4 address in one of IPv6 that leads there: mapped and compatible ones (RFC 4291, 2.5.5), NAT64
/// (RFC 6052, 2.1), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |segments: [u16; 2]| {
        let bits = u32::from(segments[0]) << 16 | u32::from(segments[1]);
        Ipv4Addr::from_bits(bits)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, last @ ..] | [0x64, 0xff9b, 0, 0, 0, 0, last @ ..] => {
            Some(of(last))
        }
        [0x2002, high, low, ..] => Some(of([high, low])),
        _ => None,
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

/// What stands before the `@` of a URL would be sent as credentials, and shown by whoever prints it.
fn refuse_user_information(url: &Url) -> Result<(), Error> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(());
    }
    let origin = Origin::of(url)?;
    Err(refused(format!(
        "{origin}: its URL holds a user name or a password, which belong into the secret"
    )))
}

fn refused(text: String) -> Error {
    Error::new(Kind::Redirect, text).sent(false)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
