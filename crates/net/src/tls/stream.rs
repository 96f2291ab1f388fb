//! TLS over a blocking socket, decrypted from one reused buffer.
//!
//! rustls' unbuffered connection leaves the received bytes with us: they are received in large
//! pieces. Behind the handshake our own record layer decrypts them into the caller's buffer; where it
//! does not fit the connection, rustls goes on, and every record is copied.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus},
};
use rustls_pki_types::ServerName;

use super::{
    record::{Opened, Records},
    wire::Wire,
    words::{broken_tls, handshake_error},
};
use crate::{
    Error, Kind,
    tcp::{Socket, low_water},
};

/// Size of the receive buffer. The low-water mark and a partial record fit into it well.
const BUFFER: usize = 256 << 10;
/// A record's header and its protection, generously (RFC 8446, 5.2).
const RECORD_OVERHEAD: usize = 64;

pub(crate) struct TlsStream<W = Socket> {
    socket: W,
    layer: Layer,
    /// Whether [`Records`] are to take over. rustls does not give its keys away otherwise.
    takes_over: bool,
    incoming: Vec<u8>,
    /// The bytes of `incoming` that are received and not yet processed.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    /// The part of a decrypted record for which the caller's buffer had no room.
    leftover: Vec<u8>,
    leftover_start: usize,
    /// An error that is reported once the bytes before it are.
    failed: Option<Error>,
    established: bool,
    closed: bool,
}

/// Who protects the records.
enum Layer {
    Rustls(Box<UnbufferedClientConnection>),
    Records(Box<Records>),
}

/// The result of one step over the received bytes.
enum Step {
    /// The state changed; take the next step.
    Again,
    /// This many decrypted bytes were copied out.
    Data(usize),
    /// The bytes to send were sent.
    Sent,
    /// The next step needs more received bytes. True once the handshake is done.
    Wants(bool),
    /// The peer closed in order.
    Closed,
}

impl<W: Wire> TlsStream<W> {
    /// Makes the TLS handshake. Our own record layer takes over where `config` lets the keys out.
    pub(crate) fn connect(
        socket: W,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Error> {
        let takes_over = config.enable_secret_extraction;
        let tls = UnbufferedClientConnection::new(config, name)
            .map_err(|error| handshake_error(socket.peer(), &error))?;
        let mut stream = Self {
            socket,
            layer: Layer::Rustls(Box::new(tls)),
            takes_over,
            incoming: vec![0; BUFFER],
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            leftover: Vec::new(),
            leftover_start: 0,
            failed: None,
            established: false,
            closed: false,
        };
        loop {
            match stream
                .step(&mut [], None)
                .map_err(|error| error.sent(false))?
            {
                Step::Wants(true) | Step::Data(_) => {
                    stream.established = true;
                    return stream.with_own_records();
                }
                Step::Again | Step::Sent => {}
                Step::Wants(false) => {
                    if stream.receive(1).map_err(|error| error.sent(false))? == 0 {
                        return Err(stream.cut_handshake());
                    }
                }
                Step::Closed => return Err(stream.cut_handshake()),
            }
        }
    }

    /// The same stream, with our record layer where it fits.
    fn with_own_records(self) -> Result<Self, Error> {
        let layer = match self.layer {
            Layer::Rustls(tls) if self.takes_over && Records::fit(&tls) => {
                let records = Records::take_over(*tls);
                let records = records.map_err(|error| handshake_error(self.socket.peer(), &error));
                Layer::Records(Box::new(records.map_err(|error| error.sent(false))?))
            }
            layer => layer,
        };
        Ok(Self { layer, ..self })
    }

    #[cfg(feature = "testing")]
    pub(crate) const fn has_own_records(&self) -> bool {
        matches!(self.layer, Layer::Records(_))
    }

    #[cfg(feature = "testing")]
    pub(crate) const fn replace_keys_after(&mut self, sent: u64) {
        if let Layer::Records(records) = &mut self.layer {
            records.most_sent = sent;
        }
    }

    pub(crate) const fn socket(&self) -> &W {
        &self.socket
    }

    pub(crate) const fn socket_mut(&mut self) -> &mut W {
        &mut self.socket
    }

    /// Reads at least one byte, or 0 after the peer's closing alert. `to_come` is a lower bound of
    /// the bytes that the peer still will send.
    pub(crate) fn read(&mut self, out: &mut [u8], to_come: u64) -> Result<usize, Error> {
        let mut count = self.take_leftover(out);
        loop {
            if count == out.len() || self.closed {
                return Ok(count);
            }
            if let Some(error) = self.failed.take() {
                if count == 0 {
                    return Err(error);
                }
                self.failed = Some(error);
                return Ok(count);
            }
            match self.step(out.get_mut(count..).unwrap_or_default(), None) {
                Ok(Step::Data(more)) => {
                    count += more;
                    count += self.take_leftover(out.get_mut(count..).unwrap_or_default());
                }
                Ok(Step::Again | Step::Sent) => {}
                Ok(Step::Closed) => self.closed = true,
                Ok(Step::Wants(_)) if count > 0 => return Ok(count),
                Ok(Step::Wants(_)) => {
                    if self.receive(low_water(to_come, self.end - self.start))? == 0 {
                        return Err(Error::new(
                            Kind::Closed,
                            format!(
                                "{}: the connection ended without TLS's closing alert",
                                self.socket.peer()
                            ),
                        ));
                    }
                }
                Err(error) => self.failed = Some(error),
            }
        }
    }

    /// Encrypts and sends `data`.
    pub(crate) fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        loop {
            match self.step(&mut [], Some(data))? {
                Step::Sent => return Ok(()),
                Step::Again => {}
                // Something came between two requests. Nothing is lost with a connection on which
                // nothing is under way.
                Step::Data(_) | Step::Wants(_) => {
                    let peer = self.socket.peer();
                    let text = format!("{peer}: the peer sent bytes that were not asked for");
                    return Err(Error::new(Kind::Closed, text).sent(false));
                }
                Step::Closed => {
                    self.closed = true;
                    let text = format!("{}: the peer closed the connection", self.socket.peer());
                    return Err(Error::new(Kind::Closed, text).sent(false));
                }
            }
        }
    }

