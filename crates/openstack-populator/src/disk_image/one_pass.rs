//! The disk of an image's file that comes once, from its first byte to its last: a store without ranges, a compressed file.
//!
//! ```text
//! the engine --bytes of the file--> OnePass --> Pipe ~~~thread~~~> Unwrap --> formats::Stream --> SinkWriter --> target
//!                                                                     +------------raw------------^
//! ```
//!
//! Nothing is kept beside the bounds of [`Stream`] and [`Unwrap`], 3 MiB on their way, and 1 MiB of holes that wait.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, BufReader, Cursor, Read},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use formats::{Format, Info, Limits, Run, Stream, Unwrap};
use net::Cancel;
use transfer::{ByteRange, Error, Kind, Sink, sink::SinkWriter};

use super::unusable;

/// Parts of the file, as the engine gives them (of 1 MiB at most), that wait to be unpacked.
const WAITING: usize = 2;
/// Bytes of a raw disk that are taken at a time.
const STEP: usize = 1 << 20;

/// What is known of the file, and who judges what is found in it before a byte is written.
pub trait Judge: Send + Sync {
    /// Bytes of the file.
    fn size(&self) -> u64;

    /// Whether it is a compressed file in any case.
    fn is_compressed(&self) -> bool;

    /// Whether the disk in it is raw.
    fn is_raw(&self) -> bool;

    /// Judges the first [`Format::HEAD`] bytes of the file in a compressed one, or all that there are.
    ///
    /// # Errors
    /// Why nothing may be written.
    fn head(&self, head: &[u8]) -> Result<(), Error>;

    /// Judges an image; the target holds `capacity` bytes.
    ///
    /// # Errors
    /// Why nothing may be written.
    fn image(&self, info: &Info, capacity: u64) -> Result<(), Error>;
}

/// A sink for the bytes of an image's file, in their order, which writes the disk in it to the target.
///
/// [`Sink::sync`] returns when the disk is whole and on the target. Where the disk is raw in a compressed file, its size is
/// known at its end only: a target that is too small is noticed when it is full.
pub struct OnePass {
    work: Arc<Work>,
    under_way: Mutex<Option<UnderWay>>,
}

/// What the threads need, one after the other.
struct Work {
    target: Arc<Box<dyn Sink>>,
    detect_zeroes: bool,
    judge: Box<dyn Judge>,
    cancel: Cancel,
    /// What the last thread has ended with is the image's fault.
    is_at_fault: Arc<AtomicBool>,
}

/// What ends a thread before the end of the file.
struct Stop {
    cancel: Cancel,
    is_over: Arc<AtomicBool>,
}

impl Stop {
    fn check(&self) -> Result<(), Error> {
        if self.cancel.is_cancelled() || self.is_over.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Cancelled, "cancelled"));
        }
        Ok(())
    }
}

/// Reads until it is stopped: a small file may unpack to any size.
struct Stoppable<'a, R>(R, &'a Stop);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1.check().map_err(io::Error::other)?;
        self.0.read(buf)
    }
}

/// A pass over the file.
struct UnderWay {
    sender: SyncSender<Part>,
    thread: JoinHandle<Result<(), Error>>,
    /// What was sent is not wanted any more.
    is_over: Arc<AtomicBool>,
    /// Offset in the file of the next byte.
    next: u64,
}

enum Part {
    Bytes(Vec<u8>),
    End,
}

