//! What our digest has to equal: a digest that was stated, or the source's own.
//!
//! A server reads the whole disk for its checksum. One that can do so while it serves readers is asked when
//! the pass begins ([`ask`]), so that both readings overlap; otherwise, and where that try gave nothing, it is asked
//! after the copy ([`expected`]).

use std::num::NonZeroUsize;

use net::Cancel;
use tracing::warn;

use super::shared::Shared;
use crate::{Digest, Error, Kind, RetryReason, Verification};

/// Tries of [`crate::Source::checksum`]: each may cost the server a reading of the whole disk.
pub(super) const TRIES: u32 = 3;

/// How many may read while the source is asked for its checksum; `None` where it is not asked, or not until
/// they have ended.
pub(super) fn readers(shared: &Shared<'_>) -> Option<NonZeroUsize> {
    match shared.options.verification {
        Verification::Asked(_) => shared.source.readers_beside_checksum(),
        Verification::None | Verification::Stated(_) => None,
    }
}

/// The source's checksum, asked for once, while the pass reads until `copied` is pulled. `None` where it has to be asked for again,
/// when readers do not need the server any more.
///
/// # Errors
/// Those after which asking again is of no use.
pub(super) fn ask(shared: &Shared<'_>, copied: &Cancel) -> Result<Option<Digest>, Error> {
    let Verification::Asked(algorithm) = shared.options.verification else {
        return Ok(None);
    };
    match shared
        .source
        .checksum_beside(algorithm, copied, &shared.stop)
    {
        Ok(hex) => Ok(Some(Digest { algorithm, hex })),
        // Whether the transfer is lost is for the readers to find.
        Err(error)
            if (error.kind().is_transient() || error.kind() == Kind::Lost)
                && !shared.stop.is_cancelled() =>
        {
            if let Some(reason) = RetryReason::of(error.kind()) {
                shared.controls.progress.retried(reason);
            }
            warn!(
                "the source gave no checksum while it was read, and is asked again after the copy: {}",
                error.chain()
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What our digest has to equal, when nothing is read any more: what [`ask`] gave, if anything. Otherwise the source is asked in
/// so many tries, right after the last byte was read, while the rest is hashed: a server that finds its client idle may
/// end the transfer by itself.
pub(super) fn expected(
    shared: &Shared<'_>,
    asked: Option<Digest>,
    tries: u32,
) -> Result<Option<Digest>, Error> {
    if asked.is_some() {
        return Ok(asked);
    }
    let algorithm = match &shared.options.verification {
        _ if shared.stop.is_cancelled() => return Ok(None),
        Verification::None => return Ok(None),
        Verification::Stated(digest) => return Ok(Some(digest.clone())),
        Verification::Asked(algorithm) => *algorithm,
    };
    let mut retries = shared.retry_budget(u64::MAX);
    for _ in 1..tries {
        retries.start();
        match shared.source.checksum(algorithm, &shared.stop) {
            Ok(hex) => return Ok(Some(Digest { algorithm, hex })),
            Err(error) => retries.back_off(error)?,
        }
    }
    let hex = shared
        .source
        .checksum(algorithm, &shared.stop)
        .map_err(|error| {
            if shared.stop.is_cancelled() || !error.kind().is_transient() {
                return error;
            }
            let text = format!("the source gave no checksum in {TRIES} tries");
            Error::with_source(Kind::Exhausted, text, error)
        })?;
    Ok(Some(Digest { algorithm, hex }))
}
