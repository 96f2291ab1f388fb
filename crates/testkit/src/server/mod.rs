//! A scripted HTTP/1.1 server, plain or over TLS: right by default, wrong on command.
//!
//! ```
//! use testkit::{Cut, Fault, Server, When};
//!
//! let server = Server::builder().object("/disk", vec![7; 1000]).start();
//! server.fault(When::ranged(), Fault::cut(10, Cut::Reset));
//! let url = server.url("/disk");
//! # assert!(url.starts_with("http://127.0.0.1:"));
//! ```

mod deliver;
mod fault;
mod log;
mod port;
mod reply;
mod request;
mod serve;
mod wire;

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use rustls::ServerConfig;

pub use fault::{ConnectionFault, Cut, Fault, When};
pub use log::Event;
pub use reply::{Body, Object, Reply};
pub use request::Request;

use crate::{Gate, lock};
use fault::Rule;
use log::Log;
use port::{Listener, Port};

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// Makes a [`Server`].
pub struct ServerBuilder {
    address: IpAddr,
    tls: Option<Arc<ServerConfig>>,
    routes: Vec<(String, Arc<Handler>)>,
}

impl ServerBuilder {
    /// Listens on another address than 127.0.0.1, such as 127.0.0.2 for "another host".
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    /// Speaks TLS ([`crate::pki::Identity::server_config`]).
    pub fn tls(mut self, config: Arc<ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Answers paths that begin with `prefix`; the longest prefix wins, anything else is 404.
    pub fn route(
        mut self,
        prefix: &str,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.routes.push((prefix.to_owned(), Arc::new(handler)));
        self
    }

    /// Serves an object, whole or by range.
    pub fn object(self, prefix: &str, object: impl Into<Object>) -> Self {
        let object = object.into();
        self.route(prefix, move |request| Reply::object(request, &object))
    }

    /// Starts it.
    pub fn start(mut self) -> Server {
        self.routes
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let port = Port::reserve(self.address);
        let shared = Arc::new(Shared {
            tls: self.tls,
            routes: Mutex::new(self.routes),
            rules: Mutex::default(),
            connection_faults: Mutex::default(),
            log: Log::default(),
            open: Mutex::default(),
            closing: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        });
        let server = Server {
            port,
            shared,
            acceptor: Mutex::new(None),
        };
        server.listen();
        server
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder").finish_non_exhaustive()
    }
}

/// A running server. Dropping it ends every connection and joins the acceptor.
pub struct Server {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<(Listener, JoinHandle<()>)>>,
}

impl Server {
    /// A plain server on 127.0.0.1 without routes.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            address: Ipv4Addr::LOCALHOST.into(),
            tls: None,
            routes: Vec::new(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// `scheme://address:port` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.address())
    }

    /// Like [`Self::url`], with a name in place of the address.
    pub fn url_as(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme(), self.address().port())
    }

    fn scheme(&self) -> &'static str {
        if self.shared.tls.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Adds a route to the running server, such as one whose answers name the server's own URL.
    pub fn route(&self, prefix: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        let mut routes = lock(&self.shared.routes);
        routes.retain(|(known, _)| known != prefix);
        routes.push((prefix.to_owned(), Arc::new(handler)));
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// Adds a fault to the script.
    pub fn fault(&self, when: When, fault: Fault) {
        lock(&self.shared.rules).push(Rule {
            when,
            fault,
            met: 0,
        });
    }

    /// Forgets the script; what is under way goes on.
    pub fn clear_faults(&self) {
        lock(&self.shared.rules).clear();
        lock(&self.shared.connection_faults).clear();
    }

    /// The connection with this number, counted from 0 in the order of acceptance, goes wrong.
    pub fn connection_fault(&self, connection: usize, fault: ConnectionFault) {
        lock(&self.shared.connection_faults).push((connection..connection + 1, fault));
    }

    /// Every connection from this number on goes wrong.
    pub fn connection_faults_from(&self, connection: usize, fault: ConnectionFault) {
        lock(&self.shared.connection_faults).push((connection..usize::MAX, fault));
    }

    /// Stops listening: new connections are refused. The port stays ours; open connections go on.
    pub fn refuse(&self) {
        let Some((listener, thread)) = lock(&self.acceptor).take() else {
            return;
        };
        listener.wake();
        thread.join().unwrap();
    }

    /// Listens, again after [`Self::refuse`].
    pub fn listen(&self) {
        let mut acceptor = lock(&self.acceptor);
        if acceptor.is_some() {
            return;
        }
        let listener = self.port.listen();
        let shared = Arc::clone(&self.shared);
        let accepting = listener.clone();
        let thread = thread::spawn(move || serve::accept(&accepting, &shared));
        *acceptor = Some((listener, thread));
    }

    /// Ends every open connection now.
    pub fn drop_connections(&self) {
        self.shared.end_connections();
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        requests(&self.events())
    }

    /// Number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// All events so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.shared.log.events()
    }

