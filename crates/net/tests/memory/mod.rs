//! A TLS server in memory: rustls' own, which can be asked for its keys so that any record can be
//! made of them. The fuzzer uses it too.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "each user needs a part; a test fails by panicking"
)]

pub(crate) mod script;

use std::{
    cell::{Ref, RefCell, RefMut},
    rc::Rc,
    sync::Arc,
};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use net::{
    Error, Trust,
    testing::{Tls, TlsClient, Wire},
};
use rustls::{
    ConnectionTrafficSecrets, HandshakeKind, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
    crypto::{
        aws_lc_rs::{Ticketer, cipher_suite::TLS13_AES_256_GCM_SHA384, default_provider},
        cipher::{Iv, Nonce as RecordNonce},
    },
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, UnbufferedStatus},
    version::TLS13,
};
use rustls_pki_types::ServerName;
use testkit::pki::{Authority, LOCAL};

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// Content of which every part differs from its neighbours.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Who trusts whom; to be made once, because keys take time.
pub(crate) struct World {
    trust: Trust,
    server: Arc<ServerConfig>,
    name: ServerName<'static>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(TLS13_AES_256_GCM_SHA384, &TLS13)
    }

    /// A server of this suite and version alone.
    pub(crate) fn with(
        suite: SupportedCipherSuite,
        version: &'static SupportedProtocolVersion,
    ) -> Self {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        let authority = Authority::new("an authority");
        let identity = authority.server(LOCAL);
        let mut server = ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&identity.server_config().cert_resolver));
        server.enable_secret_extraction = true;
        server.send_half_rtt_data = true;
        server.ticketer = Ticketer::new().unwrap();
        Self {
            trust: Trust::from_pem(authority.pem().as_bytes()).unwrap(),
            server: Arc::new(server),
            name: std::net::IpAddr::from([127, 0, 0, 1]).into(),
        }
    }

    pub(crate) fn client(&self, own_records: bool) -> TlsClient {
        TlsClient::new(&self.trust, own_records).unwrap()
    }

    /// A server, and a connection to it.
    pub(crate) fn connect(&self, client: &TlsClient) -> (Server, Tls<Server>) {
        self.connect_early(client, &[], usize::MAX)
    }

    /// The same. The server sends `early` behind its part of the handshake at once, and the client
    /// gets at most `piece` bytes at a time.
    pub(crate) fn connect_early(
        &self,
        client: &TlsClient,
        early: &[u8],
        piece: usize,
    ) -> (Server, Tls<Server>) {
        let server = Server::new(Arc::clone(&self.server));
        server.borrow_mut().early = early.to_vec();
        server.borrow_mut().piece = piece;
        let tls = client.connect(server.clone(), self.name.clone()).unwrap();
        (server, tls)
    }
}

/// A server, as its test and its client's wire see it.
#[derive(Clone)]
pub(crate) struct Server(Rc<RefCell<Inner>>);

pub(crate) struct Inner {
    state: Option<State>,
    /// Bytes from the client that are not opened yet, and what was in those that are.
    incoming: Vec<u8>,
    pub(crate) received: Vec<u8>,
    pub(crate) alerts: Vec<u8>,
    pub(crate) key_updates: usize,
    /// Bytes on their way to the client, and how many it gets at a time.
    pub(crate) outgoing: Vec<u8>,
    sent: usize,
    piece: usize,
    /// Content for the first flight.
    early: Vec<u8>,
}

enum State {
    Rustls(Box<UnbufferedServerConnection>),
    Keys(Box<Keys>),
}

struct Keys {
    rx: Key,
    tx: Key,
    next: KernelConnection<ServerConnectionData>,
}

struct Key {
    aead: LessSafeKey,
    iv: Iv,
    sequence: u64,
}

