//! Network access of the movers, from one set of [`Settings`]:
//!
//! * [`Rest`]: a small asynchronous client for the control calls (engine, Keystone, Glance
//!   metadata);
//! * [`Connection`]: a blocking HTTP/1.1 connection for the data path, which decrypts into the
//!   caller's buffer.
//!
//! Both trust the same certificates, go through the same proxies, follow the same rule for redirects
//! (credentials never travel to another origin), and keep to the same [`Egress`].

mod clock;
mod content_range;
mod egress;
mod error;
mod http1;
mod origin;
mod proxy;
mod quote;
mod redirect;
mod rest;
mod settings;
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;

pub use clock::{Cancel, Clock, SystemClock};
pub use content_range::ContentRange;
pub use egress::{Allow, Egress};
pub use error::{Error, FromNetwork, Kind, chain};
pub use http1::{Connection, Connector, ResponseHead};
pub use proxy::{Proxies, Proxy};
pub use quote::{printable, quoted};
pub use redirect::headers_for as redirected_headers;
pub use rest::{Answer, Repeat, Request, Rest, retry_after};
pub use settings::{LeastRate, Settings, Timeouts};
pub use tls::Trust;
