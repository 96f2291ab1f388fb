//! Sends one answer, with its faults.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use super::{Body, Cut, Event, Fault, Reply, Request, Shared, wire::Wire};

const BLOCK: usize = 64 << 10;

/// Sends the answer; says how the connection ends, if it does.
pub(super) fn deliver(
    shared: &Shared,
    wire: &mut Wire,
    request: &Request,
    reply: Reply,
) -> Option<Cut> {
    let mut delivery = Delivery::new(reply);
    let outcome = delivery.send(shared, wire, request);
    shared.log.push(Event::Answered {
        seq: request.seq,
        status: delivery.status,
        sent: delivery.sent,
        delivered: outcome.is_ok(),
    });
    let client_closes = request
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    match outcome {
        Ok(None) if client_closes => Some(Cut::Orderly),
        Ok(cut) => cut,
        // The peer has gone.
        Err(_) => Some(Cut::Fin),
    }
}

struct Delivery {
    reply: Reply,
    faults: Vec<Fault>,
    status: u16,
    sent: u64,
}

impl Delivery {
    fn new(mut reply: Reply) -> Self {
        let faults = std::mem::take(&mut reply.faults);
        for fault in &faults {
            change(&mut reply, fault);
        }
        Self {
            reply,
            faults,
            status: 0,
            sent: 0,
        }
    }

    fn send(
        &mut self,
        shared: &Shared,
        wire: &mut Wire,
        request: &Request,
    ) -> io::Result<Option<Cut>> {
        for fault in &self.faults {
            match fault {
                Fault::HoldHead(gate) => shared.hold(gate, request.seq),
                Fault::NoAnswer(cut) => return Ok(Some(*cut)),
                Fault::Raw(bytes) => {
                    wire.write_all(bytes)?;
                    wire.flush()?;
                    return Ok(Some(Cut::Orderly));
                }
                Fault::Before(bytes) => wire.write_all(bytes)?,
                _ => {}
            }
        }
        wire.write_all(&self.head()?)?;
        wire.flush()?;
        self.status = self.reply.status;
        if let Some(address) = self.tunnel() {
            wire.tunnel(address)?;
            return Ok(Some(Cut::Orderly));
        }
        if request.method == "HEAD" || matches!(self.reply.status, 204 | 304) {
            return Ok(self.ending());
        }
        if let Some(cut) = self.send_body(shared, wire, request)? {
            return Ok(Some(cut));
        }
        Ok(self.ending())
    }

    fn head(&self) -> io::Result<Vec<u8>> {
        let reply = &self.reply;
        let mut head = Vec::new();
        write!(
            head,
            "HTTP/1.1 {} {}\r\n",
            reply.status,
            reason(reply.status)
        )?;
        for (name, value) in &reply.headers {
            write!(head, "{name}: {value}\r\n")?;
        }
        let length_unstated = self
            .faults
            .iter()
            .any(|fault| matches!(fault, Fault::Chunked(_) | Fault::UntilClose))
            || reply.has_header("content-length")
            || self.tunnel().is_some()
            || reply.status == 204;
        if !length_unstated {
            write!(head, "Content-Length: {}\r\n", reply.body.len())?;
        }
        head.extend_from_slice(b"\r\n");
        Ok(head)
    }

