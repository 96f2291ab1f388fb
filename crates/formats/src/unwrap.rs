//! Decodes a file that was compressed as a whole, as a stream.

use std::{
    fmt,
    io::{self, BufReader, Chain, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;

use crate::{Error, Format, Kind, bytes::Fields};

/// Bytes that are asked of the compressed file at a time.
const BUFFER: usize = 64 << 10;
/// Bytes of a Zstandard frame that name its window: signature, descriptor, window, dictionary, size.
const ZSTD_HEAD: u64 = 18;
/// Smallest and largest window of Zstandard, as powers of two.
const ZSTD_WINDOWS: std::ops::RangeInclusive<u32> = 10..=31;

/// What a decoder may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for the window or dictionary that the compressed file asks for.
    pub memory: u64,
    /// Bytes that may come out. One byte more is an error: a small file may unpack to any size.
    pub output: u64,
}

impl Limits {
    /// Memory for what `xz -9` (65 MiB) and `zstd --long` (128 MiB) ask for, and this much output.
    #[must_use]
    pub const fn output(output: u64) -> Self {
        Self {
            memory: 129 << 20,
            output,
        }
    }
}

/// The decoded bytes of a gzip, xz, zstd or bzip2 file, all members of it one after the other.
///
/// Reading is streaming: memory is that of the format (gzip 32 KiB, bzip2 4 MiB, xz and zstd what the file asks for, up
/// to the limit) and a buffer of 64 KiB. Checksums of the file are compared where it has them, at the end of what they
/// are of: nothing is proven before the end. The error of a read is an [`io::Error`] with an [`Error`] inside, except
/// those of the compressed file's own reader, which come through as they are. After an error the next read fails too.
pub struct Unwrap<R: Read> {
    format: Format,
    decoder: Option<Decoder<R>>,
    /// Whether the last error is one of the reader of the compressed file.
    has_failed: Arc<AtomicBool>,
    limits: Limits,
    left: u64,
}

type Packed<R> = BufReader<Source<Chain<Cursor<Vec<u8>>, R>>>;

enum Decoder<R: Read> {
    Gzip(Box<MultiGzDecoder<Packed<R>>>),
    Xz(Box<XzReader<Packed<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Packed<R>>>),
    Bzip2(Box<MultiBzDecoder<Packed<R>>>),
}

impl<R: Read> Unwrap<R> {
    /// A decoder of `packed`, which is a file of `format` from its first byte on.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] for a format that is no compressed file, [`Kind::Limit`] for a zstd file whose window is
    /// larger than the memory, [`Kind::Read`] when its first bytes cannot be read.
    pub fn new(mut packed: R, format: Format, limits: Limits) -> Result<Self, Error> {
        let cannot = |error: io::Error| {
            let problem = "its first bytes cannot be read";
            Error::new(Kind::Read, format, "compressed file", "there", problem).because(error)
        };
        let mut head = Vec::new();
        let mut start = packed.by_ref().take(ZSTD_HEAD);
        start.read_to_end(&mut head).map_err(cannot)?;
        let window = zstd_window(format, &head);
        let has_failed = Arc::new(AtomicBool::new(false));
        let source = Source {
            inner: Cursor::new(head).chain(packed),
            has_failed: Arc::clone(&has_failed),
        };
        let packed = BufReader::with_capacity(BUFFER, source);
        let decoder = match format {
            Format::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(packed))),
            Format::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(packed))),
            Format::Xz => {
                let kib = u32::try_from(limits.memory >> 10).unwrap_or(u32::MAX);
                Decoder::Xz(Box::new(XzReader::new_mem_limit(packed, true, kib)))
            }
            Format::Zstd => {
                if window > limits.memory {
                    let value = format!("{window} bytes");
                    let problem = format!("{} bytes of memory are allowed", limits.memory);
                    return Err(Error::new(Kind::Limit, format, "window", value, problem));
                }
                Decoder::Zstd(Box::new(zstd(packed, limits.memory).map_err(cannot)?))
            }
            _ => {
                let problem = "it is no compressed file";
                return Err(Error::new(
                    Kind::Unsupported,
                    format,
                    "format",
                    format,
                    problem,
                ));
            }
        };
        Ok(Self {
            format,
            decoder: Some(decoder),
            has_failed,
            limits,
            left: limits.output,
        })
    }

    fn error(&self, error: io::Error) -> io::Error {
        if self.has_failed.load(Ordering::Relaxed) {
            return error;
        }
        let (kind, problem) = match error.kind() {
            io::ErrorKind::UnexpectedEof => (Kind::Truncated, "it ends in the middle"),
            io::ErrorKind::OutOfMemory => (Kind::Limit, "it asks for more memory than is allowed"),
            _ => (Kind::Corrupt, "it cannot be decoded"),
        };
        let done = self.limits.output.saturating_sub(self.left);
        let value = format!("unreadable after {done} decoded bytes ({error})");
        let error = Error::new(kind, self.format, "compressed file", value, problem).because(error);
        io::Error::other(error)
    }
}

