//! The floor of the bench: what a copy over TLS costs when the program does nothing else.
//!
//! Each connection asks for its part of a body, decrypts it into one aligned buffer, and writes the buffer
//! past the page cache. There is no retry, no check of what comes, no zero detection, no progress and no hash,
//! so it is a yardstick and not a client. It shares no code with the movers, or it would get faster
//! and slower with them.

mod tls;
mod wait;

use std::{
    env,
    fs::{File, OpenOptions},
    net::TcpStream,
    os::unix::fs::{FileExt, OpenOptionsExt},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use tls::TlsStream;

/// One direct write. Larger ones cost little less and need more memory.
const BUFFER: usize = 1 << 20;
/// What direct I/O asks of offsets, lengths and addresses on every common device.
const ALIGNMENT: usize = 4096;
const USAGE: &str = "usage: X_AUTH_TOKEN=... floor CA HOST PORT PATH TARGET SIZE CONNECTIONS
  CA           file of certificates that the server's is checked against
  TARGET       file or block device; a file gets SIZE bytes
  SIZE         bytes of the body, a multiple of 4096 for each connection
  CONNECTIONS  each reads one range of the body; a single one sends no Range";

/// What all connections share.
struct Job {
    config: Arc<ClientConfig>,
    host: String,
    port: u16,
    path: String,
    token: String,
    ranged: bool,
    file: File,
}

#[allow(
    clippy::disallowed_methods,
    reason = "a token must not be an argument, and main alone reads the environment"
)]
fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [authority, host, port, path, target, size, connections] = arguments.as_slice() else {
        bail!(USAGE);
    };
    let size: u64 = size.parse().context("SIZE")?;
    let connections: u64 = connections.parse().context("CONNECTIONS")?;
    let share = size.checked_div(connections).unwrap_or(0);
    ensure!(
        share > 0 && share * connections == size && share.is_multiple_of(ALIGNMENT as u64),
        "each of {connections} connections must have a multiple of {ALIGNMENT} of the {size} bytes"
    );
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT)
        .open(target)
        .with_context(|| target.clone())?;
    if file.metadata()?.is_file() {
        file.set_len(size)?;
    }
    let job = Job {
        config: trusting(authority)?,
        host: host.clone(),
        port: port.parse().context("PORT")?,
        path: path.clone(),
        token: env::var("X_AUTH_TOKEN").context("X_AUTH_TOKEN")?,
        ranged: connections > 1,
        file,
    };
    let shared = &job;
    thread::scope(|scope| {
        let copies: Vec<_> = (0..connections)
            .map(|number| scope.spawn(move || shared.copy(number * share, share)))
            .collect();
        copies.into_iter().try_for_each(|copy| {
            copy.join()
                .unwrap_or_else(|_| bail!("a connection's thread panicked"))
        })
    })?;
    job.file.sync_data().context("sync")
}

/// TLS settings that accept what the certificates of a PEM file signed.
fn trusting(authority: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

impl Job {
    /// Copies `length` bytes of the body from `start` on to the same place of the target.
    fn copy(&self, start: u64, length: u64) -> Result<()> {
        let socket = TcpStream::connect((self.host.as_str(), self.port))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(self.host.clone())?;
        let mut stream = TlsStream::connect(socket, Arc::clone(&self.config), name)?;
        stream.send(self.request(start, length).as_bytes())?;

        let mut memory = vec![0; BUFFER + ALIGNMENT];
        let aligned = memory.as_ptr().align_offset(ALIGNMENT);
        let buffer = &mut memory[aligned..aligned + BUFFER];
        // The beginning of the body came with the head.
        let mut filled = receive_head(&mut stream, buffer, self.ranged)?;
        let (mut at, end) = (start, start + length);
        while at < end {
            let want = BUFFER.min(usize::try_from(end - at).unwrap_or(BUFFER));
            while filled < want {
                let to_come = end - at - filled as u64;
                filled += stream.read(&mut buffer[filled..want], to_come)?;
            }
            self.file.write_all_at(&buffer[..want], at)?;
            at += want as u64;
            filled = 0;
        }
        Ok(())
    }

    fn request(&self, start: u64, length: u64) -> String {
        let Self {
            host, path, token, ..
        } = self;
        let range = if self.ranged {
            format!("Range: bytes={start}-{}\r\n", start + length - 1)
        } else {
            String::new()
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Auth-Token: {token}\r\n{range}Connection: close\r\n\r\n"
        )
    }
}

/// Receives the answer's head, and leaves the first bytes of the body at the beginning of `buffer`; their number.
fn receive_head(stream: &mut TlsStream, buffer: &mut [u8], ranged: bool) -> Result<usize> {
    const END: &[u8] = b"\r\n\r\n";
    let mut filled = 0;
    loop {
        filled += stream.read(&mut buffer[filled..], 0)?;
        if let Some(end) = buffer[..filled].windows(END.len()).position(|w| w == END) {
            let status: &[u8] = if ranged {
                b"HTTP/1.1 206"
            } else {
                b"HTTP/1.1 200"
            };
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            ensure!(buffer.starts_with(status), "unexpected answer: {head}");
            let body = end + END.len();
            buffer.copy_within(body..filled, 0);
            return Ok(filled - body);
        }
        ensure!(filled < buffer.len(), "the answer's head has no end");
    }
}
