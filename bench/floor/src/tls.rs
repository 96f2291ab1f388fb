//! A TLS stream whose records are decrypted in one reused receive buffer and copied once.

use std::{io::Write, net::TcpStream, sync::Arc};

use anyhow::{Result, bail, ensure};
use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    unbuffered::{ConnectionState, UnbufferedStatus},
};
use rustls_pki_types::ServerName;

use crate::wait;

/// Two low-water marks, so that a receive always has room for one.
const BUFFER: usize = 2 * wait::MARK;
/// More than a client sends in one flight of the handshake, or asks in one request.
const OUTGOING: usize = 16 << 10;

pub(crate) struct TlsStream {
    socket: TcpStream,
    tls: UnbufferedClientConnection,
    incoming: Vec<u8>,
    /// What of `incoming` is received and not yet decrypted.
    start: usize,
    end: usize,
    outgoing: Vec<u8>,
    encoded: usize,
    /// The part of a record for which the caller's buffer had no room.
    rest: Vec<u8>,
    mark: usize,
}

/// What rustls could do with the received bytes.
enum Step {
    /// More of them are there, or something was sent.
    More,
    /// This many decrypted bytes were copied out.
    Data(usize),
    /// Nothing without further bytes.
    Handshaking,
    /// The same, and a request may be sent.
    Idle,
    Closed,
}

impl TlsStream {
    pub(crate) fn connect(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self> {
        let mut stream = Self {
            socket,
            tls: UnbufferedClientConnection::new(config, name)?,
            incoming: vec![0; BUFFER],
            start: 0,
            end: 0,
            outgoing: vec![0; OUTGOING],
            encoded: 0,
            rest: Vec::new(),
            mark: 1,
        };
        loop {
            match stream.step(&mut [], None)? {
                Step::More => {}
                Step::Handshaking => stream.receive(0)?,
                Step::Idle => return Ok(stream),
                Step::Data(_) | Step::Closed => bail!("unexpected end of the TLS handshake"),
            }
        }
    }

    pub(crate) fn send(&mut self, data: &[u8]) -> Result<()> {
        while !matches!(self.step(&mut [], Some(data))?, Step::More) {}
        Ok(())
    }

    /// At least one byte, unless `out` is empty. `to_come`: how many bytes the peer still sends, at least.
    pub(crate) fn read(&mut self, out: &mut [u8], to_come: u64) -> Result<usize> {
        let mut count = self.rest.len().min(out.len());
        out[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        while count < out.len() {
            match self.step(&mut out[count..], None)? {
                Step::Data(more) => count += more,
                Step::More => {}
                Step::Idle | Step::Handshaking if count > 0 => break,
                Step::Idle | Step::Handshaking => self.receive(to_come)?,
                Step::Closed => bail!("the peer closed before the end"),
            }
        }
        Ok(count)
    }

    fn step(&mut self, out: &mut [u8], request: Option<&[u8]>) -> Result<Step> {
        let received = &mut self.incoming[self.start..self.end];
        let UnbufferedStatus { discard, state, .. } = self.tls.process_tls_records(received);
        let step = match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                let mut count = 0;
                while let Some(record) = traffic.next_record() {
                    let payload = record?.payload;
                    let (now, later) = payload.split_at(payload.len().min(out.len() - count));
                    out[count..count + now.len()].copy_from_slice(now);
                    count += now.len();
                    self.rest.extend_from_slice(later);
                }
                Step::Data(count)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                self.encoded += data.encode(&mut self.outgoing[self.encoded..])?;
                Step::More
            }
            ConnectionState::TransmitTlsData(data) => {
                self.socket.write_all(&self.outgoing[..self.encoded])?;
                self.encoded = 0;
                data.done();
                Step::More
            }
            ConnectionState::WriteTraffic(mut traffic) => match request {
                Some(data) => {
                    let length = traffic.encrypt(data, &mut self.outgoing)?;
                    self.socket.write_all(&self.outgoing[..length])?;
                    Step::More
                }
                None => Step::Idle,
            },
            ConnectionState::BlockedHandshake => Step::Handshaking,
            ConnectionState::PeerClosed | ConnectionState::Closed => Step::Closed,
            other => bail!("unexpected TLS state {other:?}"),
        };
        self.start += discard;
        Ok(step)
    }

    fn receive(&mut self, to_come: u64) -> Result<()> {
        self.incoming.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // A mark beyond what comes would be waited for without end.
        let to_come = usize::try_from(to_come).unwrap_or(usize::MAX);
        let mark = to_come.saturating_sub(self.end).clamp(1, wait::MARK);
        if mark != self.mark {
            wait::set_low_water(&self.socket, mark)?;
            self.mark = mark;
        }
        let count = wait::receive(&self.socket, &mut self.incoming[self.end..])?;
        ensure!(count > 0, "the connection ended before the answer did");
        self.end += count;
        Ok(())
    }
}
