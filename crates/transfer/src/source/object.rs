//! Requests to one object: credentials, redirects, kept connections, and what refusals mean.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, StatusCode};
use net::{Cancel, Connection, Connector, ResponseHead};
use url::Url;

use super::{Authorization, Changes, answer::Identity};
use crate::{Error, Kind};

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 5;
/// Credentials renewed for one request. Two, since another reader's may be about to expire.
const MAX_RENEWALS: usize = 2;

/// The server's protocol, which says what its statuses mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// A plain HTTP object; Glance's peculiarities are included.
    Http,
    /// An ovirt-imageio daemon or proxy: the ticket in the URL is the credential, and whatever is
    /// wrong with it is a refusal.
    Imageio,
}

/// One object on one server, read over several sessions.
pub(super) struct HttpObject {
    connector: Connector,
    url: Url,
    dialect: Dialect,
    authorization: Arc<dyn Authorization>,
    /// Where the redirects ended; asked directly until it fails.
    resolved: Mutex<Option<Url>>,
    identity: Mutex<Option<Identity>>,
    changes: Mutex<Changes>,
    has_warned: AtomicBool,
}

impl HttpObject {
    pub(super) fn new(
        connector: Connector,
        url: Url,
        dialect: Dialect,
        authorization: Arc<dyn Authorization>,
        changes: Changes,
    ) -> Self {
        Self {
            connector,
            url,
            dialect,
            authorization,
            resolved: Mutex::new(None),
            identity: Mutex::new(None),
            changes: Mutex::new(changes),
            has_warned: AtomicBool::new(false),
        }
    }

