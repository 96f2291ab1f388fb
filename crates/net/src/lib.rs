//! Network access of the movers, from one set of [`Settings`]:
//!
//! * [`Rest`]: a small asynchronous client for the control calls (engine, Keystone, Glance metadata);
//! * [`Connection`]: a blocking HTTP/1.1 connection for the data path, which decrypts into the
//!   caller's buffer with one copy per byte.
//!
//! Both trust the same certificates, go through the same proxies, and follow the same rule for
//! redirects: credentials never travel to another origin.

mod backoff;
mod body;
mod clock;
mod connection;
mod connector;
mod content_range;
mod dial;
mod error;
mod head;
mod origin;
mod proxy;
mod redirect;
mod rest;
mod retry;
mod settings;
mod socket;
mod sockopt;
mod tls;
mod tls_stream;
mod transport;
mod verify;

pub use backoff::Backoff;
pub use clock::{Cancel, Clock, SystemClock};
pub use connection::{Connection, ResponseHead};
pub use connector::Connector;
pub use content_range::ContentRange;
pub use error::{Error, Kind, chain};
pub use proxy::{Proxies, Proxy};
pub use redirect::{headers_for as redirected_headers, target as redirect_target};
pub use rest::{Answer, Request, Rest};
pub use retry::{Repeat, retry_after};
pub use settings::{Settings, Timeouts};
pub use tls::Trust;