impl OnePass {
    /// A sink before `target`. `is_at_fault` says afterwards whether an error is one of the image, and not of what it was
    /// read from.
    #[must_use]
    pub fn new(
        target: Arc<Box<dyn Sink>>,
        detect_zeroes: bool,
        judge: Box<dyn Judge>,
        cancel: Cancel,
        is_at_fault: Arc<AtomicBool>,
    ) -> Self {
        let work = Work {
            target,
            detect_zeroes,
            judge,
            cancel,
            is_at_fault,
        };
        Self {
            work: Arc::new(work),
            under_way: Mutex::new(None),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Error> {
        let mut guard = self.under_way();
        let Some(pass) = guard.as_mut() else {
            return Err(internal("bytes come before the pass has begun"));
        };
        if offset != pass.next {
            let text = format!("byte {offset} comes where {} is next", pass.next);
            return Err(internal(text));
        }
        pass.next += bytes.len() as u64;
        if pass.sender.send(Part::Bytes(bytes)).is_ok() {
            return Ok(());
        }
        // The thread has ended before the file, so that it has an error.
        let ended = guard.take().map(UnderWay::end);
        Err(ended
            .and_then(Result::err)
            .unwrap_or_else(|| internal("the pass ended before the file")))
    }
}

impl UnderWay {
    /// Ends the thread, whatever it is doing, and waits for it.
    fn give_up(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.end();
    }

    /// Waits for the thread, which nothing is sent to any more.
    fn end(self) -> Result<(), Error> {
        drop(self.sender);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(internal("the thread that unpacks has panicked")))
    }
}

impl Sink for OnePass {
    /// That of the file is not that of the disk.
    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn prepare(&self, _size: u64) -> Result<(), Error> {
        let mut under_way = self.under_way();
        if let Some(earlier) = under_way.take() {
            // The attempt is over, and so is its error.
            earlier.give_up();
        }
        let (sender, receiver) = sync_channel(WAITING);
        let (work, is_over) = (Arc::clone(&self.work), Arc::new(AtomicBool::new(false)));
        let stop = Stop {
            cancel: self.work.cancel.clone(),
            is_over: Arc::clone(&is_over),
        };
        let thread = thread::Builder::new()
            .name("unpack".into())
            .spawn(move || {
                let result = work.run(Pipe::new(receiver), &stop);
                let is_own = matches!(&result, Err(error) if error.kind() == Kind::Unusable);
                work.is_at_fault.store(is_own, Ordering::Relaxed);
                result
            })
            .map_err(|error| Error::with_source(Kind::Internal, "cannot start a thread", error))?;
        *under_way = Some(UnderWay {
            sender,
            thread,
            is_over,
            next: 0,
        });
        Ok(())
    }

    fn resize(&self, _size: u64) -> Result<(), Error> {
        Ok(())
    }

    fn is_blank(&self) -> bool {
        false
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Error> {
        self.send(offset, buf.to_vec())
    }

    fn zero(&self, range: ByteRange) -> Result<(), Error> {
        let mut at = range.start();
        while at < range.end() {
            let length = (range.end() - at).min(STEP as u64);
            self.send(at, vec![0; usize::try_from(length).unwrap_or(STEP)])?;
            at += length;
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        if let Some(pass) = self.under_way().take() {
            // Refused when the thread has ended: its error says why.
            let _ = pass.sender.send(Part::End);
            pass.end()?;
        }
        self.work.target.sync()
    }

    fn close(self: Box<Self>) -> Result<(), Error> {
        self.sync()
    }
}

impl Drop for OnePass {
    fn drop(&mut self) {
        if let Some(pass) = self.under_way().take() {
            pass.give_up();
        }
    }
}

impl fmt::Debug for OnePass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnePass")
            .field("target", &self.work.target)
            .finish_non_exhaustive()
    }
}

impl Work {
    /// Writes the disk that the file holds.
    fn run(&self, mut file: Pipe, stop: &Stop) -> Result<(), Error> {
        let head = head_of(&mut file)?;
        let wrapper = Format::of(&head).filter(|format| format.is_wrapper());
        let size = self.judge.size();
        let file_again = Cursor::new(&head).chain(&mut file);
        match wrapper {
            Some(format) => {
                tracing::info!(%format, "the image is unpacked while it is downloaded");
                let unwrap = Unwrap::new(file_again, format, Limits::output(u64::MAX));
                let unwrap = Stoppable(unwrap.map_err(explain)?, stop);
                let mut unwrap = BufReader::with_capacity(STEP, unwrap);
                let inner = head_of(&mut unwrap)?;
                self.judge.head(&inner)?;
                let mut unpacked = Cursor::new(&inner).chain(unwrap);
                if self.judge.is_raw() {
                    self.raw(&mut unpacked, stop)?;
                } else {
                    self.image(&inner, unpacked, None, stop)?;
                }
            }
            None if self.judge.is_compressed() => {
                return Err(not_compressed());
            }
            None => {
                let file = Stoppable(file_again, stop);
                self.image(&head, file, Some(size), stop)?;
            }
        }
        // To the end: the engine has more, and the last bytes count too where nothing else says what the file is.
        io::copy(&mut file, &mut io::sink()).map_err(|error| explain_io(&error))?;
        if wrapper.is_some() && !self.judge.is_compressed() {
            let ends = [head, file.tail].concat();
            Format::detect(&mut &ends[..]).map_err(unusable)?;
        }
        Ok(())
    }