    /// A session, which has no connection yet.
    pub(super) fn session(&self) -> HttpSession<'_> {
        HttpSession {
            object: self,
            connector: self.connector.clone(),
            connection: None,
            stall: None,
        }
    }

    /// A flag for what is begun before it has a reader: pulled with the connector's.
    pub(super) fn flag(&self) -> Cancel {
        self.connector.cancel().child()
    }

    /// What may be shown of the URL: the path or the query may be a secret.
    pub(super) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The URL itself, for requests.
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    /// The URL of a resource below the object.
    pub(super) fn below(&self, name: &str, query: Option<&str>) -> Url {
        let mut url = self.url.clone();
        // A URL with a host always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(name);
        }
        url.set_query(query);
        url
    }

    /// The error for a status that is not the one that was asked for.
    pub(super) fn refusal(&self, status: StatusCode, headers: &HeaderMap) -> Error {
        let (kind, meaning) = match self.dialect {
            Dialect::Http => http_refusal(status),
            Dialect::Imageio => imageio_refusal(status),
        };
        let context = format!("{} answered {status}: {meaning}", self.origin());
        Error::new(kind, context).after(net::retry_after(headers, SystemTime::now()))
    }

    /// Forgets where the redirects ended: the next request begins at the first URL, which may lead
    /// elsewhere by now.
    pub(super) fn forget_redirect(&self) {
        *lock(&self.resolved) = None;
    }

    /// What other marks mean from now on.
    pub(super) fn set_changes(&self, changes: Changes) {
        *lock(&self.changes) = changes;
    }

    /// Remembers which version of the object the first answer states, and compares later answers
    /// with it.
    pub(super) fn check_identity(&self, headers: &HeaderMap) -> Result<(), Error> {
        let found = Identity::of(headers);
        let mut identity = lock(&self.identity);
        match &*identity {
            None => *identity = Some(found),
            Some(first) => {
                let Err(change) = first.check(&found) else {
                    return Ok(());
                };
                let context = format!("{} changed while it was read: {change}", self.origin());
                if *lock(&self.changes) == Changes::Refused {
                    return Err(Error::new(Kind::Protocol, context));
                }
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{context}; the hash of the whole decides whether it did");
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HttpObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpObject")
            .field("origin", &self.origin())
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// A connection, and the URL that it was made for.
pub(super) type Connected = (Connection, Url);

/// Requests for one object, one after another, on one connection for as long as it lasts.
pub(super) struct HttpSession<'a> {
    object: &'a HttpObject,
    connector: Connector,
    connection: Option<Connected>,
    stall: Option<Duration>,
}

impl<'a> HttpSession<'a> {
    /// Ends blocking calls when `cancel` is pulled, in place of the connector's flag.
    pub(super) fn with_cancel(mut self, cancel: &Cancel) -> Self {
        self.connector = self.connector.with_cancel(cancel.clone());
        self
    }

    /// Waits this long without a byte, in place of the connector's time.
    pub(super) fn with_stall(mut self, stall: Duration) -> Self {
        self.stall = Some(stall);
        if let Some((connection, _)) = &mut self.connection {
            connection.set_stall(stall);
        }
        self
    }

    /// Goes on with a connection that another session has left, on which bytes are under way.
    pub(super) fn go_on(&mut self, connection: Option<Connected>) {
        self.connection = connection;
    }

    /// Waits for this time; `true` when its blocking calls have been ended meanwhile.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let cancel = self.connector.cancel();
        self.connector.clock().wait(time, cancel)
    }

    /// What ends its blocking calls.
    pub(super) const fn cancel(&self) -> &Cancel {
        self.connector.cancel()
    }

    /// Leaves the connection to another session.
    pub(super) fn leave(self) -> Option<Connected> {
        self.connection
    }

    pub(super) const fn object(&self) -> &'a HttpObject {
        self.object
    }

    /// Asks for the object with further headers: follows redirects, renews credentials.
    ///
    /// # Errors
    /// Every status that is neither a success nor an answer to the range as such (400, 416, 501).
    pub(super) fn get(&mut self, headers: &HeaderMap) -> Result<ResponseHead, Error> {
        let object = self.object;
        let mut credentials = object.authorization.headers()?;
        let mut url = lock(&object.resolved).clone();
        let (mut redirects, mut renewals) = (0, 0);
        loop {
            let remembered = redirects == 0 && url.is_some();
            let at = url.as_ref().unwrap_or(&object.url);
            let is_home = at.origin() == object.url.origin();
            let mut all = headers.clone();
            if is_home {
                all.extend(credentials.clone());
            }
            let answer = self.ask(&Method::GET, at, &all);
            // A store behind a redirect may be gone, or the signature in its URL have run out, while
            // the first URL leads to another.
            let has_failed = match &answer {
                Ok(head) => head.status.is_client_error() || head.status.is_server_error(),
                Err(error) => error.kind() != Kind::Cancelled,
            };
            if remembered && has_failed {
                self.close();
                object.forget_redirect();
                url = None;
                continue;
            }
            let head = answer?;
            if head.status.is_success() || matches!(head.status.as_u16(), 400 | 416 | 501) {
                if redirects > 0 {
                    *lock(&object.resolved) = url;
                }
                return Ok(head);
            }
            self.close();
            if object.dialect == Dialect::Http
                && let Some(to) =
                    object
                        .connector
                        .redirect_target(at, head.status, &head.headers)?
            {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(Error::new(
                        Kind::Protocol,
                        format!("{}: more than {MAX_REDIRECTS} redirects", object.origin()),
                    ));
                }
                url = Some(to);
                continue;
            }
            if head.status == StatusCode::UNAUTHORIZED
                && object.dialect == Dialect::Http
                && is_home
                && renewals < MAX_RENEWALS
            {
                renewals += 1;
                object.authorization.renew(&credentials)?;
                credentials = object.authorization.headers()?;
                (url, redirects) = (None, 0);
                continue;
            }
            return Err(object.refusal(head.status, &head.headers));
        }
    }

    /// One request and the head of its answer, whatever its status. A kept connection that the
    /// server has closed in the meantime is replaced.
    pub(super) fn ask(
        &mut self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<ResponseHead, Error> {
        if let Some((mut connection, origin)) = self.connection.take()
            && connection.is_reusable()
            && origin.origin() == url.origin()
        {
            match connection.request(method, url, headers) {
                Ok(head) => {
                    self.connection = Some((connection, origin));
                    return Ok(head);
                }
                Err(error) if error.kind() == net::Kind::Closed => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut connection = self.connector.connect(url)?;
        if let Some(stall) = self.stall {
            connection.set_stall(stall);
        }
        let head = connection.request(method, url, headers)?;
        self.connection = Some((connection, url.clone()));
        Ok(head)
    }

    /// Reads body bytes; fewer than `buf` holds means the end of the body.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> Result<usize, (usize, Error)> {
        let Some((connection, _)) = &mut self.connection else {
            return Err((0, Error::new(Kind::Internal, "no answer is being read")));
        };
        connection
            .read(buf)
            .map_err(|(count, error)| (count, error.into()))
    }

    /// Reads the rest of a small body.
    pub(super) fn read_to_end(&mut self, limit: usize) -> Result<Vec<u8>, Error> {
        let Some((connection, _)) = &mut self.connection else {
            return Err(Error::new(Kind::Internal, "no answer is being read"));
        };
        Ok(connection.read_to_end(limit)?)
    }

    /// After an answer that cannot be used: the next one may come from elsewhere.
    pub(super) fn give_up(&mut self) {
        self.close();
        self.object.forget_redirect();
    }

    /// Closes the connection, and gives up what is under way on it.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }
}

impl fmt::Debug for HttpSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSession")
            .field("object", &self.object)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

fn http_refusal(status: StatusCode) -> (Kind, &'static str) {
    match status.as_u16() {
        // Glance's answer for an image without data, and for one whose data its store has lost.
        204 => (Kind::Unusable, "the object has no data"),
        401 => (Kind::Credentials, "it refuses the credentials"),
        403 => (Kind::Permission, "it forbids reading the object"),
        404 => (Kind::Missing, "there is no such object"),
        410 => (Kind::Missing, "the object is gone"),
        416 => (
            Kind::Protocol,
            "it refuses a range that lies within the stated size",
        ),
        200 => (
            Kind::Protocol,
            "the whole object in place of the range that was asked for",
        ),
        300..=399 => (Kind::Protocol, "a redirect that leads nowhere"),
        501 => (Kind::Protocol, "it cannot do what was asked for"),
        408 | 429 | 500..=599 => (Kind::Busy, "it cannot answer now"),
        _ => (Kind::Protocol, "no answer to this request"),
    }
}

fn imageio_refusal(status: StatusCode) -> (Kind, &'static str) {
    match status.as_u16() {
        // Unknown, expired and cancelled tickets are all 403.
        401 | 403 | 404 | 410 => (Kind::Lost, "the image ticket has ended"),
        416 => (
            Kind::Protocol,
            "it refuses a range that lies within the disk's size",
        ),
        200 => (
            Kind::Protocol,
            "the whole disk in place of the range that was asked for",
        ),
        408 | 429 | 500..=599 => (Kind::Busy, "it cannot answer now"),
        _ => (Kind::Protocol, "no answer to this request"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
