//! What is answered at which path.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prometheus_client::{encoding::text, registry::Registry};
use tokio::sync::watch;

use super::{
    LastScrape,
    accept::{self, Form},
};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The pages of one listener: `/healthz`, and those that are there.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) metrics: Option<Metrics>,
    /// Whether the process is ready, for `/readyz`.
    pub(super) ready: Option<watch::Receiver<bool>>,
}

/// The metrics, and where they are.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) path: String,
    pub(super) registry: Arc<Registry>,
    pub(super) last: Arc<LastScrape>,
}

impl Pages {
    /// The answer to a request, whatever its body.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET\n");
        }
        let path = request.uri().path();
        if let Some(metrics) = self.metrics.as_ref().filter(|metrics| metrics.path == path) {
            let Some(form) = Form::wanted(request.headers()) else {
                let forms =
                    "there is application/openmetrics-text (1.0.0) and text/plain (0.0.4)\n";
                return response(StatusCode::NOT_ACCEPTABLE, PLAIN, forms);
            };
            return metrics.last.scrape(|| encoded(&metrics.registry, form));
        }
        match (path, &self.ready) {
            ("/healthz", _) => response(StatusCode::OK, PLAIN, "ok\n"),
            ("/readyz", Some(ready)) if *ready.borrow() => response(StatusCode::OK, PLAIN, "ok\n"),
            ("/readyz", Some(_)) => {
                response(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "not ready yet\n")
            }
            _ => response(StatusCode::NOT_FOUND, PLAIN, self.list()),
        }
    }

    fn list(&self) -> String {
        let metrics = self.metrics.as_ref().map(|metrics| metrics.path.as_str());
        let ready = self.ready.as_ref().map(|_| "/readyz");
        let all: Vec<&str> = [Some("/healthz"), metrics, ready]
            .into_iter()
            .flatten()
            .collect();
        format!("there is {}\n", all.join(", "))
    }
}

fn encoded(registry: &Registry, form: Form) -> Response<Full<Bytes>> {
    let mut body = String::new();
    match text::encode(&mut body, registry) {
        Ok(()) => {
            let body = match form {
                Form::OpenMetrics => body,
                Form::Prometheus => accept::to_prometheus(&body),
            };
            let mut response = response(StatusCode::OK, form.content_type(), body);
            let by_accept = HeaderValue::from_static("accept");
            response.headers_mut().insert(header::VARY, by_accept);
            response
        }
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
