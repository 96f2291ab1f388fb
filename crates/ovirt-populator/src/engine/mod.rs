//! The conversation with the oVirt engine: tokens, disks and image transfers, and nothing else of
//! its API.

mod address;
mod client;
mod error;
mod fault;
mod model;

use std::future::Future;

pub use address::Address;
pub use client::{Client, Credentials};
pub use error::{Error, Kind};
pub use model::{Disk, DiskId, DiskStatus, ImageTransfer, NewTransfer, Phase, TransferId};

/// What a session needs of an engine. Calls that change something are tried once: when to repeat
/// them is the session's decision.
pub trait Engine: Send + Sync {
    /// Looks a disk up.
    ///
    /// # Errors
    /// [`Kind::Missing`] when there is none.
    fn disk(&self, id: &DiskId) -> impl Future<Output = Result<Disk, Error>> + Send;

    /// Makes a transfer and thereby locks the disk; may take minutes.
    ///
    /// # Errors
    /// [`Kind::AnswerLost`] when a transfer may have been made that is not known here.
    fn create(
        &self,
        new: &NewTransfer,
    ) -> impl Future<Output = Result<ImageTransfer, Error>> + Send;

    /// Looks a transfer up; `None` once the engine has forgotten it. One try.
    fn transfer(
        &self,
        id: &TransferId,
    ) -> impl Future<Output = Result<Option<ImageTransfer>, Error>> + Send;

    /// All transfers that this user may see. One try.
    fn transfers(&self) -> impl Future<Output = Result<Vec<ImageTransfer>, Error>> + Send;

    /// Asks for a good end. One try; accepted, not finished, when it returns.
    fn finalize(&self, id: &TransferId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Asks for the other end. One try; accepted, not finished, when it returns.
    fn cancel(&self, id: &TransferId) -> impl Future<Output = Result<(), Error>> + Send;

    /// Gives the token back; tried once, for a few seconds.
    fn logout(&self) -> impl Future<Output = ()> + Send;
}
