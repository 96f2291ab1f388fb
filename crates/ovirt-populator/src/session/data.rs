//! The data path, as the session sees it.

use std::{
    future::Future,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use mover::{Context, Target};
use net::Cancel;
use transfer::{
    Access, Algorithm, ByteRange, Error, Extent, Kind, Reader, Report, Source, Verification,
    source::{ImageioSource, Ticket},
};

/// Reads a ticket's data into the target.
pub trait DataPath: Send + Sync {
    /// A disk that can be read.
    type Source: Send;

    /// Connects to a daemon and learns what it can do and where the zeroes are. Ends soon after the
    /// run is asked to stop.
    fn open(
        &self,
        ticket: Ticket,
        size: u64,
    ) -> impl Future<Output = Result<Self::Source, Error>> + Send;

    /// Copies everything. Fails with [`Kind::Lost`] soon after `lost` was set, and ends soon after
    /// the run is asked to stop. No connection is left open when it returns.
    fn copy(
        &self,
        source: Self::Source,
        lost: TransferLost,
    ) -> impl Future<Output = Result<Report, Error>> + Send;

    /// Bytes received so far, over all copies.
    fn received(&self) -> u64;
}

/// Set once the engine reports that the transfer is lost, for a reader whose host is silent.
#[derive(Debug, Clone, Default)]
pub struct TransferLost(Arc<OnceLock<String>>);

impl TransferLost {
    /// Marks the transfer as lost, with the reason. Only the first call counts.
    pub fn set(&self, why: String) {
        // An earlier reason is as good as this one.
        let _ = self.0.set(why);
    }

    /// # Errors
    /// [`Kind::Lost`] once it was set.
    pub fn check(&self) -> Result<(), Error> {
        match self.0.get() {
            Some(why) => Err(Error::new(Kind::Lost, why.clone())),
            None => Ok(()),
        }
    }
}

/// The data path of the product: imageio to the mover's target.
#[derive(Debug)]
pub struct Imageio<'a> {
    /// Settings and controls of the run.
    pub context: &'a Context,
    /// Makes the connections for data.
    pub connector: net::Connector,
    /// What to compare with the daemon's checksum.
    pub verification: Verification,
    /// What is written; `None` when nothing is to be copied.
    pub target: Option<&'a Target>,
}

impl DataPath for Imageio<'_> {
    type Source = ImageioSource;

    async fn open(&self, ticket: Ticket, size: u64) -> Result<ImageioSource, Error> {
        let connector = self.connector.clone();
        let options = self.context.options(Verification::None);
        let open = move || {
            let (connections, keep_alive) = (options.connections, options.keep_alive);
            ImageioSource::open(connector, ticket, size, connections, keep_alive)
        };
        self.context
            .blocking(open)
            .await
            .map_err(|failure| Error::new(Kind::Internal, failure.message()))?
    }

    async fn copy(&self, source: ImageioSource, lost: TransferLost) -> Result<Report, Error> {
        let Some(target) = self.target else {
            return Err(Error::new(Kind::Internal, "there is no target to copy to"));
        };
        let guarded = Arc::new(Guarded {
            inner: source,
            lost,
        });
        self.context
            .copy(guarded, self.verification.clone(), target)
            .await
    }

    fn received(&self) -> u64 {
        self.context.progress.snapshot().received
    }
}

/// A source that fails for good once its transfer is lost. The copy engine asks for a new reader
/// after every fault, and gets the error there.
#[derive(Debug)]
struct Guarded<S> {
    inner: S,
    lost: TransferLost,
}

impl<S: Source> Source for Guarded<S> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn access(&self) -> Access {
        self.inner.access()
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        self.lost.check()?;
        self.inner.extents(range)
    }

    fn data_bytes(&self) -> Option<u64> {
        self.inner.data_bytes()
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        self.lost.check()?;
        self.inner.reader(cancel)
    }

    fn keep_alive(&self, cancel: &Cancel) -> Result<(), Error> {
        self.inner.keep_alive(cancel)
    }

    fn checksum(&self, algorithm: Algorithm, cancel: &Cancel) -> Result<String, Error> {
        self.lost.check()?;
        self.inner.checksum(algorithm, cancel)
    }

    fn readers_beside_checksum(&self) -> Option<NonZeroUsize> {
        self.inner.readers_beside_checksum()
    }

    fn checksum_beside(
        &self,
        algorithm: Algorithm,
        copied: &Cancel,
        cancel: &Cancel,
    ) -> Result<String, Error> {
        self.lost.check()?;
        self.inner.checksum_beside(algorithm, copied, cancel)
    }
}
