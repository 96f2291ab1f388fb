//! A disk behind an ovirt-imageio daemon.

use std::{fmt, io, num::NonZeroUsize, sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use net::{Cancel, Connector};
use serde::Deserialize;
use url::Url;

use super::{
    Access, Changes, NoAuthorization, Reader, Source,
    extent_map::ExtentMap,
    hold::hold,
    object::{Dialect, HttpObject, HttpSession},
    reader::{RangedReader, read_one_byte},
};
use crate::{Algorithm, ByteRange, Content, Error, Extent, Kind, keep_alive::KeepAlive};

/// The daemon walks the whole disk before the first byte of its answer; on huge fragmented disks
/// this takes minutes.
const EXTENTS_STALL: Duration = Duration::from_mins(10);
/// Bounds the answer, which is read as a stream: an extent of each block, and more bytes than one
/// takes.
const SMALLEST_EXTENT: u64 = 4096;
const LONGEST_EXTENT_JSON: u64 = 128;
/// Bounds the small answers.
const MAX_BODY: usize = 64 << 10;
/// Slowest reading of the disk by the daemon that its checksum is waited for, in bytes per second. The copy
/// reads the disk as well meanwhile, so this is half of what the host's storage has to give.
const SLOWEST_CHECKSUM: u64 = 16 << 20;
/// The block size that [`Algorithm::Blkhash`] stands for.
const CHECKSUM_BLOCK: u64 = 4 << 20;

/// The URL of an image ticket. The random id in its path is the only credential, so `Debug` and
/// `Display` show the origin alone.
#[derive(Clone)]
pub struct Ticket {
    url: Url,
    is_proxied: bool,
}

impl Ticket {
    /// A ticket from a `transfer_url`: of the daemon that reads the disk.
    #[must_use]
    pub const fn new(url: Url) -> Self {
        Self {
            url,
            is_proxied: false,
        }
    }

    /// A ticket from a `proxy_url`: of a daemon that asks the other for what it is asked for, piece by piece.
    #[must_use]
    pub const fn proxied(url: Url) -> Self {
        Self {
            url,
            is_proxied: true,
        }
    }

    /// The parts of it that are secret: its path below `/images`, and its query.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let path = self.url.path();
        let below = path.strip_prefix("/images").unwrap_or(path);
        [Some(below.trim_matches('/')), self.url.query()]
            .into_iter()
            .flatten()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.origin().ascii_serialization())
    }
}

/// A disk of oVirt, read with an image ticket.
#[derive(Debug)]
pub struct ImageioSource {
    object: HttpObject,
    size: u64,
    connections: NonZeroUsize,
    abilities: Abilities,
    is_proxied: bool,
    /// Interval of the signs of life.
    keep_alive: Duration,
    /// `None` where the daemon knows no extents.
    extents: Option<ExtentMap>,
}

impl ImageioSource {
    /// Asks the daemon what it can do (OPTIONS) and where the zeroes are (extents), on one connection
    /// that is closed before data is read. The daemon walks the whole disk for the extents, which may
    /// take longer than the ticket lives without a use, and is none: a sign of life every
    /// `keep_alive`, on another connection, keeps the ticket meanwhile.
    ///
    /// `size` is the disk's virtual size as the engine states it; extents that end before it are an
    /// error. `connections` is the user's limit; the daemon's `max_readers`, less one for the
    /// keep-alive, is the other: a connection too many gets no answer until another is closed.
    ///
    /// # Errors
    /// [`Kind::Lost`] when the ticket is refused. Nothing is repeated here.
    pub fn open(
        connector: Connector,
        ticket: Ticket,
        size: u64,
        connections: NonZeroUsize,
        keep_alive: Duration,
    ) -> Result<Self, Error> {
        let Ticket { url, is_proxied } = ticket;
        let (control, begun) = (connector.clone(), connector.clock().now());
        let object = HttpObject::new(
            connector,
            url,
            Dialect::Imageio,
            Arc::new(NoAuthorization),
            Changes::Refused,
        );
        let mut session = object.session();
        let abilities = Abilities::ask(&mut session)?;
        let extents = if abilities.has("extents") {
            let signs = KeepAlive {
                idle: keep_alive,
                clock: control.clock(),
                cancel: control.cancel(),
                last: &|| begun,
                sign: &|over| abilities.sign_of_life(object.session().with_cancel(over)),
            };
            let session = session.with_stall(EXTENTS_STALL);
            Some(signs.during(|| ask_extents(session, size))?)
        } else {
            None
        };
        let connections = connections.min(abilities.readers());
        tracing::debug!(
            origin = object.origin(),
            features = ?abilities.features,
            connections,
            extents = extents.as_ref().map(ExtentMap::len),
            "opened the image"
        );
        Ok(Self {
            object,
            size,
            connections,
            abilities,
            is_proxied,
            keep_alive,
            extents,
        })
    }

