//! The API server's HTTP: which request does what to the store.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};

use super::{
    parts::Moments,
    store::{CONFLICT, GONE, Key, Refusal, Store, Write},
};

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Serves until the future is dropped.
pub(super) async fn serve(store: Arc<Store>, moments: Arc<Moments>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        let (store, moments) = (Arc::clone(&store), Arc::clone(&moments));
        let service = service_fn(move |request| {
            let (store, moments) = (Arc::clone(&store), Arc::clone(&moments));
            async move { Ok::<_, Infallible>(answer(&store, &moments, request).await) }
        });
        connections
            .spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

/// What a path names.
struct Path {
    key: Key,
    subresource: String,
}

impl Path {
    /// From `/api/v1/namespaces/NAMESPACE/RESOURCE/NAME/SUBRESOURCE`, in which parts may be missing.
    fn parse(path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/');
        let version = if parts.next() == Some("api") { 1 } else { 2 };
        let mut parts = parts.skip(version).peekable();
        let mut namespace = "";
        if parts.next_if_eq(&"namespaces").is_some() {
            namespace = parts.next().unwrap_or_default();
        }
        let mut part = || parts.next().unwrap_or_default();
        let key = Key::new(part(), namespace, part());
        Self {
            key,
            subresource: part().to_owned(),
        }
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

async fn answer(store: &Arc<Store>, moments: &Moments, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = Path::parse(head.uri.path());
    let query = head.uri.query().unwrap_or_default();
    if query.contains("watch=true") {
        return watch(store, &path.key.resource, query);
    }
    let outcome = match (path.key.resource.as_str(), &head.method) {
        // Definitions with a status, as ours have.
        ("", _) => Ok(discovery()),
        ("selfsubjectaccessreviews", _) => {
            let mut review = body;
            review["status"] = json!({"allowed": true});
            Ok(review)
        }
        // Without an election.
        ("leases", _) => Err((403, "Forbidden")),
        (_, &Method::GET) => read(store, &path.key, query),
        _ => {
            moments.note_write(&path.key, &head.method);
            store.note(written(&head.method, &path, &body));
            write(store, &head, &path, body)
        }
    };
    let (code, body) = match outcome {
        Ok(body) => (200, body),
        Err((code, reason)) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": reason, "reason": reason, "code": code,
            });
            (code, status)
        }
    };
    let body = Full::from(body.to_string()).boxed();
    Response::builder().status(code).body(body).unwrap()
}

fn read(store: &Store, key: &Key, query: &str) -> Result<Value, Refusal> {
    if !key.name.is_empty() {
        return store.get(key).ok_or(GONE);
    }
    // Nothing here writes the events that the controller looks for.
    let is_of_event = key.resource == "events";
    let (mut items, version) = store.list(&key.resource, query.contains("labelSelector="));
    items.retain(|_| !is_of_event);
    let number = |name| parameter(query, name).and_then(|value| value.parse::<usize>().ok());
    let first = number("continue").unwrap_or_default();
    let end = number("limit").map_or(items.len(), |limit| items.len().min(first + limit));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < items.len() {
        metadata["continue"] = json!(end.to_string());
    }
    let items = items.get(first..end).unwrap_or_default();
    Ok(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
}

fn written(method: &Method, path: &Path, body: &Value) -> Write {
    let verb = match *method {
        Method::POST => "create",
        Method::DELETE => "delete",
        _ => "patch",
    };
    let reason = [&body["reason"], &body["status"]["claims"][0]["reason"]];
    let reason = reason.into_iter().find_map(Value::as_str);
    let Key { resource, name, .. } = &path.key;
    let parts = [resource.as_str(), &path.subresource];
    let object = parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    let about = [&body["involvedObject"]["name"], &body["metadata"]["name"]];
    let about = about.into_iter().find_map(Value::as_str);
    Write {
        what: [verb, &object]
            .into_iter()
            .chain(reason)
            .collect::<Vec<_>>()
            .join(" "),
        name: about.filter(|_| name.is_empty()).unwrap_or(name).to_owned(),
    }
}

fn write(
    store: &Store,
    head: &http::request::Parts,
    path: &Path,
    body: Value,
) -> Result<Value, Refusal> {
    match head.method {
        Method::POST => {
            let name = body["metadata"]["name"].as_str().unwrap_or_default();
            let key = Key::new(&path.key.resource, &path.key.namespace, name);
            store.create(&key, body)
        }
        Method::DELETE => store.delete(&path.key, body["preconditions"]["uid"].as_str()),
        _ => {
            let kind = head
                .headers
                .get("content-type")
                .map_or(&b""[..], |kind| kind.as_bytes());
            store.change(&path.key, |object| {
                let mut changed = object.clone();
                if kind.starts_with(b"application/json-patch") {
                    let steps: json_patch::Patch =
                        serde_json::from_value(body).map_err(|_| (400, "BadRequest"))?;
                    json_patch::patch(&mut changed, &steps).map_err(|_| (422, "Invalid"))?;
                } else {
                    let uid = &body["metadata"]["uid"];
                    if uid.is_string() && *uid != object["metadata"]["uid"] {
                        return Err(CONFLICT);
                    }
                    json_patch::merge(&mut changed, &body);
                }
                // A subresource changes nothing but the status, and the resource all else.
                if path.subresource == "status" {
                    object["status"] = changed["status"].take();
                } else {
                    changed["status"] = object["status"].take();
                    *object = changed;
                }
                Ok(())
            })
        }
    }
}

/// The changes of one resource, as they come, until the time of the watch is over.
fn watch(store: &Arc<Store>, resource: &str, query: &str) -> Answer {
    let only_labelled = query.contains("labelSelector=");
    let number = |name| parameter(query, name).and_then(|value| value.parse::<usize>().ok());
    let from = number("resourceVersion").unwrap_or_default();
    let time = number("timeoutSeconds").unwrap_or(60);
    let end = Instant::now() + Duration::from_secs(u64::try_from(time).unwrap_or(60));
    let start = (Arc::clone(store), resource.to_owned(), from);
    let lines = stream::unfold(start, move |(store, resource, mut seen)| async move {
        loop {
            tokio::time::timeout_at(end, store.changed_since(seen))
                .await
                .ok()?;
            let lines;
            (lines, seen) = store.lines(&resource, only_labelled, seen);
            if !lines.is_empty() {
                let data = Bytes::from(lines.concat());
                return Some((Ok(Frame::data(data)), (store, resource, seen)));
            }
        }
    });
    Response::builder()
        .status(200)
        .body(StreamBody::new(lines).boxed())
        .unwrap()
}

fn discovery() -> Value {
    let resources = ["openstackvolumepopulators", "ovirtvolumepopulators"];
    let resources = resources
        .into_iter()
        .flat_map(|name| [name.to_owned(), format!("{name}/status")]);
    let resources: Vec<Value> = resources
        .map(|name| {
            json!({"name": name, "singularName": "", "namespaced": true, "kind": "K", "verbs": ["patch"]})
        })
        .collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": "forklift.konveyor.io/v1beta1", "resources": resources,
    })
}
