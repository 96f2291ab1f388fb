//! An API server in a few lines: with scripted answers, that records the requests.

use std::sync::{Arc, Mutex};

use futures::Stream;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use kube::client::Body;
use serde_json::{Value, json};

/// One request.
#[allow(dead_code, reason = "shared by tests that use a part each")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// Method and path, without the query.
    pub(crate) line: String,
    /// The query, or nothing.
    pub(crate) query: String,
    /// Body.
    pub(crate) body: Value,
}

/// The server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Api {
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[allow(dead_code, reason = "shared by tests that use a part each")]
impl Api {
    /// A client of a server that answers each request with a status and a body.
    pub(crate) fn client(
        &self,
        answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
    ) -> kube::Client {
        let asked = Arc::clone(&self.asked);
        let answer = Arc::new(answer);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = Asked {
                    line: format!("{} {}", head.method, head.uri.path()),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    body: serde_json::from_slice(&body).unwrap_or_default(),
                };
                let (status, body) = answer(&request);
                asked.lock().unwrap().push(request);
                if status == SILENCE {
                    std::future::pending::<()>().await;
                }
                let (status, body) = match status {
                    IDLE => {
                        tokio::time::sleep(std::time::Duration::from_mins(1)).await;
                        (200, Full::default().boxed())
                    }
                    DEAD => (200, StreamBody::new(silence()).boxed()),
                    status => (status, Full::from(body.to_string()).boxed()),
                };
                let response = Response::builder().status(status).body(body);
                Ok::<_, kube::Error>(response.unwrap())
            }
        });
        kube::Client::new(service, "default")
    }

    /// Takes the requests so far.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Takes the method and path of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.take().into_iter().map(|asked| asked.line).collect()
    }
}

/// Instead of a status: the request is never answered.
pub(crate) const SILENCE: u16 = 0;

/// Instead of a status: a watch in which nothing happens until its time is over, after a minute.
pub(crate) const IDLE: u16 = 1;

/// Instead of a status: a watch whose connection says nothing, and does not end.
#[allow(dead_code, reason = "shared by tests that use a part each")]
pub(crate) const DEAD: u16 = 2;

fn silence() -> impl Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> {
    futures::stream::pending()
}

/// The API server's form of a refusal.
#[allow(dead_code, reason = "shared by tests that use a part each")]
pub(crate) fn refusal(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}