    /// Whether the next read returns without receiving: decrypted bytes, an error or the end.
    pub(crate) fn has_leftover(&self) -> bool {
        self.leftover_start < self.leftover.len() || self.failed.is_some() || self.closed
    }

    /// Processes received bytes up to where something is to be told, and sends `send` once nothing
    /// received is left.
    fn step(&mut self, out: &mut [u8], send: Option<&[u8]>) -> Result<Step, Error> {
        if self.leftover_start == self.leftover.len() {
            self.leftover.clear();
            self.leftover_start = 0;
        }
        match self.layer {
            Layer::Rustls(_) => self.step_of_rustls(out, send),
            Layer::Records(_) => self.step_of_records(out, send),
        }
    }

    /// Opens one record.
    fn step_of_records(&mut self, out: &mut [u8], send: Option<&[u8]>) -> Result<Step, Error> {
        let Self {
            socket,
            layer: Layer::Records(records),
            incoming,
            start,
            end,
            outgoing,
            leftover,
            ..
        } = self
        else {
            return Ok(Step::Again);
        };
        if !leftover.is_empty() {
            // A reader takes it before the next step. It must not be mixed with what comes behind it.
            return Ok(Step::Data(0));
        }
        let received = incoming.get(*start..*end).unwrap_or_default();
        match records.open(received, out, leftover) {
            Ok(Opened::Record { length, count }) => {
                *start += length;
                Ok(if count == 0 && leftover.is_empty() {
                    Step::Again
                } else {
                    Step::Data(count)
                })
            }
            Ok(Opened::Closed) => Ok(Step::Closed),
            Ok(Opened::Part) => {
                let Some(data) = send else {
                    return Ok(Step::Wants(true));
                };
                let sealed = records.seal(data, outgoing);
                sealed.map_err(|error| internal(socket.peer(), error))?;
                socket.write_all(outgoing)?;
                outgoing.clear();
                Ok(Step::Sent)
            }
            Err(error) => {
                records.seal_alert(&error, outgoing);
                let _ = socket.write_all(outgoing);
                outgoing.clear();
                Err(broken_tls(socket.peer(), &error))
            }
        }
    }