    /// Writes the disk of an image that begins with `head`.
    fn image(
        &self,
        head: &[u8],
        file: impl Read,
        size: Option<u64>,
        stop: &Stop,
    ) -> Result<(), Error> {
        let format = Format::of(head).ok_or_else(|| {
            Error::new(
                Kind::Unusable,
                "the beginning of the image is that of no format that is known; a fixed vhd shows at its end only, and needs \
                 a folder that it can be downloaded into (--scratch-dir). Or upload the image again with the right \
                 disk_format, or write its bytes as they are with --verbatim",
            )
        })?;
        let mut stream = Stream::open(file, format, size).map_err(explain)?;
        let target = self.target.as_ref().as_ref();
        let disk = stream.info().virtual_size;
        if disk == 0 {
            let text = "the image holds no data: its disk has 0 bytes";
            return Err(Error::new(Kind::Unusable, text));
        }
        self.judge.image(stream.info(), target.capacity())?;
        stop.check()?;
        target.prepare(disk)?;
        let mut writer = SinkWriter::new(target, self.detect_zeroes);
        // They wait, so that the server does not wait for them: what is not read for long is closed.
        let mut holes = Holes::default();
        while let Some(run) = stream.next_run().map_err(explain)? {
            stop.check()?;
            match run {
                Run::Hole(range) => holes.add(range, &mut writer)?,
                Run::Data { offset, bytes } => {
                    writer.data(offset, bytes)?;
                    holes.zero_some(&mut writer)?;
                }
            }
        }
        writer.flush()?;
        while !holes.0.is_empty() {
            stop.check()?;
            holes.zero_some(&mut writer)?;
        }
        tracing::info!(disk_bytes = disk, "the disk in the image is written");
        Ok(())
    }

    /// Writes a disk that is all of what comes.
    fn raw(&self, disk: &mut impl Read, stop: &Stop) -> Result<(), Error> {
        let target = self.target.as_ref().as_ref();
        let capacity = target.capacity();
        let mut writer = SinkWriter::new(target, self.detect_zeroes);
        let (mut buffer, mut size) = (Vec::with_capacity(STEP), 0);
        loop {
            stop.check()?;
            buffer.clear();
            let read = disk.by_ref().take(STEP as u64).read_to_end(&mut buffer);
            read.map_err(|error| explain_io(&error))?;
            if buffer.is_empty() {
                break;
            }
            let end = size + buffer.len() as u64;
            if end > capacity {
                return Err(Error::new(
                    Kind::TargetTooSmall,
                    format!(
                        "the compressed image unpacks to more than the {capacity} bytes that the target holds; request a \
                         larger claim, or give a larger target"
                    ),
                ));
            }
            if size == 0 {
                target.prepare(end)?;
            }
            target.resize(end)?;
            writer.data(size, &buffer)?;
            size = end;
        }
        if size == 0 {
            return Err(Error::new(
                Kind::Unusable,
                "the compressed image holds no data",
            ));
        }
        writer.flush()?;
        tracing::info!(disk_bytes = size, "the image is unpacked");
        Ok(())
    }
}

/// Ranges of the disk that are to be zero, and are not yet.
#[derive(Default)]
struct Holes(VecDeque<Range<u64>>);

impl Holes {
    /// Ranges that wait, at most.
    const MOST: usize = 1 << 16;
    /// Bytes that are zeroed at a time: a stop waits for it.
    const STEP: u64 = 64 << 20;

