//! Answering: bounded in connections, in time and in bytes.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet, yield_now},
    time,
};
use tokio_rustls::TlsAcceptor;

use super::{
    pages::Pages,
    places::{Asked, Bounds, Places},
};

/// For answers under way at the end.
const GRACE: Duration = Duration::from_secs(2);
/// After a failed accept (no file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Head of a request.
const MAX_HEAD: usize = 16 << 10;

/// What a client may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) places: Bounds,
    /// For a TLS handshake.
    pub(super) handshake: Duration,
    /// For the head of a request, from the connection or the handshake on.
    pub(super) head: Duration,
    /// For a whole connection, with the answer: it ends with clients that read slowly.
    pub(super) age: Duration,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        // One Prometheus, one controller and one node use three. Clients behind one address
        // (a node's, for pods that share its network) are two or three as well.
        places: Bounds {
            all: 16,
            per_address: 4,
        },
        // A pod that copies has little time left for it.
        handshake: Duration::from_secs(10),
        // A client sends its head with the connection; what is more is the way there, and a lost packet.
        head: Duration::from_secs(2),
        age: Duration::from_mins(1),
    };
}

/// Accepts and answers until `stop` ends.
pub(super) async fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    pages: Arc<Pages>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let (stopping, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut places = Places::<AbortHandle>::new(limits.places);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next_with_id() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                places.remove(|connection| connection.id() == id);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                if let Some(connection) = places.make_room(address) {
                    tracing::debug!(
                        "metrics and health: a connection is closed for another one from {address}"
                    );
                    connection.abort();
                }
                let asked = Asked::default();
                let connection = Connection {
                    pages: Arc::clone(&pages),
                    limits,
                    asked: asked.clone(),
                    stopping: stopping.subscribe(),
                };
                let connection = connections.spawn(connection.serve(stream, tls.clone()));
                places.add(address, asked, connection);
                // Its request may be here already; it is read before the next client comes in.
                yield_now().await;
            }
            Err(error) => {
                tracing::warn!("metrics and health: cannot accept a connection: {error}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if time::timeout(GRACE, all).await.is_err() {
        connections.shutdown().await;
    }
}

