//! TCP: connecting, and a blocking socket that sees cancellation and stalls.

mod dial;
mod pace;
mod socket;
mod sockopt;

pub(crate) use dial::dial;
pub(crate) use socket::{Socket, low_water};
