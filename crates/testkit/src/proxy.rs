//! A small HTTP proxy that records: tunnels (`CONNECT`) and requests in absolute form.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex},
};

use crate::{Fault, Reply, Request, Server, lock};

/// A running proxy without encryption on its own side.
pub struct Proxy {
    server: Server,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Wanted value of `Proxy-Authorization`.
    authorization: Option<String>,
    refusal: Mutex<Option<u16>>,
    hosts: Mutex<HashMap<String, SocketAddr>>,
}

impl Proxy {
    /// A proxy that serves everybody.
    pub fn start() -> Self {
        Self::start_with(State::default())
    }

    /// A proxy that answers 407 without `Proxy-Authorization: Basic` and this value, which is the
    /// base64 form of `user:password`.
    pub fn with_credentials(base64: &str) -> Self {
        Self::start_with(State {
            authorization: Some(format!("Basic {base64}")),
            ..State::default()
        })
    }

    fn start_with(state: State) -> Self {
        let state = Arc::new(state);
        let handler = Arc::clone(&state);
        let server = Server::builder()
            .route("", move |request| handler.answer(request))
            .start();
        Self { server, state }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        self.server.url("")
    }

    /// From now on every request is refused with this status.
    pub fn refuse_with(&self, status: u16) {
        *lock(&self.state.refusal) = Some(status);
    }

    /// Leads requests for `host:port` to this address, whatever the name resolves to.
    pub fn lead(&self, authority: &str, address: SocketAddr) {
        lock(&self.state.hosts).insert(authority.to_owned(), address);
    }

    /// The server that it is, for its log and for faults.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.url())
    }
}

impl State {
    fn answer(&self, request: &Request) -> Reply {
        if let Some(status) = *lock(&self.refusal) {
            return Reply::text(status, "refused by the proxy\n");
        }
        let given = request.header("proxy-authorization");
        if self.authorization.is_some() && given != self.authorization.as_deref() {
            return Reply::status(407).header("Proxy-Authenticate", "Basic realm=\"test\"");
        }
        let forwarded = if request.method == "CONNECT" {
            self.resolve(&request.target)
                .map(|address| Reply::status(200).fault(Fault::Tunnel(address)))
        } else {
            self.forward(request)
        };
        forwarded.unwrap_or_else(|error| Reply::text(502, &format!("{error}\n")))
    }

    fn resolve(&self, authority: &str) -> io::Result<SocketAddr> {
        if let Some(address) = lock(&self.hosts).get(authority) {
            return Ok(*address);
        }
        let mut found = authority.to_socket_addrs()?;
        found.next().ok_or_else(|| io::Error::other("no address"))
    }

    /// Sends the request on in origin form. The answer goes back as it is, but says that the connection ends.
    fn forward(&self, request: &Request) -> io::Result<Reply> {
        let rest = request.target.strip_prefix("http://");
        let rest = rest.ok_or_else(|| io::Error::other("neither CONNECT nor absolute form"))?;
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let with_port = if authority.contains(':') {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let mut upstream = TcpStream::connect(self.resolve(&with_port)?)?;
        let path = if path.is_empty() { "/" } else { path };
        write!(upstream, "{} {path} HTTP/1.1\r\n", request.method)?;
        for (name, value) in &request.headers {
            let own = name.eq_ignore_ascii_case("connection")
                || name.to_ascii_lowercase().starts_with("proxy-");
            if !own {
                write!(upstream, "{name}: {value}\r\n")?;
            }
        }
        write!(upstream, "Connection: close\r\n\r\n")?;
        upstream.write_all(&request.body)?;
        let answer = read_answer(&mut upstream)?;
        Ok(Reply::status(200).fault(Fault::Raw(closing(answer))))
    }
}

/// One answer: to the end that its head states, since not every server ends the connection when asked to; without such a
/// statement to the end of the connection.
fn read_answer(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let (mut answer, mut block) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        if let Some((head, Some(body))) = lengths(&answer)
            && answer.len() >= head + body
        {
            return Ok(answer);
        }
        match stream.read(&mut block)? {
            0 => return Ok(answer),
            count => answer.extend_from_slice(&block[..count]),
        }
    }
}

/// Bytes of the head, once it is complete, and of the body, if the head states them.
fn lengths(answer: &[u8]) -> Option<(usize, Option<usize>)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = parsed.parse(answer).ok()? else {
        return None;
    };
    if matches!(parsed.code, Some(204 | 304)) {
        return Some((head, Some(0)));
    }
    let length = parsed
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.trim().parse().ok());
    Some((head, length))
}

/// The answer with a head that says what happens: the connection ends behind it.
fn closing(answer: Vec<u8>) -> Vec<u8> {
    let Some((head, _)) = lengths(&answer) else {
        return answer;
    };
    let text = String::from_utf8_lossy(&answer[..head]);
    let kept = text
        .trim_end()
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let mut closing: Vec<u8> = kept
        .flat_map(|line| format!("{line}\r\n").into_bytes())
        .collect();
    closing.extend_from_slice(b"Connection: close\r\n\r\n");
    closing.extend_from_slice(&answer[head..]);
    closing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(proxy: &Proxy, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(proxy.server().address()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    fn rest(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn origin() -> Server {
        Server::builder()
            .object("/disk", b"content".to_vec())
            .start()
    }

    #[test]
    fn tunnels_and_forwards() {
        let (origin, proxy) = (origin(), Proxy::start());
        proxy.lead("disks.example:80", origin.address());
        let mut stream = ask(&proxy, "CONNECT disks.example:80 HTTP/1.1\r\n\r\n");
        let mut head = [0; 19];
        stream.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n\r\n");
        stream
            .write_all(b"GET /disk HTTP/1.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        assert!(rest(stream).ends_with("content"));
        let stream = ask(
            &proxy,
            "GET http://disks.example/disk HTTP/1.1\r\nA: b\r\n\r\n",
        );
        assert!(rest(stream).ends_with("content"));
        assert_eq!(origin.requests()[1].header("a"), Some("b"));
        assert_eq!(proxy.server().requests()[0].target, "disks.example:80");
    }

    /// The origin keeps the connection, and its route's answer is whole; neither passes what is held.
    #[test]
    fn forwards_an_answer_when_it_is_complete_and_not_before_it_may() {
        let (origin, proxy, gate) = (origin(), Proxy::start(), crate::Gate::new());
        origin.route("/gone", |_| Reply::status(204));
        proxy
            .server()
            .fault(crate::When::any(), Fault::HoldHead(gate.clone()));
        let held = ask(
            &proxy,
            &format!("GET {} HTTP/1.1\r\n\r\n", origin.url("/disk")),
        );
        proxy.server().wait_for_held(1);
        let gone = format!("DELETE {} HTTP/1.1\r\n\r\n", origin.url("/gone"));
        let answer = rest(ask(&proxy, &gone));
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        gate.open();
        assert!(rest(held).ends_with("\r\n\r\ncontent"));
    }

    #[test]
    fn wants_credentials_and_refuses() {
        let (origin, proxy) = (origin(), Proxy::with_credentials("dTpw"));
        let target = origin.url("/disk");
        let anonymous = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        assert!(rest(ask(&proxy, &anonymous)).starts_with("HTTP/1.1 407"));
        let named = format!("GET {target} HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
        assert!(rest(ask(&proxy, &named)).ends_with("content"));
        proxy.refuse_with(403);
        assert!(rest(ask(&proxy, &anonymous)).starts_with("HTTP/1.1 403"));
        assert_eq!(origin.requests().len(), 1);
    }
}
