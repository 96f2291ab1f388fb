//! The data path's HTTP/1.1 connection: blocking, kept alive; bodies are received into the caller's
//! buffer.

use std::{fmt, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use url::Url;

use super::{
    body::{Body, ReadAhead},
    head::{self, Framing, Head, field},
    transport::Transport,
};
use crate::{Error, Kind, Proxy, origin::Origin, proxy::proxy_credentials};

/// Interim answers skipped for one request.
const MAX_INTERIM: usize = 16;

/// One connection, for one request after another. The body of an answer must be read to its end,
/// otherwise the connection is not reusable. `Debug` shows the origin only.
pub struct Connection {
    transport: Transport,
    origin: Origin,
    /// The proxy that plain HTTP goes through.
    proxy: Option<Proxy>,
    user_agent: HeaderValue,
    read_ahead: ReadAhead,
    body: Body,
    keeps_alive: bool,
}

/// Status and headers of an answer. `Debug` leaves the headers out.
#[derive(Clone)]
pub struct ResponseHead {
    /// The final status, after interim answers.
    pub status: StatusCode,
    /// The header fields that came with it.
    pub headers: HeaderMap,
    /// Length of the body when the answer states one.
    pub content_length: Option<u64>,
}

impl Connection {
    pub(crate) fn new(
        transport: Transport,
        origin: Origin,
        proxy: Option<Proxy>,
        user_agent: HeaderValue,
    ) -> Self {
        let proxy = proxy.filter(|_| !origin.is_https());
        Self {
            transport,
            origin,
            proxy,
            user_agent,
            read_ahead: ReadAhead::default(),
            body: Body::none(),
            keeps_alive: true,
        }
    }

    /// Sends `GET` for the path and query of `url` with the extra headers, and reads the head of
    /// the answer. Interim 1xx answers are skipped; redirects are answers like others.
    ///
    /// # Errors
    /// [`Error::was_sent`] is false where no byte of the request was sent, such as on a kept
    /// connection that the server has closed.
    pub fn get(&mut self, url: &Url, headers: &HeaderMap) -> Result<ResponseHead, Error> {
        self.request(&Method::GET, url, headers)
    }

    /// Like [`Self::get`], with another method that needs no body.
    pub fn request(
        &mut self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<ResponseHead, Error> {
        if Origin::of(url)? != self.origin {
            let text = format!("{}: this connection goes to another origin", self.origin);
            return Err(Error::new(Kind::Settings, text));
        }
        if !self.is_reusable() {
            let text = format!("{}: the connection cannot be used again", self.origin);
            return Err(Error::new(Kind::Closed, text).sent(false));
        }
        self.body = Body::broken();
        let request = self.encode(method, url, headers);
        self.transport.write_all(&request)?;
        let head = self.head()?;
        if head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = &self.proxy
        {
            return Err(proxy_credentials(&self.origin, proxy.origin()).sent(true));
        }
        let framing = head.framing(method).map_err(|why| self.malformed(&why))?;
        self.keeps_alive = head.keeps_alive && framing != Framing::Close;
        self.body = Body::new(framing);
        self.transport.begin_body();
        Ok(ResponseHead {
            status: head.status,
            content_length: head.content_length().map_err(|why| self.malformed(&why))?,
            headers: head.headers,
        })
    }

    /// Reads body bytes into `buf` until it is full or the body ends; returns how many. Less than
    /// `buf.len()` means the end of the body, as its length or its chunks state it.
    ///
    /// # Errors
    /// The number of bytes that are valid in `buf` comes with the error: they were received in
    /// order and may be used.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, (usize, Error)> {
        self.body
            .read(buf, &mut self.read_ahead, &mut self.transport)
    }

    /// Reads the rest of the body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] when there is more.
    pub fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        let mut piece = vec![0; limit.saturating_add(1).min(64 << 10)];
        loop {
            let count = self.read(&mut piece).map_err(|(_, error)| error)?;
            whole.extend_from_slice(piece.get(..count).unwrap_or_default());
            if whole.len() > limit {
                let text = format!("{}: the answer is larger than {limit} bytes", self.origin);
                return Err(Error::new(Kind::TooLarge, text));
            }
            if count < piece.len() {
                return Ok(whole);
            }
        }
    }

    /// Whether another request can be sent: the body is at its end and neither side closes.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.keeps_alive
            && self.body.is_at_end()
            && self.read_ahead.is_empty()
            && self.transport.is_open()
    }

    /// How long to wait without a byte from now on, in place of [`crate::Timeouts::stall`]: some
    /// answers take minutes to begin.
    pub fn set_stall(&mut self, stall: Duration) {
        self.transport.set_stall(stall);
    }

    fn encode(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Vec<u8> {
        let mut request = Vec::with_capacity(1024);
        request.extend_from_slice(method.as_str().as_bytes());
        request.push(b' ');
        if self.proxy.is_some() {
            request.extend_from_slice(format!("http://{}", self.origin.host_header()).as_bytes());
        }
        request.extend_from_slice(url.path().as_bytes());
        if let Some(query) = url.query() {
            request.push(b'?');
            request.extend_from_slice(query.as_bytes());
        }
        request.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        request.extend_from_slice(self.origin.host_header().as_bytes());
        request.extend_from_slice(b"\r\nAccept-Encoding: identity\r\n");
        field(&mut request, "User-Agent", &self.user_agent);
        if let Some(authorization) = self.proxy.as_ref().and_then(Proxy::authorization) {
            field(&mut request, "Proxy-Authorization", authorization);
        }
        for (name, value) in headers {
            field(&mut request, name.as_str(), value);
        }
        request.extend_from_slice(b"\r\n");
        request
    }

    fn head(&mut self) -> Result<Head, Error> {
        for _ in 0..MAX_INTERIM {
            let head = self.any_head()?;
            self.read_ahead.skip(head.length);
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.malformed("it switches protocols, which was not asked for"));
            }
            if !head.status.is_informational() {
                return Ok(head);
            }
        }
        Err(self.malformed("too many interim answers come before it"))
    }

    fn any_head(&mut self) -> Result<Head, Error> {
        self.transport.begin_wait();
        let mut has_begun = false;
        loop {
            if !has_begun && !self.read_ahead.is_empty() {
                has_begun = true;
                self.transport.begin_head();
            }
            if let Some(head) =
                head::parse(self.read_ahead.bytes()).map_err(|why| self.malformed(&why))?
            {
                return Ok(head);
            }
            if self.read_ahead.receive(&mut self.transport)? == 0 {
                let text = format!("{}: the connection ended before the answer", self.origin);
                return Err(Error::new(Kind::Closed, text));
            }
        }
    }

    fn malformed(&self, why: &str) -> Error {
        let text = format!("{}: the answer is malformed: {why}", self.origin);
        Error::new(Kind::Protocol, text)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.origin)
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("content_length", &self.content_length)
            .finish_non_exhaustive()
    }
}
