//! Images whose tables come before the data that they name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    io::Read,
    iter,
    ops::Range,
};

use super::{
    MOST_DATA, Run,
    window::{MOST, Window},
};
use crate::{
    Content, Decoder, Error, Extent, Format, Image, Info, Kind, ReadAt, ReadError, map::Walk,
};

/// Places that are known and were not reached yet: 64 bytes each in the map.
const MOST_PLACES: usize = 1 << 16;
/// Most bytes in front of the first data that are held: the tables, with their copies, of 512 GiB in a vmdk of QEMU, and
/// those of more in all other images.
const MOST_FRONT: u64 = 64 << 20;
/// Pieces of the disk that one walk describes, so that holes are given meanwhile.
const STEP: usize = 1 << 12;
/// Pieces of tables that are held, of at most 16 KiB: a table of tables is looked at again for each of its entries.
const KEPT: usize = 64;
/// Pieces of tables that one walk reads: what it begins with is held until the next one.
const MOST_READ: usize = KEPT / 2;

/// The state of a walk over the tables that goes on as they come.
pub(super) struct Tabled {
    image: Image,
    decoder: Decoder,
    cluster: Vec<u8>,
    front: Front,
    kept: Kept,
    /// Where the walk goes on, on the guest's disk.
    at: u64,
    /// Offset in the file of the table that it needs next.
    wanted: Option<u64>,
    holes: VecDeque<Range<u64>>,
    /// What was found and not reached, by its offset in the file.
    places: BTreeMap<u64, Place>,
    /// End of what the last place has for itself in the file.
    used: u64,
    /// Offset of the place that is being read, what it is, and how many of its bytes were given.
    current: Option<(u64, Extent, u64)>,
}

/// What lies somewhere in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    extent: Extent,
    /// Bytes of the file that belong to nothing else.
    own: u64,
}

impl Tabled {
    pub(super) fn open<R: Read>(window: &mut Window<R>, format: Format) -> Result<Self, Error> {
        let (front, mut kept) = (Front::default(), Kept::default());
        let mut missing = None;
        let opened = Image::open_as(
            &mut Tables::new(window, &front, &mut kept, &mut missing, usize::MAX),
            format,
        );
        let image = opened.map_err(|error| match missing.take() {
            Some(Missing::Failed(error)) => error,
            Some(Missing::Later(at) | Missing::Gone(at)) => {
                let problem = format!("it lies behind the first {MOST} bytes of the file");
                order(format, "header", at, problem)
            }
            Some(Missing::Enough) | None => error,
        })?;
        Ok(Self {
            decoder: Decoder::new(&image)?,
            image,
            cluster: Vec::new(),
            front,
            kept,
            at: 0,
            wanted: None,
            holes: VecDeque::new(),
            places: BTreeMap::new(),
            used: 0,
            current: None,
        })
    }

    pub(super) const fn info(&self) -> &Info {
        self.image.info()
    }