impl<R: Read> Read for Unwrap<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(decoder) = &mut self.decoder else {
            return Err(io::Error::other("an earlier read failed"));
        };
        let result = match decoder {
            Decoder::Gzip(decoder) => decoder.read(buf),
            Decoder::Xz(decoder) => decoder.read(buf),
            Decoder::Zstd(decoder) => decoder.read(buf),
            Decoder::Bzip2(decoder) => decoder.read(buf),
        };
        let error = match result {
            Ok(count) => {
                if let Some(left) = self.left.checked_sub(count as u64) {
                    self.left = left;
                    return Ok(count);
                }
                let value = format!("more than {} bytes", self.limits.output);
                let problem = "it unpacks to more than is allowed";
                let field = "unpacked size";
                io::Error::other(Error::new(Kind::Limit, self.format, field, value, problem))
            }
            // What was interrupted is asked for again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => self.error(error),
        };
        self.decoder = None;
        Err(error)
    }
}

impl<R: Read> fmt::Debug for Unwrap<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwrap")
            .field("format", &self.format)
            .field("limits", &self.limits)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// The compressed file; remembers that it failed, since decoders hand its errors on like their own.
struct Source<R> {
    inner: R,
    has_failed: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buf);
        self.has_failed.store(result.is_err(), Ordering::Relaxed);
        result
    }
}

fn zstd<R: Read>(
    packed: Packed<R>,
    memory: u64,
) -> io::Result<zstd::stream::read::Decoder<'static, Packed<R>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)?;
    let log = memory.checked_ilog2().unwrap_or_default();
    decoder.window_log_max(log.clamp(*ZSTD_WINDOWS.start(), *ZSTD_WINDOWS.end()))?;
    Ok(decoder)
}

/// The window that the first frame asks for; 0 where it does not say. (RFC 8878, 3.1.1.1)
fn zstd_window(format: Format, head: &[u8]) -> u64 {
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let fields = Fields {
        format,
        name: "frame header",
        bytes: head,
    };
    let window = || -> Result<u64, Error> {
        let descriptor = fields.u8(4)?;
        if descriptor & SINGLE_SEGMENT == 0 {
            let window = fields.u8(5)?;
            let base = 1_u64 << (10 + (window >> 3));
            return Ok(base + base / 8 * u64::from(window & 7));
        }
        // The whole content is the window; its size stands behind the number of a dictionary.
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        Ok(match descriptor >> 6 {
            0 => u64::from(fields.u8(5 + dictionary)?),
            1 => u64::from(fields.le16(5 + dictionary)?),
            2 => u64::from(fields.le32(5 + dictionary)?),
            _ => fields.le64(5 + dictionary)?,
        })
    };
    match format {
        Format::Zstd => window().unwrap_or_default(),
        _ => 0,
    }
}