impl Server {
    fn new(config: Arc<ServerConfig>) -> Self {
        let tls = UnbufferedServerConnection::new(config).unwrap();
        Self(Rc::new(RefCell::new(Inner {
            state: Some(State::Rustls(Box::new(tls))),
            incoming: Vec::new(),
            received: Vec::new(),
            alerts: Vec::new(),
            key_updates: 0,
            outgoing: Vec::new(),
            sent: 0,
            piece: usize::MAX,
            early: Vec::new(),
        })))
    }

    pub(crate) fn borrow(&self) -> Ref<'_, Inner> {
        self.0.borrow()
    }

    pub(crate) fn borrow_mut(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }
}

impl Inner {
    /// Takes the keys from rustls.
    pub(crate) fn take_keys(&mut self) {
        let Some(State::Rustls(tls)) = self.state.take() else {
            panic!("the keys are taken");
        };
        let (secrets, next) = tls.dangerous_into_kernel_connection().unwrap();
        self.state = Some(State::Keys(Box::new(Keys {
            rx: Key::new(secrets.rx),
            tx: Key::new(secrets.tx),
            next,
        })));
    }

    /// How many bytes of [`Self::outgoing`] the client has got.
    pub(crate) const fn sent(&self) -> usize {
        self.sent
    }

    /// Whether the session of an earlier connection goes on.
    pub(crate) fn is_resumed(&self) -> bool {
        let Some(State::Rustls(tls)) = &self.state else {
            panic!("the keys are taken");
        };
        tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends content by rustls.
    pub(crate) fn send(&mut self, content: &[u8]) {
        self.drive(Some(content), false);
    }

    /// Replaces rustls' key, and wants the client to do the same.
    pub(crate) fn refresh(&mut self) {
        self.drive(None, true);
    }

    /// Sends a record of any kind, with `padding` zeroes.
    pub(crate) fn record(&mut self, kind: u8, content: &[u8], padding: usize) {
        let mut plaintext = content.to_vec();
        plaintext.push(kind);
        plaintext.resize(plaintext.len() + padding, 0);
        self.seal(plaintext);
    }

    /// Sends a record with this as its protected bytes.
    pub(crate) fn seal(&mut self, plaintext: Vec<u8>) {
        let sealed = self.keys().tx.seal(plaintext);
        self.outgoing.extend_from_slice(&sealed);
    }

    /// Sends a handshake message in records of at most `piece` bytes, then perhaps takes a new key.
    pub(crate) fn message(&mut self, kind: u8, body: &[u8], piece: usize) {
        let [_, a, b, c] = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[kind, a, b, c], body].concat();
        for part in message.chunks(piece) {
            self.record(HANDSHAKE, part, 0);
        }
    }

    /// Announces a new key, and takes it.
    pub(crate) fn key_update(&mut self, wanted: bool, piece: usize) {
        self.message(24, &[u8::from(wanted)], piece);
        let keys = self.keys();
        keys.tx = Key::new(keys.next.update_tx_secret().unwrap());
    }

    /// A ticket that no session belongs to.
    pub(crate) fn ticket(&mut self, length: usize, piece: usize) {
        let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
        let mut body = vec![0, 0, 28, 32, 1, 2, 3, 4, 2, 0, 7, high, low];
        body.resize(body.len() + length, 0xa5);
        body.extend_from_slice(&[0, 0]);
        self.message(4, &body, piece);
    }

    fn keys(&mut self) -> &mut Keys {
        match &mut self.state {
            Some(State::Keys(keys)) => keys,
            _ => panic!("rustls has the keys"),
        }
    }

    /// Opens what the client sent.
    fn open(&mut self) {
        let mut incoming = std::mem::take(&mut self.incoming);
        while let [_, _, _, high, low, ..] = incoming[..] {
            let length = 5 + usize::from(u16::from_be_bytes([high, low]));
            let mut record: Vec<u8> = incoming.drain(..length).collect();
            let keys = self.keys();
            let (kind, content) = keys.rx.open(&mut record);
            match kind {
                DATA => self.received.extend_from_slice(&content),
                ALERT => self.alerts.push(content[1]),
                HANDSHAKE => {
                    assert_eq!(content, [24, 0, 0, 1, 0], "an answer to a key update");
                    keys.rx = Key::new(keys.next.update_rx_secret().unwrap());
                    self.key_updates += 1;
                }
                kind => panic!("a record of type {kind}"),
            }
        }
        self.incoming = incoming;
    }