    /// The next run of a disk that is not complete.
    pub(super) fn next_run<'a, R: Read>(
        &'a mut self,
        window: &'a mut Window<R>,
    ) -> Result<Run<'a>, Error> {
        loop {
            if let Some(hole) = self.holes.pop_front() {
                return Ok(Run::Hole(hole));
            }
            if self.current.is_none() && self.may_walk() {
                self.walk(window)?;
                continue;
            }
            let Some((offset, extent, done)) = self.current.take() else {
                self.take_place(window)?;
                continue;
            };
            return match extent.content {
                Content::Compressed { length, .. } => {
                    self.unpack(window, offset, length, extent)?;
                    let length = usize::try_from(extent.len).unwrap_or(usize::MAX);
                    Ok(Run::Data {
                        offset: extent.start,
                        bytes: self.cluster.get(..length).unwrap_or(&self.cluster),
                    })
                }
                Content::Data { .. } | Content::Hole => {
                    let length = (extent.len - done).min(MOST_DATA);
                    let from = offset + done;
                    window.forget(from);
                    window.need("data", from + length)?;
                    if done + length < extent.len {
                        self.current = Some((offset, extent, done + length));
                    }
                    let count = usize::try_from(length).unwrap_or(usize::MAX);
                    Ok(Run::Data {
                        offset: extent.start + done,
                        bytes: window.from(from).get(..count).unwrap_or_default(),
                    })
                }
            };
        }
    }

    /// Whether there is more to find out, as far as the file has come.
    fn may_walk(&self) -> bool {
        let next = self.places.keys().next();
        let is_blocked = match (self.wanted, next) {
            (Some(wanted), Some(next)) => *next < wanted,
            _ => false,
        };
        self.at < self.info().virtual_size && !is_blocked && self.places.len() < MOST_PLACES
    }

    /// Takes the place that comes next in the file.
    fn take_place<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), Error> {
        let format = self.info().format;
        let Some((offset, place)) = self.places.pop_first() else {
            let problem = "the tables do not describe the disk from there";
            let field = "offset on the disk";
            return Err(Error::new(Kind::Corrupt, format, field, self.at, problem));
        };
        let field = || {
            format!(
                "offset of the data for byte {} of the disk",
                place.extent.start
            )
        };
        if offset < self.used {
            let problem = format!(
                "it overlaps what ends at {} of the file: two entries name the same bytes",
                self.used
            );
            return Err(Error::new(Kind::Corrupt, format, field(), offset, problem));
        }
        if offset < window.start() {
            let problem = format!(
                "the file had come to {} when that was found: a table comes after its data",
                window.start()
            );
            return Err(order(format, field(), offset, problem));
        }
        if !self.front.has_passed {
            self.front.hold(window, offset)?;
            self.front.has_passed = true;
        }
        self.used = offset.saturating_add(place.own);
        self.current = Some((offset, place.extent, 0));
        Ok(())
    }

    /// Follows the tables from `at` on, until one is needed that has not come, or enough is known.
    fn walk<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), Error> {
        let (format, all) = (self.info().format, self.at..self.info().virtual_size);
        if let Some(wanted) = self.wanted.take()
            && wanted > window.start()
        {
            // No place that is known lies before it.
            if !self.front.has_passed {
                self.front.hold(window, wanted)?;
            }
            window.skip_to(wanted)?;
        }
        let (mut found, mut failed, mut missing) = (Vec::new(), None, None);
        {
            let mut tables =
                Tables::new(window, &self.front, &mut self.kept, &mut missing, MOST_READ);
            let mut walk = Walk::new(self.image.map(), &mut tables, all.clone());
            while failed.is_none() && found.len() < STEP {
                match walk.next() {
                    Some(Ok(piece)) => found.push(piece),
                    Some(Err(error)) => failed = Some(error),
                    None => break,
                }
            }
            if failed.is_some() {
                // What was described before it is whole.
                found.extend(iter::from_fn(|| walk.described()));
            }
        }
        if found.is_empty() && matches!(missing, Some(Missing::Enough)) {
            let problem = "the tables do not describe the disk from there";
            let field = "offset on the disk";
            return Err(Error::new(Kind::Corrupt, format, field, self.at, problem));
        }
        for piece in found {
            let Some(extent) = piece.extent(&all) else {
                continue;
            };
            self.at = extent.start + extent.len;
            let Some((_, own)) = piece.place() else {
                self.holes.push_back(extent.start..self.at);
                continue;
            };
            let (Content::Data { offset } | Content::Compressed { offset, .. }) = extent.content
            else {
                continue;
            };
            if self.places.insert(offset, Place { extent, own }).is_some() {
                let field = format!("offset of the data for byte {} of the disk", extent.start);
                let problem = "two entries name the same bytes";
                return Err(Error::new(Kind::Corrupt, format, field, offset, problem));
            }
        }
        match (missing, failed) {
            (Some(Missing::Later(wanted)), _) => self.wanted = Some(wanted),
            (Some(Missing::Gone(offset)), _) => {
                let problem = "the file had come further when it was needed";
                return Err(order(format, "table", offset, problem));
            }
            (Some(Missing::Failed(error)), _) | (None, Some(error)) => return Err(error),
            (Some(Missing::Enough), _) | (None, None) => {}
        }
        Ok(())
    }

    /// Unpacks the compressed cluster at `offset` of the file.
    fn unpack<R: Read>(
        &mut self,
        window: &mut Window<R>,
        offset: u64,
        length: u64,
        extent: Extent,
    ) -> Result<(), Error> {
        window.forget(offset);
        // What is said is an upper bound, which the last one of a file need not have.
        window.fill_to(offset + length)?;
        let size = usize::try_from(self.info().cluster_size).unwrap_or(usize::MAX);
        self.cluster.resize(size, 0);
        let packed = window.from(offset);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let packed = packed.get(..length).unwrap_or(packed);
        self.decoder.decode(extent.start, packed, &mut self.cluster)
    }
}

