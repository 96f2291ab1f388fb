//! A small REST client for control calls: bounded answers, bounded time, redirects by hand.

use std::{error, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, Uri, header::USER_AGENT};
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use reqwest::{
    Client, ClientBuilder, Proxy,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tower_service::Service;
use url::{Host, Url};

use super::{Answer, Request, retry};
use crate::{
    Cancel, Connector, Egress, Error, Kind, Proxies, Settings, SystemClock,
    error::resolve_error,
    origin::Origin,
    proxy::proxy_credentials,
    redirect,
    tls::{HandshakeTries, broken_tls, handshake_error},
};

/// How long an idle connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(30);

/// The error of a request for a tunnel. hyper-util does not export its name.
type TunnelError = <Tunnel<HttpConnector> as Service<Uri>>::Error;

/// The client. Cheap to clone; connections are shared.
#[derive(Debug, Clone)]
pub struct Rest {
    direct: Client,
    /// Resolves nothing but the names of proxies.
    proxied: Client,
    proxies: Proxies,
    egress: Egress,
    /// Asks a proxy once more why it refuses.
    connector: Connector,
}

impl Rest {
    /// Largest body of an answer, in bytes.
    pub const MAX_BODY: usize = 16 << 20;

    /// A client from the settings.
    ///
    /// # Errors
    /// [`crate::Kind::Settings`].
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where clients are made from the settings"
    )]
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, settings.user_agent_header()?);
        let config = settings.trust.client_config()?;
        let builder = |egress: Egress| {
            Client::builder()
                .tls_backend_preconfigured(config.clone())
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_proxy()
                .dns_resolver(Arc::new(Resolver(egress)))
                .connect_timeout(settings.timeouts.connect)
                .pool_idle_timeout(IDLE)
                .default_headers(headers.clone())
        };
        let build = |builder: ClientBuilder| {
            builder.build().map_err(|error| {
                Error::with_source(
                    Kind::Settings,
                    "the HTTP client cannot be made",
                    error.without_url(),
                )
            })
        };
        let proxies = settings.proxies.clone();
        let by_proxy = Proxy::custom(move |url| {
            // What cannot be used was an error before the request was made.
            let proxy = proxies.for_url(url).ok().flatten()?;
            Some(proxy.url().clone())
        });
        Ok(Self {
            direct: build(builder(settings.egress.clone()))?,
            // The proxies are the user's.
            proxied: build(builder(Egress::anywhere()).proxy(by_proxy))?,
            egress: settings.egress.clone(),
            proxies: settings.proxies.clone(),
            connector: Connector::new(settings, Arc::new(SystemClock::default()), Cancel::new())?,
        })
    }

    /// Sends a request and reads the answer, whatever its status.
    ///
    /// # Errors
    /// [`Error::was_sent`] says whether the server may have acted on the request. A redirect of
    /// anything but `GET` and `HEAD`, from https to http, or the sixth in a row is
    /// [`crate::Kind::Redirect`]; so is what the rules of [`Egress`] refuse.
    pub async fn send(&self, request: Request) -> Result<Answer, Error> {
        let peer = Origin::of(&request.url)?.to_string();
        let (request, peer) = (&request, peer.as_str());
        retry::run(request.retry, &request.method, peer, || async move {
            tokio::time::timeout(request.timeout, self.follow(request))
                .await
                .unwrap_or_else(|_| {
                    let text = format!("{peer}: no whole answer within {:?}", request.timeout);
                    Err(Error::new(Kind::Stalled, text))
                })
        })
        .await
    }

    /// One try, with its redirects.
    async fn follow(&self, request: &Request) -> Result<Answer, Error> {
        let mut url = request.url.clone();
        let mut headers = request.headers.clone();
        let mut body = request.body.clone();
        for _ in 0..=redirect::MOST {
            let mut tries = HandshakeTries::default();
            let answer = loop {
                let exchange = self.exchange(&request.method, &url, headers.clone(), body.clone());
                match exchange.await {
                    Ok(answer) => break answer,
                    // An alert may come after the request was sent.
                    Err(error) if error.was_sent() => return Err(error),
                    Err(error) => tries.count(error)?,
                }
            };
            let Some(to) = self.redirect_target(&url, &answer)? else {
                return Ok(answer);
            };
            if !matches!(request.method, Method::GET | Method::HEAD) {
                return Err(Error::new(
                    Kind::Redirect,
                    format!(
                        "{}: a {} was redirected to {}, which is not followed: give that address \
                         in place of the first",
                        Origin::of(&url)?,
                        request.method,
                        Origin::of(&to)?,
                    ),
                ));
            }
            if Origin::of(&url)? != Origin::of(&to)? {
                body = Bytes::new();
            }
            headers = redirect::headers_for(&url, &to, headers)?;
            url = to;
        }
        Err(Error::new(
            Kind::Redirect,
            format!(
                "{}: more than {} redirects in a row",
                Origin::of(&request.url)?,
                redirect::MOST
            ),
        ))
    }

    fn redirect_target(&self, from: &Url, answer: &Answer) -> Result<Option<Url>, Error> {
        let may_leave_https = self.egress.may_leave_https();
        redirect::target(from, answer.status, &answer.headers, may_leave_https)
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let origin = Origin::of(url)?;
        let proxy = self.proxies.for_url(url)?;
        self.egress.check(url, proxy.is_some())?;
        let client = if proxy.is_some() {
            &self.proxied
        } else {
            &self.direct
        };
        let mut request = client.request(method.clone(), url.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let fail = |error| self.error(url, &origin, error);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let refused = matches!(find(&error), Some(TunnelError::TunnelUnsuccessful));
                let error = fail(error);
                return Err(if refused {
                    self.tunnel_error(url, error).await
                } else {
                    error
                });
            }
        };
        if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = &proxy
        {
            return Err(proxy_credentials(&origin, proxy.origin()));
        }
        let too_large = || {
            Error::new(
                Kind::TooLarge,
                format!(
                    "{origin}: the answer is larger than {} bytes",
                    Self::MAX_BODY
                ),
            )
        };
        let stated = response.content_length().unwrap_or_default();
        if *method != Method::HEAD && stated > Self::MAX_BODY as u64 {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            if chunk.len() > Self::MAX_BODY - body.len() {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body: body.freeze(),
            url: url.clone(),
        })
    }

    fn error(&self, url: &Url, origin: &Origin, error: reqwest::Error) -> Error {
        let error = error.without_url();
        if let Some(tls) = find::<rustls::Error>(&error) {
            let peer = origin.to_string();
            if !error.is_connect() {
                return broken_tls(&peer, tls);
            }
            return handshake_error(&peer, tls).sent(false);
        }
        if let Some(resolve) = find::<Error>(&error) {
            return Error::new(resolve.kind(), resolve.to_string()).sent(false);
        }
        if error.is_builder() {
            let text = format!("{origin}: the request cannot be made");
            return Error::with_source(Kind::Settings, text, error);
        }
        if error.is_connect() {
            return self.connect_error(url, origin, error);
        }
        let (kind, what) = if error.is_timeout() {
            (Kind::Stalled, "no answer in time")
        } else {
            match find::<hyper::Error>(&error) {
                Some(broken) if broken.is_parse() => (Kind::Protocol, "the answer is not HTTP"),
                _ => (Kind::Closed, "the connection ended before the answer"),
            }
        };
        Error::with_source(kind, format!("{origin}: {what}"), error)
    }

    /// Why the proxy refuses a tunnel. The client does not say with which status, so that it is asked
    /// for on a connection of our own; `error` is the client's.
    async fn tunnel_error(&self, url: &Url, error: Error) -> Error {
        let (connector, url) = (self.connector.clone(), url.clone());
        let asked = tokio::task::spawn_blocking(move || connector.connect(&url).map(drop));
        match asked.await {
            Ok(Err(reason)) => reason,
            _ => error,
        }
    }

    fn connect_error(&self, url: &Url, origin: &Origin, error: reqwest::Error) -> Error {
        let Ok(Some(proxy)) = self.proxies.for_url(url) else {
            let text = format!("{origin}: no connection");
            return Error::with_source(Kind::Connect, text, error);
        };
        let proxy = proxy.origin();
        if let Some(TunnelError::ProxyAuthRequired) = find(&error) {
            return proxy_credentials(origin, proxy);
        }
        // An operating system's error is of the way to the proxy; what else fails is its refusal.
        let (kind, text) = if find::<io::Error>(&error).is_some() || error.is_timeout() {
            (
                Kind::Connect,
                format!("{origin}: no connection to the proxy {proxy}"),
            )
        } else {
            (
                Kind::Proxy,
                format!("{origin}: the proxy {proxy} refuses to connect"),
            )
        };
        Error::with_source(kind, text, error)
    }
}

/// The system's resolver, with errors that differ from those of connecting. It gives only the
/// addresses that the rules admit.
struct Resolver(Egress);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => {
                    let host = Host::Domain(name.as_str().to_owned());
                    let found = egress.admit(&host, found.collect())?;
                    Ok(Box::new(found.into_iter()) as Addrs)
                }
                Err(error) => Err(resolve_error(name.as_str(), &error).into()),
            }
        })
    }
}

/// The first `E` in a chain of errors, those wrapped in I/O errors included.
fn find<'a, E: error::Error + 'static>(error: &'a (dyn error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
