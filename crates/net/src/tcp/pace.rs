//! How fast the parts of an answer have to come.

use std::time::Duration;

use crate::{Clock, LeastRate, Timeouts};

/// The part of an answer that is being read, and how it comes.
#[derive(Debug)]
pub(super) struct Pace {
    part: Part,
    head: Duration,
    least: LeastRate,
}

#[derive(Debug)]
enum Part {
    /// None: the connection is being made.
    None,
    /// The first byte of the answer, waited for since this time on the clock. What TLS says meanwhile is
    /// none.
    Wait { since: Duration },
    /// The head, whose first byte came at this time.
    Head { since: Duration },
    /// The body: bytes since the last time that they were enough, and how long they were waited for. What the
    /// reader does meanwhile with what it has read does not count against the peer.
    Body { bytes: u64, waited: Duration },
}

impl Pace {
    pub(super) const fn new(timeouts: &Timeouts) -> Self {
        Self {
            part: Part::None,
            head: timeouts.head,
            least: timeouts.least_rate,
        }
    }

    pub(super) const fn begin_wait(&mut self, now: Duration) {
        self.part = Part::Wait { since: now };
    }

    pub(super) const fn begin_head(&mut self, now: Duration) {
        self.part = Part::Head { since: now };
    }

    pub(super) const fn begin_body(&mut self) {
        self.part = Part::Body {
            bytes: 0,
            waited: Duration::ZERO,
        };
    }

    /// Bytes have come, which were waited for since then. The clock is not read where they are many: on
    /// the way of every copy that goes well.
    pub(super) fn came(&mut self, count: usize, since: Duration, clock: &dyn Clock) {
        if let Part::Body { bytes, waited } = &mut self.part {
            *bytes = bytes.saturating_add(count as u64);
            if *bytes >= self.least.bytes {
                (*bytes, *waited) = (0, Duration::ZERO);
            } else {
                *waited += clock.now().saturating_sub(since);
            }
        }
    }

    /// Whether what is waited for `since` a time may be waited for any longer. A reader that waits longer for
    /// the first byte (`stall`) than the period of the rate has its reason.
    ///
    /// # Errors
    /// What is too slow, in words.
    pub(super) fn check(
        &self,
        now: Duration,
        since: Duration,
        stall: Duration,
    ) -> Result<(), String> {
        match self.part {
            Part::Wait { since: begun } if now.saturating_sub(begun) >= stall => {
                Err(format!("no byte of an answer for {stall:?}"))
            }
            Part::Head { since: first } if now.saturating_sub(first) >= self.head => Err(format!(
                "the head of the answer is not complete {} s after its first byte",
                self.head.as_secs()
            )),
            Part::Body { waited, .. }
                if self.least.bytes > 0
                    && waited + now.saturating_sub(since) >= self.least.period.max(stall) =>
            {
                Err(format!(
                    "less than {} bytes in {} s, the least rate (--min-rate)",
                    self.least.bytes,
                    self.least.period.as_secs()
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        thread,
    };

    use super::*;
    use crate::{Cancel, Kind, tcp::Socket};

    /// Ten seconds pass between two looks at it.
    #[derive(Debug, Default)]
    struct Hurried(AtomicU64);

    impl Clock for Hurried {
        fn now(&self) -> Duration {
            Duration::from_secs(self.0.fetch_add(10, Ordering::Relaxed))
        }

        fn wait(&self, _: Duration, _: &Cancel) -> bool {
            false
        }
    }

    /// A socket whose peer sends without an end.
    fn fed(timeouts: &Timeouts) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        thread::spawn(move || while server.write_all(&[7; 4096]).is_ok() {});
        let clock = Arc::new(Hurried::default());
        let hour = Duration::from_hours(10);
        let mut socket =
            Socket::new(client, "peer".into(), clock, Cancel::new(), timeouts, hour).unwrap();
        socket.lift_deadline();
        socket
    }

    /// Reads pieces of this size: how many came, and why it ended.
    fn read(socket: &mut Socket, piece: usize, most: usize) -> (usize, Option<crate::Error>) {
        let mut buffer = vec![0; piece];
        for count in 0..most {
            if let Err(error) = socket.read(&mut buffer, 1) {
                return (count, Some(error));
            }
        }
        (most, None)
    }

    #[test]
    fn a_body_that_trickles_is_a_stall() {
        let mut socket = fed(&Timeouts::default());
        socket.begin_body();
        let (count, error) = read(&mut socket, 1, 1000);
        // At least ten seconds for each byte, so that five minutes are over after 30 of them.
        assert!((5..=30).contains(&count), "{count}");
        let error = error.unwrap();
        assert_eq!(error.kind(), Kind::Stalled);
        assert!(error.to_string().contains("least rate"), "{error}");
        testkit::plain::assert_plain(&error.chain());
    }

    #[test]
    fn a_body_that_comes_fast_enough_may_take_any_time() {
        let (clock, stall) = (Hurried::default(), Duration::from_secs(30));
        let mut pace = Pace::new(&Timeouts::default());
        pace.begin_body();
        for _ in 0..500 {
            // A quarter of the bytes in twenty seconds.
            let since = clock.now();
            pace.check(clock.now(), since, stall).unwrap();
            pace.came(16 << 10, since, &clock);
        }
        // The clock is not read for many bytes.
        let before = clock.0.load(Ordering::Relaxed);
        pace.came(64 << 10, Duration::ZERO, &clock);
        assert_eq!(clock.0.load(Ordering::Relaxed), before);
    }

    #[test]
    fn without_a_least_rate_nothing_is_too_slow() {
        let none = LeastRate {
            bytes: 0,
            ..LeastRate::default()
        };
        let mut socket = fed(&Timeouts {
            least_rate: none,
            ..Timeouts::default()
        });
        socket.begin_body();
        assert!(read(&mut socket, 1, 200).1.is_none());
    }

    #[test]
    fn a_longer_stall_allows_a_longer_period() {
        let mut socket = fed(&Timeouts::default());
        socket.set_stall(Duration::from_mins(50));
        socket.begin_body();
        assert!(read(&mut socket, 1, 60).1.is_none());
    }

    #[test]
    fn bytes_that_are_none_of_the_answer_do_not_extend_the_wait_for_it() {
        let mut socket = fed(&Timeouts::default());
        socket.begin_wait();
        let (count, error) = read(&mut socket, 1, 1000);
        assert!(count <= 3, "{count}");
        assert_eq!(error.unwrap().kind(), Kind::Stalled);
    }

    #[test]
    fn a_head_has_a_minute_from_its_first_byte_on() {
        let mut socket = fed(&Timeouts::default());
        socket.begin_head();
        let (count, error) = read(&mut socket, 1, 1000);
        assert!((2..=7).contains(&count), "{count}");
        let error = error.unwrap();
        assert_eq!(error.kind(), Kind::Stalled);
        assert!(error.to_string().contains("head of the answer"), "{error}");
        // The next one starts over.
        socket.begin_head();
        assert!(socket.read(&mut [0], 1).is_ok());
    }

    #[test]
    fn the_bytes_of_a_time() {
        let rate = LeastRate::default();
        for (seconds, bytes) in [
            (0, 0),
            (1, 218),
            (150, 32 << 10),
            (300, 64 << 10),
            (9000, 64 << 10),
        ] {
            assert_eq!(rate.bytes_in(Duration::from_secs(seconds)), bytes);
        }
    }
}
