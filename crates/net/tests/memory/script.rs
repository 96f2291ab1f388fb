//! What a server sends, decoded from any bytes; and what a client must make of it.

use net::Kind;

use super::{ALERT, DATA, World, pattern};

/// Most that one script does. So few that rustls' limits on key updates and empty records are not
/// reached, which are other ones than ours.
const MOST_ACTS: usize = 30;

/// What arrives, in order.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    acts: Vec<Act>,
    end: End,
    /// Bytes that the client gets at a time, and asks for at a time.
    piece: usize,
    room: usize,
    /// Bytes that come together with the handshake's last record.
    early: usize,
}

#[derive(Debug, Clone)]
enum Act {
    Data {
        length: usize,
        padding: usize,
    },
    KeyUpdate {
        wanted: bool,
        piece: usize,
    },
    Ticket {
        length: usize,
        piece: usize,
    },
    Canceled,
    /// The client has read all content, and sends.
    Request(usize),
}

#[derive(Debug, Clone)]
enum End {
    Close,
    Alert(u8),
    /// The stream ends this many bytes before the closing alert's end, at least one.
    Cut(usize),
    /// One bit of the last bytes is wrong.
    Damage {
        back: usize,
        bit: u8,
    },
    Record {
        kind: u8,
        content: Vec<u8>,
    },
}

/// What a client saw.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    content: usize,
    error: Option<Kind>,
}

impl Script {
    pub(crate) fn decode(input: &[u8]) -> Self {
        let mut bytes = input.iter().copied();
        let mut next = || usize::from(bytes.next().unwrap_or_default());
        let wide = |high: usize, low: usize| high * 256 + low;
        let piece = 1 + wide(next(), next());
        let room = 1 + wide(next(), next());
        let early = wide(next() % 64, next());
        let end = match next() % 6 {
            0 | 1 => End::Close,
            2 => End::Alert(u8::try_from(1 + next() % 255).unwrap_or(1)),
            3 => End::Cut(1 + wide(next(), next())),
            4 => End::Damage {
                back: wide(next(), next()),
                bit: 1 << (next() % 8),
            },
            _ => End::Record {
                kind: match next() {
                    // What brings nothing is no end.
                    kind @ (21 | 23) => u8::try_from(kind + 1).unwrap_or_default(),
                    kind => u8::try_from(kind).unwrap_or_default(),
                },
                content: (0..next() % 8).map(|_| 0xee).collect(),
            },
        };
        let mut acts = Vec::new();
        let mut canceled = 0;
        for _ in 0..MOST_ACTS {
            acts.push(match next() % 16 {
                0 => break,
                1 => Act::Data {
                    length: 0,
                    padding: next() % 64,
                },
                2..=4 => Act::KeyUpdate {
                    wanted: next() % 2 == 1,
                    piece: 1 + next() % 8,
                },
                5 => Act::Ticket {
                    length: 1 + wide(next() % 16, next()),
                    // Records that bring no content are counted.
                    piece: 200 + next(),
                },
                // rustls takes four of them.
                6 if canceled < 4 => {
                    canceled += 1;
                    Act::Canceled
                }
                7 => Act::Request(1 + wide(next(), next())),
                8 => Act::Data {
                    length: 1 << 14,
                    padding: 0,
                },
                _ => Act::Data {
                    length: 1 + wide(next() % 64, next()),
                    padding: match next() % 4 {
                        0 => next(),
                        _ => 0,
                    },
                },
            });
        }
        Self {
            acts,
            end,
            piece,
            room,
            early,
        }
    }

    /// Plays the script to our record layer and to rustls'. Both must see what was sent, up to the
    /// record where it is not in order any more.
    pub(crate) fn run(&self, world: &World) {
        let seen = self.play(world, true);
        // rustls does not look at the version in a record's header.
        if !matches!(self.end, End::Damage { .. }) {
            assert_eq!(seen, self.play(world, false), "rustls sees what we see");
        }
    }