    /// Lets rustls process the received bytes up to its next state, and does what that state needs.
    ///
    /// The received bytes stay in `incoming`. rustls says in `discard` how many of them it is done
    /// with; they must be gone before the next step, and not before the state was dealt with.
    fn step_of_rustls(&mut self, out: &mut [u8], send: Option<&[u8]>) -> Result<Step, Error> {
        let Self {
            socket,
            layer: Layer::Rustls(tls),
            takes_over,
            incoming,
            start,
            end,
            outgoing,
            leftover,
            ..
        } = self
        else {
            return Ok(Step::Again);
        };
        let received = if *takes_over && Records::fit(tls) {
            // What is behind the handshake is for the layer that takes over.
            &mut []
        } else {
            incoming.get_mut(*start..*end).unwrap_or_default()
        };
        let UnbufferedStatus { discard, state, .. } = tls.process_tls_records(received);
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                // rustls gives a record away when it is asked for it. What `out` has no room for is
                // kept here, which is the one part that is copied twice.
                let mut count = 0;
                while let Some(record) = traffic.next_record() {
                    let payload = record
                        .map_err(|error| broken_tls(socket.peer(), &error))?
                        .payload;
                    let (now, later) = payload.split_at(payload.len().min(out.len() - count));
                    out[count..][..now.len()].copy_from_slice(now);
                    count += now.len();
                    leftover.extend_from_slice(later);
                }
                Step::Data(count)
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                // The size of a handshake message is known only from the error of too little room.
                if let Err(EncodeError::InsufficientSize(size)) =
                    append(outgoing, 0, |to| data.encode(to))
                {
                    append(outgoing, size.required_size, |to| data.encode(to))
                        .map_err(|error| internal(socket.peer(), error))?;
                }
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // rustls counts the bytes as sent from `done` on, so that has to come last.
                socket.write_all(outgoing)?;
                outgoing.clear();
                data.done();
                Step::Again
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => match send {
                None => Step::Wants(true),
                Some(data) => {
                    // Records may be much smaller than their limit of 16 KiB; the retry with the
                    // exact size is for those that are smaller than assumed here.
                    let room = data.len() + RECORD_OVERHEAD * (data.len() / 1024 + 2);
                    if let Err(EncryptError::InsufficientSize(size)) =
                        append(outgoing, room, |to| traffic.encrypt(data, to))
                    {
                        append(outgoing, size.required_size, |to| traffic.encrypt(data, to))
                            .map_err(|error| internal(socket.peer(), error))?;
                    }
                    socket.write_all(outgoing)?;
                    outgoing.clear();
                    Step::Sent
                }
            },
            Ok(ConnectionState::BlockedHandshake) => Step::Wants(false),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Step::Closed,
            Ok(_) => {
                return Err(Error::new(
                    Kind::Tls,
                    format!("{}: unexpected TLS state", socket.peer()),
                ));
            }
            Err(error) => {
                // The peer learns the reason by an alert, which rustls makes in further states.
                *start += discard;
                let error = self.tls_error(&error);
                self.send_alert();
                return Err(error);
            }
        };
        *start += discard;
        Ok(step)
    }

    /// Sends the alert of a fatal error, as far as the peer still reads.
    fn send_alert(&mut self) {
        let Layer::Rustls(tls) = &mut self.layer else {
            return;
        };
        // rustls must not be asked for more after a fatal error than what it has to send.
        while tls.wants_write() {
            let received = self.incoming.get_mut(self.start..self.end);
            let UnbufferedStatus { discard, state, .. } =
                tls.process_tls_records(received.unwrap_or_default());
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else {
                break;
            };
            // Without the alert, the peer sees a connection that ends without a reason.
            let _ = append(&mut self.outgoing, 1024, |to| data.encode(to));
            self.start += discard;
        }
        let _ = self.socket.write_all(&self.outgoing);
        self.outgoing.clear();
    }

    fn receive(&mut self, low_water: u32) -> Result<usize, Error> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.start > 0 {
            self.incoming.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let room = self.incoming.get_mut(self.end..).unwrap_or_default();
        if room.is_empty() {
            return Err(self.protocol("sent a TLS message that is too large"));
        }
        let count = self.socket.read(room, low_water)?;
        self.end += count;
        Ok(count)
    }

    fn take_leftover(&mut self, out: &mut [u8]) -> usize {
        let leftover = self.leftover.get(self.leftover_start..).unwrap_or_default();
        let count = leftover.len().min(out.len());
        out[..count].copy_from_slice(&leftover[..count]);
        self.leftover_start += count;
        count
    }

    fn tls_error(&self, error: &rustls::Error) -> Error {
        let peer = self.socket.peer();
        if !self.established {
            return handshake_error(peer, error);
        }
        broken_tls(peer, error)
    }

    fn cut_handshake(&self) -> Error {
        Error::new(
            Kind::Closed,
            format!(
                "{}: the peer ended the connection during the TLS handshake",
                self.socket.peer()
            ),
        )
    }

    fn protocol(&self, what: &str) -> Error {
        Error::new(
            Kind::Protocol,
            format!("{}: the peer {what}", self.socket.peer()),
        )
    }
}

/// Lets `write` fill `room` bytes behind those of `buffer`.
fn append<E>(
    buffer: &mut Vec<u8>,
    room: usize,
    write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<(), E> {
    let length = buffer.len();
    buffer.resize(length + room, 0);
    let written = write(buffer.get_mut(length..).unwrap_or_default());
    buffer.truncate(length + *written.as_ref().unwrap_or(&0));
    written.map(|_| ())
}

fn internal(peer: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = format!("{peer}: a TLS record cannot be made");
    Error::with_source(Kind::Tls, text, error)
}