    /// Waits until `find` finds something in the log, and gives it; panics with the log after
    /// [`crate::DEADLINE`]. `what` says in the panic what was waited for.
    pub fn wait_for<T>(&self, what: &str, find: impl FnMut(&[Event]) -> Option<T>) -> T {
        self.shared.log.wait_for(what, find)
    }

    /// Waits for a request that meets the condition.
    pub fn wait_for_request(&self, what: &str, meets: impl Fn(&Request) -> bool) -> Request {
        self.wait_for(what, |events| {
            requests(events).into_iter().find(|request| meets(request))
        })
    }

    /// Waits until this many faults are held at a gate ([`Event::Held`]).
    pub fn wait_for_held(&self, count: usize) {
        self.wait_for("a fault that is held at its gate", |events| {
            let held = |event: &&Event| matches!(event, Event::Held { .. });
            (events.iter().filter(held).count() >= count).then_some(())
        });
    }

    /// Waits until every connection that was accepted so far has ended.
    pub fn wait_for_idle(&self) {
        self.wait_for("the end of all connections", |events| {
            let count = |closed: bool| {
                let wanted = |event: &&Event| match event {
                    Event::Connected { .. } => !closed,
                    Event::Closed { .. } => closed,
                    _ => false,
                };
                events.iter().filter(wanted).count()
            };
            (count(true) == count(false)).then_some(())
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.refuse();
        self.shared.end_connections();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.url(""))
    }
}

/// What the acceptor and the connections share.
pub(crate) struct Shared {
    tls: Option<Arc<ServerConfig>>,
    routes: Mutex<Vec<(String, Arc<Handler>)>>,
    rules: Mutex<Vec<Rule>>,
    connection_faults: Mutex<Vec<(std::ops::Range<usize>, ConnectionFault)>>,
    log: Log,
    open: Mutex<HashMap<usize, TcpStream>>,
    closing: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
}

impl Shared {
    fn answer(&self, request: &Request) -> Reply {
        let mut faults: Vec<Fault> = lock(&self.rules)
            .iter_mut()
            .filter_map(|rule| rule.strike(request))
            .collect();
        let mut other = None;
        faults.retain(|fault| match fault {
            Fault::Answer(reply) => {
                other = Some(reply.clone());
                false
            }
            _ => true,
        });
        let mut reply = other.unwrap_or_else(|| self.handle(request));
        // A route's own may be a whole answer, which would pass one that is held.
        faults.append(&mut reply.faults);
        reply.faults = faults;
        reply
    }

    fn handle(&self, request: &Request) -> Reply {
        let handler = lock(&self.routes)
            .iter()
            .find(|(prefix, _)| request.path().starts_with(prefix.as_str()))
            .map(|(_, handler)| Arc::clone(handler));
        match handler {
            Some(handler) => handler(request),
            None => Reply::text(404, "no route\n"),
        }
    }

    fn hold(&self, gate: &Gate, seq: usize) {
        self.log.push(Event::Held { seq });
        gate.wait_unless(|| self.closing.load(Ordering::SeqCst));
    }

    fn end_connections(&self) {
        for stream in lock(&self.open).values() {
            // An error means that it has ended already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn requests(events: &[Event]) -> Vec<Request> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Requested(request) => Some(request.clone()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