    /// Lets rustls do what it has to do.
    fn drive(&mut self, mut send: Option<&[u8]>, mut refresh: bool) {
        let Some(State::Rustls(tls)) = &mut self.state else {
            return self.open();
        };
        let mut room = vec![0; 64 << 10];
        loop {
            let UnbufferedStatus { discard, state, .. } =
                tls.process_tls_records(&mut self.incoming);
            match state.unwrap() {
                ConnectionState::EncodeTlsData(mut data) => {
                    let count = data.encode(&mut room).unwrap();
                    self.outgoing.extend_from_slice(&room[..count]);
                }
                ConnectionState::TransmitTlsData(mut data) => {
                    if let Some(mut traffic) = data.may_encrypt_app_data()
                        && !self.early.is_empty()
                    {
                        let count = traffic.encrypt(&self.early, &mut room).unwrap();
                        self.outgoing.extend_from_slice(&room[..count]);
                        self.early.clear();
                    }
                    data.done();
                }
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        self.received.extend_from_slice(record.unwrap().payload);
                    }
                }
                ConnectionState::WriteTraffic(traffic) if refresh => {
                    refresh = false;
                    traffic.refresh_traffic_keys().unwrap();
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    self.incoming.drain(..discard);
                    if let Some(content) = send.take() {
                        let mut room = vec![0; content.len() + (64 << 10)];
                        let count = traffic.encrypt(content, &mut room).unwrap();
                        self.outgoing.extend_from_slice(&room[..count]);
                    }
                    return;
                }
                ConnectionState::BlockedHandshake => {
                    self.incoming.drain(..discard);
                    return;
                }
                state => panic!("{state:?}"),
            }
            self.incoming.drain(..discard);
        }
    }
}

impl Key {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => panic!("not AES-GCM"),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).unwrap();
        Self {
            aead: LessSafeKey::new(key),
            iv,
            sequence,
        }
    }

    fn nonce(&mut self) -> Nonce {
        let nonce = RecordNonce::new(&self.iv, self.sequence);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce.0)
    }

    fn seal(&mut self, mut plaintext: Vec<u8>) -> Vec<u8> {
        let [high, low] = u16::try_from(plaintext.len() + 16).unwrap().to_be_bytes();
        let header = [DATA, 3, 3, high, low];
        let nonce = self.nonce();
        self.aead
            .seal_in_place_append_tag(nonce, Aad::from(header), &mut plaintext)
            .unwrap();
        [&header[..], &plaintext].concat()
    }

    fn open(&mut self, record: &mut [u8]) -> (u8, Vec<u8>) {
        let nonce = self.nonce();
        let (header, body) = record.split_first_chunk_mut::<5>().unwrap();
        let plaintext = self.aead.open_in_place(nonce, Aad::from(*header), body);
        let (kind, content) = plaintext.unwrap().split_last().unwrap();
        (*kind, content.to_vec())
    }
}

impl Wire for Server {
    fn peer(&self) -> &'static str {
        "the server"
    }

    fn read(&mut self, buf: &mut [u8], _: u32) -> Result<usize, Error> {
        let mut inner = self.borrow_mut();
        let left = &inner.outgoing[inner.sent..];
        let count = left.len().min(buf.len()).min(inner.piece);
        buf[..count].copy_from_slice(&left[..count]);
        inner.sent += count;
        Ok(count)
    }

    fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        let mut inner = self.borrow_mut();
        inner.incoming.extend_from_slice(data);
        inner.drive(None, false);
        Ok(())
    }
}