    /// The checksum, and the session that it came on.
    fn ask_checksum(
        &self,
        algorithm: Algorithm,
        cancel: &Cancel,
    ) -> Result<(String, HttpSession<'_>), Error> {
        if algorithm != Algorithm::Blkhash || !self.abilities.has("checksum") {
            return Err(Error::new(
                Kind::Unusable,
                format!("{} computes no {algorithm} checksum", self.object.origin()),
            ));
        }
        let stall = EXTENTS_STALL + Duration::from_secs(self.size / SLOWEST_CHECKSUM);
        let mut session = self.object.session().with_cancel(cancel).with_stall(stall);
        let query = format!("algorithm=blake2b&block_size={CHECKSUM_BLOCK}");
        let url = self.object.below("checksum", Some(&query));
        let head = session.ask(&Method::GET, &url, &HeaderMap::new())?;
        match head.status {
            StatusCode::OK => {}
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                return Err(Error::new(
                    Kind::Lost,
                    format!(
                        "checksum refused by {} ({}): the ticket has ended",
                        self.object.origin(),
                        head.status
                    ),
                ));
            }
            status => return Err(self.object.refusal(status, &head.headers)),
        }
        let checksum: Checksum = parse(&self.object, "checksum", &session.read_to_end(MAX_BODY)?)?;
        let hex = checksum.check(&self.object)?;
        Ok((hex, session))
    }
}

impl Source for ImageioSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn access(&self) -> Access {
        Access::Ranged {
            connections: self.connections,
        }
    }

    fn extents(&self, range: ByteRange) -> Result<Vec<Extent>, Error> {
        Ok(match &self.extents {
            Some(map) => map.of(range),
            None => vec![Extent {
                range,
                content: Content::Data,
            }],
        })
    }

    fn data_bytes(&self) -> Option<u64> {
        self.extents.as_ref().map(ExtentMap::data_bytes)
    }

    fn reader(&self, cancel: &Cancel) -> Result<Box<dyn Reader + '_>, Error> {
        Ok(Box::new(RangedReader::new(
            self.object.session().with_cancel(cancel),
            self.size,
        )))
    }

    fn keep_alive(&self, cancel: &Cancel) -> Result<(), Error> {
        let session = self.object.session().with_cancel(cancel);
        self.abilities.sign_of_life(session)
    }

    fn checksum(&self, algorithm: Algorithm, cancel: &Cancel) -> Result<String, Error> {
        self.ask_checksum(algorithm, cancel).map(|(hex, _)| hex)
    }

    fn readers_beside_checksum(&self) -> Option<NonZeroUsize> {
        // A proxy reads the disk from the host's daemon for the checksum, and what keeps its ticket in use does
        // not keep that of the daemon, which is the one that the engine looks at.
        if self.is_proxied {
            return None;
        }
        self.abilities.readers_beside_checksum()
    }

    /// The disk is locked by the transfer, and no virtual machine that has it runs: what is read for the checksum is
    /// what readers get, whichever is first.
    fn checksum_beside(
        &self,
        algorithm: Algorithm,
        copied: &Cancel,
        cancel: &Cancel,
    ) -> Result<String, Error> {
        let flag = cancel.child();
        let (hex, session) = self.ask_checksum(algorithm, &flag)?;
        copied.adopt(&flag);
        // On the same connection, so that hardly a moment lies between the two requests.
        hold(session, self.size, self.keep_alive);
        Ok(hex)
    }
}

/// What a daemon can do, as it says in its answer to OPTIONS.
#[derive(Debug, Default, Deserialize)]
struct Abilities {
    #[serde(default)]
    features: Vec<String>,
    max_readers: Option<usize>,
    /// Whether the daemon does not know OPTIONS.
    #[serde(skip)]
    is_mute: bool,
}

impl Abilities {
    /// Old daemons have no OPTIONS (405), or say nothing (204): they can do what every daemon can.
    fn ask(session: &mut HttpSession<'_>) -> Result<Self, Error> {
        let object = session.object();
        let head = session.ask(&Method::OPTIONS, object.url(), &HeaderMap::new())?;
        match head.status {
            StatusCode::OK => parse(object, "capabilities", &session.read_to_end(MAX_BODY)?),
            StatusCode::NO_CONTENT => Ok(Self::default()),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                session.close();
                Ok(Self {
                    is_mute: true,
                    ..Self::default()
                })
            }
            status => Err(object.refusal(status, &head.headers)),
        }
    }

    /// A use of the ticket, on a connection of its own: the daemon records when a ticket was last
    /// used, and the engine ends transfers whose ticket is not. OPTIONS counts as one; where there is
    /// none, a read of one byte.
    fn sign_of_life(&self, mut session: HttpSession<'_>) -> Result<(), Error> {
        if self.is_mute {
            return read_one_byte(session);
        }
        Self::ask(&mut session).map(drop)
    }

    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    /// How many may read at a time, one connection being left for the keep-alive.
    fn readers(&self) -> NonZeroUsize {
        let readers = self.max_readers.unwrap_or(1).saturating_sub(1);
        NonZeroUsize::new(readers).unwrap_or(NonZeroUsize::MIN)
    }

    /// The same while another connection waits for the checksum.
    fn readers_beside_checksum(&self) -> Option<NonZeroUsize> {
        let readers = self.max_readers?.checked_sub(2)?;
        NonZeroUsize::new(readers)
    }
}

