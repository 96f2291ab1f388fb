//! Answering: bounded in connections, in time and in bytes.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;

use super::LastScrape;

/// Clients at a time; one Prometheus and one controller use two.
const MAX_CONNECTIONS: usize = 16;
/// For a TLS handshake, and for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a whole connection, so that sixteen idle ones cannot lock others out for long.
const MAX_AGE: Duration = Duration::from_mins(1);
/// For answers under way at the end.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Head of a request.
const MAX_HEAD: usize = 16 << 10;

/// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What every connection needs.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) last: Arc<LastScrape>,
    pub(super) metrics_path: String,
    pub(super) ready: Option<watch::Receiver<bool>>,
    pub(super) tls: Option<TlsAcceptor>,
}

/// Accepts and answers until `stop` ends.
pub(super) async fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()>,
) {
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared), stopping.subscribe()));
                }
                Err(error) => {
                    tracing::warn!("metrics endpoint: cannot accept a connection: {error}");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let Some(tls) = shared.tls.clone() else {
        return http(stream, shared, stopping).await;
    };
    match time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => http(stream, shared, stopping).await,
        Ok(Err(error)) => tracing::debug!("metrics endpoint: TLS handshake failed: {error}"),
        Err(_) => tracing::debug!("metrics endpoint: TLS handshake took too long"),
    }
}

async fn http<S>(stream: S, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let answer = answer(&request, &shared);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => Some(result),
        _ = stopping.wait_for(|stopping| *stopping) => None,
        () = time::sleep(MAX_AGE) => None,
    };
    let result = if result.is_some() {
        result
    } else {
        connection.as_mut().graceful_shutdown();
        time::timeout(GRACE, connection).await.ok()
    };
    if let Some(Err(error)) = result {
        tracing::debug!("metrics endpoint: {error}");
    }
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
    }
    let path = request.uri().path();
    if path == shared.metrics_path {
        return shared.last.scrape(|| metrics(&shared.registry));
    }
    match (path, &shared.ready) {
        ("/healthz", _) => response(StatusCode::OK, PLAIN, "ok\n"),
        ("/readyz", Some(ready)) if *ready.borrow() => response(StatusCode::OK, PLAIN, "ok\n"),
        ("/readyz", Some(_)) => response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready yet\n"),
        (_, ready) => {
            let ready = ready.as_ref().map_or("", |_| ", /readyz");
            let there = format!("there is {}{ready} and /healthz\n", shared.metrics_path);
            response(StatusCode::NOT_FOUND, PLAIN, there)
        }
    }
}

fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let mut body = String::new();
    match text::encode(&mut body, registry) {
        Ok(()) => response(StatusCode::OK, OPENMETRICS, body),
        Err(error) => {
            tracing::error!("metrics cannot be encoded: {error}");
            response(
                StatusCode::INTERNAL_SERVER_ERROR,
                PLAIN,
                "the metrics cannot be encoded\n",
            )
        }
    }
}

fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_timers_is_right() {
        let head = testkit::timers::stated("metrics: head of a request, TLS handshake");
        assert_eq!(head, [HEAD_TIMEOUT]);
        assert_eq!(testkit::timers::stated("metrics: a connection"), [MAX_AGE]);
    }
}
