//! Whether the target's file system takes the disk's data, before anything is written.

use crate::{Error, Kind, Sink, Source};

/// Compares the data that a source is known to have with the room that a sink is known to have.
///
/// Where the source does not know its zeroes, its size is an upper limit only: with `detect_zeroes`
/// zero blocks take no room, and too little of it is a warning.
///
/// # Errors
/// [`Kind::TargetFull`] when the data does not fit.
pub fn check_room(source: &dyn Source, sink: &dyn Sink, detect_zeroes: bool) -> Result<(), Error> {
    let Some(room) = sink.room() else {
        return Ok(());
    };
    let (data, is_known) = match source.data_bytes() {
        Some(data) => (data, true),
        None => (source.size(), !detect_zeroes),
    };
    if data <= room {
        return Ok(());
    }
    if !is_known {
        tracing::warn!(
            room,
            size = data,
            "the target's file system has less room than the disk's size; the copy fails unless zero \
             blocks make up for it"
        );
        return Ok(());
    }
    Err(Error::new(
        Kind::TargetFull,
        format!(
            "the target's file system has room for {room} bytes, and the disk has {data} bytes of data; \
             nothing was written"
        ),
    ))
}
