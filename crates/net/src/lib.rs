//! Network access of the movers, from one set of [`Settings`]:
//!
//! * [`Rest`]: a small asynchronous client for the control calls (engine, Keystone, Glance metadata);
//! * [`Connection`]: a blocking HTTP/1.1 connection for the data path, which decrypts into the
//!   caller's buffer with one copy per byte.
//!
//! Both trust the same certificates, go through the same proxies, and follow the same rule for
//! redirects: credentials never travel to another origin.

mod clock;
mod connection;
mod error;
mod proxy;
mod rest;
mod settings;
mod tls;

pub use clock::{Cancel, Clock, SystemClock};
pub use connection::{Connection, Connector, ResponseHead};
pub use error::{Error, Kind};
pub use proxy::Proxies;
pub use rest::{Answer, Request, Rest, RetryPolicy};
pub use settings::{Settings, Timeouts};
pub use tls::Trust;
