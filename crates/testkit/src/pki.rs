//! A public-key infrastructure in memory: authorities, and server identities of every kind that a
//! client must accept or refuse.

use std::{fmt, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{ServerConfig, SupportedProtocolVersion, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names of a server on this machine: `localhost`, `127.0.0.1` and `::1`.
pub const LOCAL: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// What a certificate says of what it may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `CA:TRUE`, for signing certificates.
    Authority,
    /// `CA:TRUE`, without a word about the use of its key.
    AuthorityWithoutUsage,
    /// `CA:TRUE`, but its key is for other uses than signing certificates.
    NotForSigning,
    /// `CA:FALSE`.
    Leaf,
    /// Neither.
    Nothing,
}

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Intermediates between this authority and its root, nearest first; empty for a root.
    chain: Vec<CertificateDer<'static>>,
}

impl Authority {
    /// A root.
    pub fn new(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(authority_params(name), new_key()).unwrap();
        Self {
            issuer,
            chain: Vec::new(),
        }
    }

    /// One that signs certificates whatever its own says of it.
    pub fn marked(name: &str, mark: Mark) -> Self {
        let mut params = authority_params(name);
        match mark {
            Mark::Authority => {}
            Mark::AuthorityWithoutUsage => params.key_usages.clear(),
            Mark::NotForSigning => params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
            Mark::Leaf => params.is_ca = IsCa::ExplicitNoCa,
            Mark::Nothing => params.is_ca = IsCa::NoCa,
        }
        Self {
            issuer: CertifiedIssuer::self_signed(params, new_key()).unwrap(),
            chain: Vec::new(),
        }
    }

    /// The authority's certificate in version 1 of X.509, which has no extensions. Its signature is that of
    /// the other one, which does not matter: trust in a root is not founded on it.
    pub fn version_1_pem(&self) -> String {
        let der = self.der();
        let [signed, rest @ ..] = &elements(content(&der))[..] else {
            panic!("a certificate has parts");
        };
        let fields = elements(content(signed));
        // Without the version in front and the extensions behind.
        let signed = sequence(&fields[1..fields.len() - 1]);
        pem_certificate(&sequence(&[&[&signed[..]], rest].concat()).into())
    }

    /// An authority below this one. Its servers send its certificate along.
    pub fn intermediate(&self, name: &str) -> Self {
        let issuer =
            CertifiedIssuer::signed_by(authority_params(name), new_key(), &self.issuer).unwrap();
        let mut chain = vec![issuer.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer, chain }
    }

    /// The authority's certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A valid identity for the names, which are host names or IP addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue(&server_params(names))
    }

    /// An identity that has its host in the common name alone, as old installations make them.
    pub fn server_without_names(&self, common_name: &str) -> Identity {
        let mut params = server_params(&[]);
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        self.issue(&params)
    }

    /// Like [`Self::server`], but expired years ago.
    pub fn expired(&self, names: &[&str]) -> Identity {
        let mut params = server_params(names);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.issue(&params)
    }

    /// Like [`Self::server`], but valid only in the far future.
    pub fn not_yet_valid(&self, names: &[&str]) -> Identity {
        let mut params = server_params(names);
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = new_key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Identity::new(chain, &key)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A server's certificate, the intermediates it sends along, and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    key_pem: String,
}

impl Identity {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self {
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            key_pem: key.serialize_pem(),
        }
    }

    /// A certificate that signed itself, as a server's own: without the mark of an authority.
    pub fn self_signed(names: &[&str]) -> Self {
        Self::sign_itself(&server_params(names))
    }

    /// A certificate that signed itself and calls itself an authority (`CA:TRUE`), as small
    /// installations make them.
    pub fn self_signed_authority(names: &[&str]) -> Self {
        let mut params = server_params(names);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        Self::sign_itself(&params)
    }

    fn sign_itself(params: &CertificateParams) -> Self {
        let key = new_key();
        let certificate = params.self_signed(&key).unwrap();
        Self::new(vec![certificate.der().clone()], &key)
    }

    /// Sends only its own certificate, as a server does whose administrator forgot the
    /// intermediates.
    pub fn without_intermediates(mut self) -> Self {
        self.chain.truncate(1);
        self
    }

    /// The server's own certificate.
    pub fn pem(&self) -> String {
        pem_certificate(&self.chain[0])
    }

    /// The server's own certificate.
    pub fn der(&self) -> CertificateDer<'static> {
        self.chain[0].clone()
    }

    /// The certificate and the intermediates it sends along.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(pem_certificate).collect()
    }

    /// The private key (PKCS#8).
    pub fn key_pem(&self) -> String {
        self.key_pem.clone()
    }

    /// A server that speaks TLS 1.2 and 1.3.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server_config_with(rustls::ALL_VERSIONS)
    }

    /// A server that speaks only the given versions (`&rustls::version::TLS12`, `TLS13`).
    pub fn server_config_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .unwrap();
        Arc::new(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let common_name = names.first().map_or("server", String::as_str).to_owned();
    let mut params = CertificateParams::new(names).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// The content of a DER element.
fn content(element: &[u8]) -> &[u8] {
    &element[element.len() - length(element).1..]
}

/// The elements in the content of a DER element.
fn elements(mut content: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (head, body) = length(content);
        let (element, rest) = content.split_at(head + body);
        found.push(element);
        content = rest;
    }
    found
}

/// How long the head and the content of a DER element are.
fn length(element: &[u8]) -> (usize, usize) {
    let first = usize::from(element[1]);
    if first < 128 {
        return (2, first);
    }
    let digits = &element[2..2 + (first & 127)];
    let size = digits
        .iter()
        .fold(0, |size, digit| size << 8 | usize::from(*digit));
    (2 + digits.len(), size)
}

/// A DER sequence of these elements.
fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    let body = elements.concat();
    let size = u16::try_from(body.len()).unwrap();
    // The shortest form that holds the length.
    let head = match (size, size.to_be_bytes()) {
        (0..128, [_, size]) => vec![0x30, size],
        (128..256, [_, size]) => vec![0x30, 0x81, size],
        (_, [high, low]) => vec![0x30, 0x82, high, low],
    };
    [head, body].concat()
}

fn pem_certificate(der: &CertificateDer<'_>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let bits = group
                .iter()
                .chain([0, 0].iter())
                .take(3)
                .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
            for index in 0..4 {
                let digit = ALPHABET[bits >> (18 - 6 * index) & 63] as char;
                text.push(if index <= group.len() { digit } else { '=' });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