/// Why a table cannot be read now.
enum Missing {
    /// It begins at this offset, further behind than is held.
    Later(u64),
    /// It began at this offset, and is held no more.
    Gone(u64),
    /// The walk has read enough, and the next one goes on.
    Enough,
    /// The file's own error.
    Failed(Error),
}

/// What lies in front of the first data: in most formats all tables, in the others those that name tables.
#[derive(Debug, Default)]
struct Front {
    /// Offset in the file.
    start: u64,
    bytes: Vec<u8>,
    has_passed: bool,
}

impl Front {
    /// Holds what the window has, and what follows it, up to `end`, which lies behind it or is where the first data is;
    /// as much of it as may be held.
    fn hold<R: Read>(&mut self, window: &mut Window<R>, end: u64) -> Result<(), Error> {
        if self.bytes.is_empty() {
            self.start = window.start();
        }
        let mut at = self.start + self.bytes.len() as u64;
        let end = end.min(self.start + MOST_FRONT);
        while window.start() <= at && at < end {
            let next = end.min(at + MOST_DATA);
            window.need("data", next)?;
            let count = usize::try_from(next - at).unwrap_or(usize::MAX);
            self.bytes.extend(window.from(at).iter().take(count));
            window.forget(next);
            at = next;
        }
        Ok(())
    }

    /// Fills `buf` if all of it lies here.
    fn copy(&self, offset: u64, buf: &mut [u8]) -> bool {
        let bytes = offset
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .and_then(|skip| self.bytes.get(skip..)?.get(..buf.len()));
        if let Some(bytes) = bytes {
            buf.copy_from_slice(bytes);
        }
        bytes.is_some()
    }
}

/// Parts of tables that were read last.
#[derive(Debug, Default)]
struct Kept(VecDeque<(u64, Vec<u8>)>);

impl Kept {
    /// Fills `buf` if it was read before from this offset.
    fn copy(&mut self, offset: u64, buf: &mut [u8]) -> bool {
        let is_it = |(start, bytes): &(u64, Vec<u8>)| *start == offset && bytes.len() == buf.len();
        let Some(part) = self
            .0
            .iter()
            .position(is_it)
            .and_then(|at| self.0.remove(at))
        else {
            return false;
        };
        buf.copy_from_slice(&part.1);
        self.0.push_back(part);
        true
    }

    fn keep(&mut self, offset: u64, bytes: &[u8]) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((offset, bytes.to_vec()));
    }
}

/// Tables out of what is held, and out of what follows it as far as all of that can be held.
struct Tables<'a, R> {
    window: &'a mut Window<R>,
    front: &'a Front,
    kept: &'a mut Kept,
    missing: &'a mut Option<Missing>,
    /// Pieces that may still be read.
    left: usize,
}

impl<'a, R: Read> Tables<'a, R> {
    const fn new(
        window: &'a mut Window<R>,
        front: &'a Front,
        kept: &'a mut Kept,
        missing: &'a mut Option<Missing>,
        left: usize,
    ) -> Self {
        Self {
            window,
            front,
            kept,
            missing,
            left,
        }
    }

    fn look(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Missing> {
        if self.kept.copy(offset, buf) {
            return Ok(());
        }
        if self.left == 0 {
            return Err(Missing::Enough);
        }
        if self.front.copy(offset, buf) {
            return Ok(());
        }
        let end = offset.saturating_add(buf.len() as u64);
        if offset < self.window.start() {
            return Err(Missing::Gone(offset));
        }
        // Where the size of the file is not known, a table may be said to lie behind its end.
        let is_behind = self.window.has_ended() && end > self.window.end();
        if end - self.window.start() > MOST && !is_behind {
            return Err(Missing::Later(offset));
        }
        if is_behind {
            let error = self.window.behind("table", end);
            return Err(Missing::Failed(error));
        }
        self.window.need("table", end).map_err(Missing::Failed)?;
        let bytes = self.window.from(offset);
        buf.copy_from_slice(bytes.get(..buf.len()).unwrap_or_default());
        self.kept.keep(offset, buf);
        self.left -= 1;
        Ok(())
    }
}

impl<R: Read> ReadAt for Tables<'_, R> {
    fn size(&self) -> u64 {
        self.window.size()
    }

    fn read_exact_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.look(offset, buf).map_err(|missing| {
            *self.missing = Some(missing);
            "not held".into()
        })
    }
}

fn order(
    format: Format,
    field: impl Into<Cow<'static, str>>,
    offset: u64,
    problem: impl Into<Cow<'static, str>>,
) -> Error {
    Error::new(Kind::Order, format, field, format!("at {offset}"), problem)
}