/// The daemon's answer to a request for a checksum.
#[derive(Debug, Deserialize)]
struct Checksum {
    algorithm: String,
    block_size: u64,
    #[serde(rename = "checksum")]
    hex: String,
}

impl Checksum {
    /// The digest, if it is the one that was asked for: 32 bytes in hexadecimal.
    fn check(self, object: &HttpObject) -> Result<String, Error> {
        let is_digest =
            self.hex.len() == 64 && self.hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        if self.algorithm == "blake2b" && self.block_size == CHECKSUM_BLOCK && is_digest {
            return Ok(self.hex.to_ascii_lowercase());
        }
        Err(Error::new(
            Kind::Protocol,
            format!(
                "{} was asked for blake2b over blocks of {CHECKSUM_BLOCK} bytes and answered with {} \
                 over {}, {}",
                object.origin(),
                net::quoted(&self.algorithm),
                self.block_size,
                net::quoted(&self.hex)
            ),
        ))
    }
}

fn ask_extents(mut session: HttpSession<'_>, size: u64) -> Result<ExtentMap, Error> {
    let object = session.object();
    let url = object.below("extents", Some("context=zero"));
    let head = session.ask(&Method::GET, &url, &HeaderMap::new())?;
    if head.status != StatusCode::OK {
        return Err(object.refusal(head.status, &head.headers));
    }
    let mut body = BodyReader {
        session: &mut session,
        left: MAX_BODY as u64 + size.div_ceil(SMALLEST_EXTENT) * LONGEST_EXTENT_JSON,
        failure: None,
        at_end: false,
    };
    let map = ExtentMap::read(io::BufReader::with_capacity(64 << 10, &mut body), size);
    if let Some(failure) = body.failure {
        return Err(failure);
    }
    map.map_err(|error| {
        let context = format!("{}: unusable extents", object.origin());
        Error::with_source(Kind::Protocol, context, error)
    })
}

/// A body as [`io::Read`], which keeps what went wrong.
struct BodyReader<'a, 'b> {
    session: &'a mut HttpSession<'b>,
    left: u64,
    failure: Option<Error>,
    at_end: bool,
}

impl io::Read for BodyReader<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at_end || buf.is_empty() {
            return Ok(0);
        }
        let count = match self.session.read(buf) {
            Ok(count) => {
                self.at_end = count < buf.len();
                count
            }
            Err((_, error)) => return Err(self.fail(error)),
        };
        let Some(left) = self.left.checked_sub(count as u64) else {
            let context = format!(
                "{}: more extents than the disk has blocks",
                self.session.object().origin()
            );
            return Err(self.fail(Error::new(Kind::Protocol, context)));
        };
        self.left = left;
        Ok(count)
    }
}

impl BodyReader<'_, '_> {
    fn fail(&mut self, error: Error) -> io::Error {
        let kind = io::Error::other(error.to_string());
        self.failure = Some(error);
        kind
    }
}

fn parse<'a, T: Deserialize<'a>>(
    object: &HttpObject,
    what: &str,
    body: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        let context = format!("{}: unusable {what}", object.origin());
        Error::with_source(Kind::Protocol, context, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_never_shown() {
        let url = "https://host.example:54322/images/5c2f-secret?x=secret";
        let ticket = Ticket::new(Url::parse(url).unwrap());
        assert_eq!(
            format!("{ticket} {ticket:?}"),
            "https://host.example:54322 Ticket(https://host.example:54322)"
        );
    }

    #[test]
    fn one_reader_is_left_for_the_keep_alive() {
        let readers = |json: &str| {
            let abilities: Abilities = serde_json::from_str(json).unwrap();
            abilities.readers().get()
        };
        assert_eq!(readers(r#"{"features": ["extents"], "max_readers": 8}"#), 7);
        assert_eq!(readers(r#"{"max_readers": 2}"#), 1);
        assert_eq!(readers(r#"{"max_readers": 1}"#), 1);
        assert_eq!(readers(r#"{"max_readers": 0}"#), 1);
        assert_eq!(readers("{}"), 1);
    }

    #[test]
    fn a_checksum_beside_the_copy_takes_a_reader_more() {
        let readers = |json: &str| {
            let abilities: Abilities = serde_json::from_str(json).unwrap();
            abilities.readers_beside_checksum().map(NonZeroUsize::get)
        };
        assert_eq!(readers(r#"{"max_readers": 8}"#), Some(6));
        assert_eq!(readers(r#"{"max_readers": 3}"#), Some(1));
        for json in [
            r#"{"max_readers": 2}"#,
            r#"{"max_readers": 1}"#,
            r#"{"max_readers": 0}"#,
            "{}",
        ] {
            assert_eq!(readers(json), None, "{json}");
        }
    }

    #[test]
    fn the_table_of_timers_is_right() {
        assert_eq!(testkit::timers::stated("extents"), [EXTENTS_STALL]);
        let checksum = testkit::timers::stated("checksum (`--verify=full`)");
        assert_eq!(checksum, [EXTENTS_STALL, Duration::from_secs(1)]);
        assert_eq!(SLOWEST_CHECKSUM, 16 << 20);
    }
}