    fn add(&mut self, range: Range<u64>, writer: &mut SinkWriter<'_>) -> Result<(), Error> {
        match self.0.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push_back(range),
        }
        if self.0.len() > Self::MOST {
            self.zero_some(writer)?;
        }
        Ok(())
    }

    /// Zeroes a step.
    fn zero_some(&mut self, writer: &mut SinkWriter<'_>) -> Result<(), Error> {
        let Some(first) = self.0.front_mut() else {
            return Ok(());
        };
        let now = first.start..first.end.min(first.start.saturating_add(Self::STEP));
        first.start = now.end;
        if first.is_empty() {
            self.0.pop_front();
        }
        writer.zero(ByteRange::new(now.start, now.end))
    }
}

/// The error for a file whose record says that it is compressed, and whose content is not.
pub(crate) fn not_compressed() -> Error {
    Error::new(
        Kind::Unusable,
        "the image's container_format is compressed, and its content is none of gzip, xz, zstd and bzip2; upload \
         it again with the right one, or write its bytes as they are with --verbatim",
    )
}

/// The first [`Format::HEAD`] bytes, or all that there are.
fn head_of(file: &mut impl Read) -> Result<Vec<u8>, Error> {
    let mut head = Vec::with_capacity(Format::HEAD);
    let read = file.take(Format::HEAD as u64).read_to_end(&mut head);
    read.map_err(|error| explain_io(&error))?;
    Ok(head)
}

/// The file as the thread reads it.
struct Pipe {
    receiver: Receiver<Part>,
    part: Vec<u8>,
    taken: usize,
    /// The last bytes of the file so far, as many as show a fixed vhd.
    tail: Vec<u8>,
    has_ended: bool,
}

impl Pipe {
    const TAIL: usize = 512;

    const fn new(receiver: Receiver<Part>) -> Self {
        Self {
            receiver,
            part: Vec::new(),
            taken: 0,
            tail: Vec::new(),
            has_ended: false,
        }
    }

    fn take(&mut self, part: Vec<u8>) {
        let new = part.len().min(Self::TAIL);
        let old = self.tail.len().saturating_sub(Self::TAIL - new);
        self.tail.drain(..old);
        self.tail.extend(part.iter().skip(part.len() - new));
        (self.part, self.taken) = (part, 0);
    }
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.part.len() && !self.has_ended {
            match self.receiver.recv() {
                Ok(Part::Bytes(part)) => self.take(part),
                Ok(Part::End) => self.has_ended = true,
                // The engine starts over, or has given up: what it says counts.
                Err(_) => return Err(io::Error::other(Error::new(Kind::Cancelled, "given up"))),
            }
        }
        let left = self.part.get(self.taken..).unwrap_or_default();
        let count = left.len().min(buf.len());
        if let (Some(left), Some(buf)) = (left.get(..count), buf.get_mut(..count)) {
            buf.copy_from_slice(left);
        }
        self.taken += count;
        Ok(count)
    }
}

/// An image's fault; or the error of what it was read from.
fn explain(error: formats::Error) -> Error {
    if error.kind() == formats::Kind::Order {
        return unusable(format!(
            "in one pass, which the store or the compression asks for: {error}; give a folder that it can be downloaded \
             into (--scratch-dir), or write its bytes as they are with --verbatim"
        ));
    }
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref());
    match cause {
        Some(io) if error.kind() == formats::Kind::Read => {
            inner(io).unwrap_or_else(|| unusable(error))
        }
        _ => unusable(error),
    }
}

fn explain_io(error: &io::Error) -> Error {
    inner(error).unwrap_or_else(|| {
        Error::new(
            Kind::Unusable,
            format!("the image cannot be unpacked: {error}"),
        )
    })
}

/// Our own error in one of input.
fn inner(error: &io::Error) -> Option<Error> {
    let own = error.get_ref()?.downcast_ref::<Error>()?;
    Some(Error::new(own.kind(), own.to_string()))
}

fn internal(text: impl Into<String>) -> Error {
    Error::new(Kind::Internal, text.into())
}