    fn send_body(
        &mut self,
        shared: &Shared,
        wire: &mut Wire,
        request: &Request,
    ) -> io::Result<Option<Cut>> {
        let chunk = self.faults.iter().find_map(|fault| match fault {
            Fault::Chunked(size) => Some(*size),
            _ => None,
        });
        let drip = self.faults.iter().find_map(|fault| match fault {
            Fault::Drip(size) => Some(*size),
            _ => None,
        });
        let block = chunk.or(drip).unwrap_or(BLOCK).clamp(1, BLOCK);
        let mut buffer = vec![0; block];
        loop {
            for fault in &self.faults {
                match fault {
                    Fault::StallBody { after, until } if *after == self.sent => {
                        shared.hold(until, request.seq);
                    }
                    Fault::CutBody { after, how } if *after == self.sent => return Ok(Some(*how)),
                    _ => {}
                }
            }
            let length = (self.next_stop() - self.sent).min(block as u64);
            if length == 0 {
                break;
            }
            let part = &mut buffer[..usize::try_from(length).unwrap()];
            self.reply.body.read_at(self.sent, part);
            self.corrupt(part);
            if chunk.is_some() {
                wire.write_all(format!("{length:x}\r\n").as_bytes())?;
            }
            for piece in part.chunks(drip.unwrap_or(BLOCK).max(1)) {
                wire.write_all(piece)?;
                wire.flush()?;
            }
            if chunk.is_some() {
                wire.write_all(b"\r\n")?;
            }
            self.sent += length;
        }
        if chunk.is_some() {
            wire.write_all(b"0\r\n\r\n")?;
        }
        for fault in &self.faults {
            if let Fault::Extra(count) = fault {
                wire.write_all(&vec![b'+'; *count])?;
            }
        }
        wire.flush()?;
        Ok(None)
    }

    /// The next position of the body at which something happens, or its end.
    fn next_stop(&self) -> u64 {
        let stops = self.faults.iter().filter_map(|fault| match fault {
            Fault::CutBody { after, .. } | Fault::StallBody { after, .. } => Some(*after),
            _ => None,
        });
        let end = self.reply.body.len();
        stops.filter(|stop| *stop > self.sent).fold(end, u64::min)
    }

    fn corrupt(&self, part: &mut [u8]) {
        let start = match &self.reply.body {
            Body::Slice { start, .. } => *start,
            Body::Bytes(_) => 0,
        } + self.sent;
        for fault in &self.faults {
            if let Fault::Corrupt(at) = fault
                && let Some(index) = at.checked_sub(start)
                && let Some(byte) = usize::try_from(index).ok().and_then(|i| part.get_mut(i))
            {
                *byte ^= 0x55;
            }
        }
    }

    fn tunnel(&self) -> Option<SocketAddr> {
        self.faults.iter().find_map(|fault| match fault {
            Fault::Tunnel(address) => Some(*address),
            _ => None,
        })
    }

    fn ending(&self) -> Option<Cut> {
        let ends = |fault: &Fault| {
            matches!(
                fault,
                Fault::Close | Fault::CloseSilently | Fault::ContentLength(_) | Fault::UntilClose
            )
        };
        self.faults.iter().any(ends).then_some(Cut::Orderly)
    }
}

/// Applies what a fault changes in the answer itself.
fn change(reply: &mut Reply, fault: &Fault) {
    let mut set = |name: &str, value: String| {
        reply.remove_header(name);
        reply.headers.push((name.to_owned(), value));
    };
    match fault {
        Fault::Header(name, value) => set(name, value.clone()),
        Fault::ContentLength(length) => set("Content-Length", length.to_string()),
        Fault::Close => set("Connection", "close".to_owned()),
        Fault::Chunked(_) => set("Transfer-Encoding", "chunked".to_owned()),
        Fault::Total(total) => {
            if let Body::Slice { start, length, .. } = reply.body {
                let last = start + length.saturating_sub(1);
                reply.set_range(&format!("bytes {start}-{last}/{total}"));
            }
        }
        Fault::Shift(by) => shift(reply, *by),
        Fault::IgnoreRange => {
            if let Body::Slice {
                object,
                start,
                length,
            } = &mut reply.body
            {
                (*start, *length) = (0, object.size());
                reply.status = 200;
                reply.remove_header("Content-Range");
            }
        }
        _ => {}
    }
}

fn shift(reply: &mut Reply, by: i64) {
    let Body::Slice {
        object,
        start,
        length,
    } = &mut reply.body
    else {
        return;
    };
    *start = start.saturating_add_signed(by).min(object.size() - 1);
    *length = (*length).min(object.size() - *start);
    let range = format!("bytes {start}-{}/{}", *start + *length - 1, object.size());
    reply.set_range(&range);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        300..400 => "Elsewhere",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