    #[allow(clippy::too_many_lines, reason = "one act after another")]
    fn play(&self, world: &World, own_records: bool) -> Seen {
        let mut content = pattern(self.early);
        let client = world.client(own_records);
        // Where rustls finds content behind the handshake, it sends its own last record only with the
        // first request.
        let early = if own_records { &content[..] } else { &[] };
        let (server, mut tls) = world.connect_early(&client, early, self.piece);
        assert_eq!(tls.has_own_records(), own_records);
        server.borrow_mut().take_keys();
        if early.len() < content.len() {
            server.borrow_mut().record(DATA, &content, 0);
        }
        let mut out = vec![0; self.room];
        let mut received = Vec::new();
        let mut asked = Vec::new();
        // Where each record with content ends in what is sent, and how much content is sent by then.
        let mut marks = vec![(server.borrow().outgoing.len(), self.early)];
        // Whether the client was asked for a new key: behind all content, before some of it, which
        // shows that it was read, or before a request that may have answered it.
        let (mut is_late, mut is_read, mut is_open) = (false, false, false);
        for act in &self.acts {
            let mut sending = server.borrow_mut();
            match *act {
                Act::Data { length, padding } => {
                    let start = content.len();
                    content = pattern(start + length);
                    // No record is larger than the largest.
                    let padding = padding.min((1 << 14) - length);
                    sending.record(DATA, &content[start..], padding);
                    marks.push((sending.outgoing.len(), content.len()));
                    is_read |= is_late && length > 0;
                    is_late &= length == 0;
                }
                Act::KeyUpdate { wanted, piece } => {
                    sending.key_update(wanted, piece);
                    is_late |= wanted;
                }
                Act::Ticket { length, piece } => sending.ticket(length, piece),
                Act::Canceled => sending.record(ALERT, &[1, 90], 0),
                Act::Request(length) => {
                    let answered = sending.key_updates;
                    drop(sending);
                    while received.len() < content.len() {
                        let left = content.len() - received.len();
                        let count = tls.read(&mut out, left as u64).unwrap();
                        assert!(count > 0, "an end within the content");
                        received.extend_from_slice(&out[..count]);
                    }
                    let request = vec![b'?'; length];
                    tls.write_all(&request).unwrap();
                    asked.extend_from_slice(&request);
                    let server = server.borrow();
                    assert!(server.received == asked, "{length}");
                    let answers = server.key_updates - answered;
                    assert!(answers >= usize::from(is_read));
                    assert!(answers <= usize::from(is_read || is_late || is_open));
                    is_open |= is_late;
                    (is_late, is_read) = (false, false);
                }
            }
        }
        let mut sending = server.borrow_mut();
        // The handshake, and what came with it, stays as it is.
        let from = sending.sent().max(marks[0].0);
        match &self.end {
            End::Close | End::Cut(_) | End::Damage { .. } => sending.record(ALERT, &[1, 0], 0),
            End::Alert(description) => sending.record(ALERT, &[2, *description], 0),
            End::Record { kind, content } => sending.record(*kind, content, 3),
        }
        let length = sending.outgoing.len();
        let unread = length - from;
        let intact = match self.end {
            End::Cut(back) => {
                let end = length - back.min(unread);
                sending.outgoing.truncate(end);
                end
            }
            End::Damage { back, bit } if unread > 0 => {
                let at = length - 1 - back.min(unread - 1);
                sending.outgoing[at] ^= bit;
                at
            }
            _ => length,
        };
        drop(sending);
        let whole = marks
            .iter()
            .rfind(|(end, _)| *end <= intact)
            .map_or(0, |(_, content)| *content);
        let error = loop {
            match tls.read(&mut out, 1) {
                Ok(0) => break None,
                Ok(count) => received.extend_from_slice(&out[..count]),
                Err(error) => break Some(error.kind()),
            }
        };
        assert!(
            received == content[..whole],
            "of {whole} bytes: {}",
            received.len()
        );
        assert_eq!(error.is_none(), matches!(self.end, End::Close), "{error:?}");
        Seen {
            content: received.len(),
            error,
        }
    }
}
