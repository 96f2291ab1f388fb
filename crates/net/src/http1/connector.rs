//! Opens the connections of the data path: TCP, tunnel, TLS.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, StatusCode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use url::{Host, Url};

use super::{
    Connection,
    head::{self, field},
    transport::Transport,
};
use crate::{
    Cancel, Clock, Egress, Error, Kind, Proxies, Proxy, Settings, Timeouts,
    origin::Origin,
    proxy::{proxy_credentials, refused_tunnel},
    redirect,
    tcp::{Socket, dial},
    tls::{HandshakeTries, TlsStream},
};

/// Opens connections with one TLS configuration, whose sessions they resume. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    tls: Arc<ClientConfig>,
    proxies: Proxies,
    egress: Egress,
    timeouts: Timeouts,
    user_agent: HeaderValue,
    clock: Arc<dyn Clock>,
    cancel: Cancel,
}

impl Connector {
    /// A connector from the settings.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`].
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, cancel: Cancel) -> Result<Self, Error> {
        Ok(Self {
            tls: Arc::new(settings.trust.data_config()?),
            proxies: settings.proxies.clone(),
            egress: settings.egress.clone(),
            timeouts: settings.timeouts,
            user_agent: settings.user_agent_header()?,
            clock,
            cancel,
        })
    }

    /// The same connector with another stop flag, for the connections of one copy: its flag is a
    /// child that the copy's own failure pulls as well.
    #[must_use]
    pub fn with_cancel(&self, cancel: Cancel) -> Self {
        Self {
            cancel,
            ..self.clone()
        }
    }

    /// The clock of its time limits.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Its stop flag.
    #[must_use]
    pub const fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Where an answer from `from` redirects to, if it does: 301, 302, 303, 307 or 308 with a `Location`,
    /// whose fragment is removed. A caller that follows it counts the redirects, and passes headers
    /// through [`crate::redirected_headers`].
    ///
    /// # Errors
    /// [`Kind::Redirect`] when it leaves https and that is not allowed, has user information, or is no http
    /// URL.
    pub fn redirect_target(
        &self,
        from: &Url,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Option<Url>, Error> {
        redirect::target(from, status, headers, self.egress.may_leave_https())
    }

    /// Connects to the origin (scheme, host, port) of `url`, through a proxy if one applies.
    ///
    /// # Errors
    /// [`Kind::Redirect`] when the rules of [`Egress`] refuse it. All of them with [`Error::was_sent`] false.
    pub fn connect(&self, url: &Url) -> Result<Connection, Error> {
        let origin = Origin::of(url)?;
        let proxy = self.proxies.for_url(url)?;
        self.egress.check(url, proxy.is_some())?;
        let mut tries = HandshakeTries::default();
        let transport = loop {
            match self.transport(&origin, proxy.as_ref()) {
                Ok(transport) => break transport,
                Err(error) => tries.count(error).map_err(|error| error.sent(false))?,
            }
        };
        Ok(Connection::new(
            transport,
            origin,
            proxy,
            self.user_agent.clone(),
        ))
    }

    fn transport(&self, origin: &Origin, proxy: Option<&Proxy>) -> Result<Transport, Error> {
        let deadline = self.clock.now().saturating_add(self.timeouts.connect);
        let peer = proxy.map_or(origin, Proxy::origin);
        // The proxy is the user's.
        let egress = proxy.is_none().then_some(&self.egress);
        let stream = dial(peer, egress, deadline, &*self.clock, &self.cancel)?;
        let mut socket = Socket::new(
            stream,
            origin.to_string(),
            Arc::clone(&self.clock),
            self.cancel.clone(),
            &self.timeouts,
            deadline,
        )
        .map_err(|error| {
            let text = format!("{origin}: the socket cannot be set up");
            Error::with_source(Kind::Connect, text, error)
        })?;
        if let Some(proxy) = proxy
            && origin.is_https()
        {
            self.tunnel(&mut socket, origin, proxy)?;
        }
        let mut transport = if origin.is_https() {
            let tls = TlsStream::connect(socket, Arc::clone(&self.tls), server_name(origin)?)?;
            Transport::Tls(Box::new(tls))
        } else {
            Transport::Plain(socket)
        };
        transport.lift_deadline();
        Ok(transport)
    }

    /// Asks the proxy for a tunnel to the origin (RFC 9110, 9.3.6).
    fn tunnel(&self, socket: &mut Socket, origin: &Origin, proxy: &Proxy) -> Result<(), Error> {
        let refuse = |why: String| {
            let text = format!("{origin}: the proxy {} {why}", proxy.origin());
            Error::new(Kind::Proxy, text)
        };
        let authority = origin.authority();
        let mut request =
            format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        field(&mut request, "User-Agent", &self.user_agent);
        if let Some(authorization) = proxy.authorization() {
            field(&mut request, "Proxy-Authorization", authorization);
        }
        request.extend_from_slice(b"\r\n");
        socket.write_all(&request)?;

        let mut received = Vec::new();
        let head = loop {
            if let Some(head) = head::parse(&received).map_err(&refuse)? {
                if head.status.is_informational() {
                    received.drain(..head.length);
                    continue;
                }
                break head;
            }
            let mut piece = [0; 1024];
            match socket.read(&mut piece, 1)? {
                0 => return Err(refuse("closed the connection".into())),
                count => received.extend_from_slice(&piece[..count]),
            }
        };
        if head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            return Err(proxy_credentials(origin, proxy.origin()));
        }
        if !head.status.is_success() {
            return Err(refused_tunnel(origin, proxy.origin(), head.status));
        }
        if head.length < received.len() {
            return Err(refuse("sent bytes before the tunnel was used".into()));
        }
        Ok(())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("proxies", &self.proxies)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

fn server_name(origin: &Origin) -> Result<ServerName<'static>, Error> {
    match origin.host() {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| {
            let text = format!("{origin}: the host is not a DNS name");
            Error::with_source(Kind::Settings, text, error)
        }),
        Host::Ipv4(address) => Ok(ServerName::IpAddress((*address).into())),
        Host::Ipv6(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}