/// One client, one request: clients that come again within [`Limits::head`] are not expected.
struct Connection {
    pages: Arc<Pages>,
    limits: Limits,
    asked: Asked,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else {
            return self.http(stream).await;
        };
        match time::timeout(self.limits.handshake, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.http(stream).await,
            Ok(Err(error)) => tracing::debug!("metrics: TLS handshake failed: {error}"),
            Err(_) => tracing::debug!("metrics: TLS handshake took too long"),
        }
    }

    async fn http<S>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let service = service_fn(|request| {
            self.asked.set();
            let answer = self.pages.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head)
                .keep_alive(false)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service)
        );
        let result = tokio::select! {
            result = connection.as_mut() => Some(result),
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
            () = time::sleep(self.limits.age) => None,
        };
        let result = if result.is_some() {
            result
        } else {
            connection.as_mut().graceful_shutdown();
            time::timeout(GRACE, connection).await.ok()
        };
        if let Some(Err(error)) = result {
            tracing::debug!("metrics and health: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use prometheus_client::registry::Registry;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::*;
    use crate::endpoint::{LastScrape, listener, pages::Metrics};

    /// A client that keeps its connection for as long as it may would keep it for ever.
    const PATIENT: Limits = Limits {
        handshake: Duration::from_hours(1),
        head: Duration::from_hours(1),
        age: Duration::from_hours(1),
        ..Limits::DEFAULT
    };
    const HALF: &[u8] = b"GET /metrics HTTP/1.1\r\nHost:";
    const REST: &[u8] = b" x\r\n\r\n";

    struct Server {
        address: SocketAddr,
        _tasks: JoinSet<()>,
    }

    fn start(limits: Limits, tls: Option<TlsAcceptor>) -> Server {
        let listener = listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Pages {
            metrics: Some(Metrics {
                path: "/metrics".to_owned(),
                registry: Arc::new(Registry::default()),
                last: Arc::<LastScrape>::default(),
            }),
            ready: None,
        };
        let mut tasks = JoinSet::new();
        let stop = std::future::pending();
        tasks.spawn(run(listener, tls, Arc::new(pages), limits, stop));
        Server {
            address,
            _tasks: tasks,
        }
    }

    impl Server {
        async fn connect(&self, from: IpAddr) -> TcpStream {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            socket.connect(self.address).await.unwrap()
        }

        async fn half_a_head(&self, from: IpAddr) -> TcpStream {
            let mut stream = self.connect(from).await;
            stream.write_all(HALF).await.unwrap();
            stream
        }

        async fn status(&self, from: IpAddr) -> String {
            status_of(self.half_a_head(from).await).await
        }
    }

    /// What comes until the connection ends, which must be within the bound of every wait.
    async fn rest(mut stream: TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        // A connection that was closed may be reset too.
        let _ = time::timeout(testkit::DEADLINE, reading)
            .await
            .expect("the connection ends");
        answer
    }

    /// The status of the answer to a head that is completed now; empty without an answer.
    async fn status_of(mut stream: TcpStream) -> String {
        if stream.write_all(REST).await.is_err() {
            return String::new();
        }
        let answer = String::from_utf8(rest(stream).await).unwrap();
        answer.get(9..12).unwrap_or_default().to_owned()
    }

    fn host(number: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 1, number).into()
    }

    #[tokio::test]
    async fn half_heads_of_one_address_keep_no_other_client_out() {
        let server = start(PATIENT, None);
        let early = server.half_a_head(host(1)).await;
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(server.half_a_head(host(2)).await);
        }
        // The half heads are never completed: each answer is given while they are held.
        assert_eq!(server.status(host(3)).await, "200");
        assert_eq!(server.status(host(2)).await, "200", "the same address");
        assert_eq!(status_of(early).await, "200", "another one keeps its place");
        let last = held.pop().unwrap();
        assert_eq!(status_of(last).await, "200", "the newest is still held");
        assert_eq!(status_of(held.swap_remove(0)).await, "", "the oldest");
    }

    #[tokio::test]
    async fn half_heads_of_many_addresses_keep_no_other_client_out() {
        let server = start(PATIENT, None);
        let mut held = Vec::new();
        for number in 0..64 {
            held.push(server.half_a_head(host(number)).await);
        }
        assert_eq!(server.status(host(200)).await, "200");
        let last = held.pop().unwrap();
        assert_eq!(status_of(last).await, "200", "the newest is still held");
    }

    #[tokio::test]
    async fn handshakes_that_never_end_keep_no_other_client_out() {
        let (config, _) = crate::endpoint::tls::config("some-process").unwrap();
        let server = start(PATIENT, Some(config.into()));
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(server.connect(host(2)).await);
        }
        // What is no TLS is refused with an alert, which takes a place too.
        let answer = rest(server.half_a_head(host(3)).await).await;
        assert!(!answer.is_empty(), "a TLS alert");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_not_waited_for() {
        let server = start(Limits::DEFAULT, None);
        let stream = server.half_a_head(host(1)).await;
        let start = time::Instant::now();
        rest(stream).await;
        let waited = start.elapsed();
        let head = Limits::DEFAULT.head;
        assert!((head..head * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test]
    async fn a_connection_has_one_request() {
        let server = start(PATIENT, None);
        let mut stream = server.half_a_head(host(1)).await;
        stream.write_all(REST).await.unwrap();
        // It ends although the client would go on.
        let answer = String::from_utf8(rest(stream).await).unwrap();
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }

    #[test]
    fn the_table_of_timers_is_right() {
        use testkit::timers::stated;
        let Limits {
            handshake,
            head,
            age,
            ..
        } = Limits::DEFAULT;
        assert_eq!(stated("metrics: TLS handshake"), [handshake]);
        assert_eq!(stated("metrics and health: head of a request"), [head]);
        assert_eq!(stated("metrics and health: a connection"), [age]);
    }
}
