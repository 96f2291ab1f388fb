//! A compressed file, unpacked into another one.

use std::{
    io::{self, Read},
    sync::atomic::{AtomicU64, Ordering},
};

use formats::{Format, Unwrap};
use net::Cancel;
use transfer::{ByteRange, Error, Kind, Reader, Source, sink::ScratchFile};

/// Bytes that are decoded before they are written.
const STEP: usize = 1 << 20;
/// What a file of a raw disk may have besides it: the footer of a fixed vhd.
const FOOTER: u64 = 512;

/// How large an unpacked file may become. A small one may unpack to any size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many bytes, which the target holds: for a file that is the disk.
    Target(u64),
    /// So many bytes, which the folder has free, zeroes included: for any other file, and where only its file system
    /// sets the target a limit.
    Folder(u64),
}

/// Unpacks `packed`, a file of `format`, into the empty file `into`, which stays sparse; returns its size. The bytes
/// that were unpacked so far are stored in `count`. Ends soon after `cancel` is pulled. `judge` gets the first
/// [`Format::HEAD`] bytes that come out, or all that there are, before any is written.
///
/// # Errors
/// Those of `judge`; [`Kind::Unusable`] when it cannot be decoded, [`Kind::TargetTooSmall`] or
/// [`Kind::Configuration`] before it grows beyond the bound, [`Kind::Cancelled`], and those of both files.
pub fn unpack(
    packed: &dyn Source,
    format: Format,
    into: &ScratchFile,
    judge: impl Fn(&[u8]) -> Result<Bound, Error>,
    count: &AtomicU64,
    cancel: &Cancel,
) -> Result<u64, Error> {
    let whole = ByteRange::new(0, packed.size());
    let mut reader = packed.reader(cancel)?;
    reader.begin(whole)?;
    let packed = Packed {
        reader,
        left: whole.len(),
    };
    // The bound is held here, where it is known whose it is.
    let limits = formats::Limits::output(u64::MAX);
    let unwrap = Unwrap::new(packed, format, limits);
    check(cancel)?;
    let mut unwrap = unwrap.map_err(|error| explain(error.into()))?;
    let mut buffer = vec![0; STEP];
    let (mut size, mut bound) = (0, None);
    loop {
        check(cancel)?;
        let length = fill(&mut unwrap, &mut buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            into.finish(size)?;
            return Ok(size);
        }
        let bound = match bound {
            Some(bound) => bound,
            None => *bound.insert(judge(bytes.get(..Format::HEAD).unwrap_or(bytes))?),
        };
        let end = size + length as u64;
        if end > bound.most() {
            return Err(bound.exceeded(into));
        }
        into.write_sparse(bytes, size)?;
        size = end;
        count.store(size, Ordering::Relaxed);
    }
}

fn check(cancel: &Cancel) -> Result<(), Error> {
    if cancel.is_cancelled() {
        return Err(Error::new(Kind::Cancelled, "cancelled"));
    }
    Ok(())
}

impl Bound {
    const fn most(self) -> u64 {
        match self {
            Self::Target(most) => most.saturating_add(FOOTER),
            Self::Folder(most) => most,
        }
    }

    fn exceeded(self, into: &ScratchFile) -> Error {
        match self {
            Self::Target(most) => Error::new(
                Kind::TargetTooSmall,
                format!(
                    "the compressed image unpacks to more than the {most} bytes that the target holds"
                ),
            ),
            Self::Folder(most) => Error::new(
                Kind::Configuration,
                format!(
                    "the compressed image unpacks to more than the {most} bytes that the scratch folder {} has free, \
                     zeroes included; give one with more room, or unpack the image before it is uploaded",
                    into.folder().display()
                ),
            ),
        }
    }
}

/// The compressed file.
struct Packed<'a> {
    reader: Box<dyn Reader + 'a>,
    left: u64,
}

impl Read for Packed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buf.len().min(left);
        let part = buf.get_mut(..length).unwrap_or_default();
        if !part.is_empty() {
            let filled = self.reader.fill(part);
            filled.map_err(|(_, error)| io::Error::other(error))?;
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// Fills `buffer`, or as much of it as there is left.
fn fill(unwrap: &mut Unwrap<Packed<'_>>, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match unwrap.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(explain(error.into())),
        }
    }
    Ok(filled)
}

/// The error of the compressed file's reader as it is, that of the decoder in words.
fn explain(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    let error = match error.downcast::<io::Error>() {
        Ok(error) => match error.downcast::<Error>() {
            Ok(own) => return own,
            Err(error) => error.into(),
        },
        Err(error) => error,
    };
    Error::new(
        Kind::Unusable,
        format!("the image cannot be unpacked: {error}"),
    )
}
