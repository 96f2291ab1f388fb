//! The record layer of an established TLS 1.3 connection with AES-GCM (RFC 8446, 4.6 and 5).
//!
//! rustls makes the handshake, derives all keys and keeps the session tickets. This layer takes over
//! behind the handshake's last record, because rustls copies the content of each record twice, and
//! allocates memory for it: here a record is decrypted from where it was received to where its
//! content belongs. docs/adr/0013-own-record-layer.md says what that gains, and what it costs.

mod key;

use rustls::{
    AlertDescription, CipherSuite, ContentType, Error as TlsError, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
};

use key::{HEADER, Key, TAG};

/// Most content of a record, in bytes (RFC 8446, 5.1).
const MOST_CONTENT: usize = 1 << 14;
/// Most bytes behind a record's header: content, type, padding and tag (RFC 8446, 5.2).
const MOST_PROTECTED: usize = MOST_CONTENT + 256;
/// Longest handshake message, in bytes; rustls draws the same line. A ticket is the only one that is
/// longer than a byte, and has some hundred.
const MOST_MESSAGE: usize = 0xffff;
/// Records in a row that may come without content: tickets, new keys, empty ones. A server that
/// sends nothing else would hold its reader for ever, and no stall is seen because bytes do come.
const MOST_WITHOUT_CONTENT: u32 = 256;
/// Records after which a sending key is replaced: the limit of AES-GCM (RFC 8446, 5.5).
const MOST_SENT: u64 = 1 << 24;

pub(super) struct Records {
    opening: Key,
    sealing: Key,
    /// Derives the keys that follow the present ones, and stores tickets.
    keys: KernelConnection<ClientConnectionData>,
    /// A handshake message of which more is to come, in further records.
    message: Vec<u8>,
    without_content: u32,
    /// Records after which the sending key is replaced.
    pub(super) most_sent: u64,
    /// The peer wants us to replace our key before we send anything else.
    must_replace: bool,
}

/// What is at the front of the received bytes.
pub(super) enum Opened {
    /// A record that is not complete.
    Part,
    /// A record of `length` bytes, which brought `count` bytes of content to the place that they
    /// belong to. It may be of those that bring none.
    Record { length: usize, count: usize },
    /// The peer's closing alert. What follows it does not count.
    Closed,
}

/// A record as it was received.
struct Record<'r> {
    header: [u8; HEADER],
    protected: &'r [u8],
}

/// What a record turned out to be.
enum Taken {
    /// Content, all of it.
    Content,
    /// A record without content.
    Nothing,
    /// The closing alert.
    End,
}

impl Records {
    /// Whether rustls is behind the handshake's last record, and the connection is of a kind that
    /// this layer opens.
    pub(super) fn fit(tls: &UnbufferedClientConnection) -> bool {
        !tls.is_handshaking()
            && tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && tls.negotiated_cipher_suite().is_some_and(|suite| {
                matches!(
                    suite.suite(),
                    CipherSuite::TLS13_AES_128_GCM_SHA256 | CipherSuite::TLS13_AES_256_GCM_SHA384
                )
            })
    }

    /// Takes over from rustls, which must have sent all that it has to send, and must not have seen
    /// a byte behind the handshake.
    pub(super) fn take_over(tls: UnbufferedClientConnection) -> Result<Self, TlsError> {
        let (secrets, keys) = tls.dangerous_into_kernel_connection()?;
        Ok(Self {
            opening: Key::new(secrets.rx)?,
            sealing: Key::new(secrets.tx)?,
            keys,
            message: Vec::new(),
            without_content: 0,
            most_sent: MOST_SENT,
            must_replace: false,
        })
    }

    /// Opens the record at the front of `received`.
    ///
    /// The content goes to the front of `out`; where `out` has no room for the whole record, it goes
    /// to `rest`, which is empty before, and the count is 0. What else `out` holds afterwards means
    /// nothing: type and padding of the record, or bytes whose tag was wrong.
    ///
    /// # Errors
    /// All of them end the connection, and leave `rest` empty.
    pub(super) fn open(
        &mut self,
        received: &[u8],
        out: &mut [u8],
        rest: &mut Vec<u8>,
    ) -> Result<Opened, TlsError> {
        let Some(record) = Record::first(received)? else {
            return Ok(Opened::Part);
        };
        let length = HEADER + record.protected.len();
        let inner = record.protected.len().saturating_sub(TAG);
        if let Some(plaintext) = out.get_mut(..inner) {
            let (kind, content) = self.decrypt(&record, plaintext)?;
            let count = content.len();
            return self.take(kind, content).map(|what| match what {
                Taken::Content => Opened::Record { length, count },
                Taken::Nothing => Opened::Record { length, count: 0 },
                Taken::End => Opened::Closed,
            });
        }
        rest.resize(inner, 0);
        let taken = self
            .decrypt(&record, rest)
            .and_then(|(kind, content)| Ok((content.len(), self.take(kind, content)?)));
        rest.truncate(match &taken {
            Ok((count, Taken::Content)) => *count,
            // Bytes whose tag is wrong must not be taken for content.
            _ => 0,
        });
        taken.map(|(_, what)| match what {
            Taken::Content | Taken::Nothing => Opened::Record { length, count: 0 },
            Taken::End => Opened::Closed,
        })
    }

    /// Type and content of a record, which `plaintext` holds then.
    fn decrypt<'p>(
        &mut self,
        record: &Record<'_>,
        plaintext: &'p mut [u8],
    ) -> Result<(ContentType, &'p [u8]), TlsError> {
        self.opening
            .open(record.header, record.protected, plaintext)?;
        if plaintext.len() > MOST_CONTENT + 1 {
            return Err(TlsError::PeerSentOversizedRecord);
        }
        // The type is the last byte that is not zero; zeroes behind it are padding.
        let end = plaintext.iter().rposition(|byte| *byte != 0);
        let (end, kind) = end
            .and_then(|end| Some((end, *plaintext.get(end)?)))
            .ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        Ok((kind.into(), plaintext.get(..end).unwrap_or_default()))
    }

    /// Takes a record by its type.
    fn take(&mut self, kind: ContentType, content: &[u8]) -> Result<Taken, TlsError> {
        if !self.message.is_empty() && kind != ContentType::Handshake {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        if kind == ContentType::ApplicationData && !content.is_empty() {
            self.without_content = 0;
            return Ok(Taken::Content);
        }
        match kind {
            ContentType::Handshake if content.is_empty() => {
                return Err(InvalidMessage::InvalidEmptyPayload.into());
            }
            ContentType::Handshake => {
                self.message.extend_from_slice(content);
                self.take_messages()?;
            }
            ContentType::Alert if is_end(content)? => return Ok(Taken::End),
            ContentType::ApplicationData | ContentType::Alert => {}
            ContentType::ChangeCipherSpec => {
                return Err(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec.into());
            }
            _ => return Err(InvalidMessage::InvalidContentType.into()),
        }
        self.without_content += 1;
        if self.without_content > MOST_WITHOUT_CONTENT {
            return Err(PeerMisbehaved::TooManyEmptyFragments.into());
        }
        Ok(Taken::Nothing)
    }

    /// Appends records with `data` to `outgoing`, behind a new key where one is due.
    pub(super) fn seal(&mut self, data: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        for content in data.chunks(MOST_CONTENT) {
            if self.must_replace || self.sealing.used() >= self.most_sent {
                // KeyUpdate, which asks for none in return.
                let update = [HandshakeType::KeyUpdate.into(), 0, 0, 1, 0];
                self.sealing
                    .seal(ContentType::Handshake, &update, outgoing)?;
                self.sealing = Key::new(self.keys.update_tx_secret()?)?;
                self.must_replace = false;
            }
            self.sealing
                .seal(ContentType::ApplicationData, content, outgoing)?;
        }
        Ok(())
    }

    /// Appends the alert that tells the peer why the connection ends, if there is one.
    pub(super) fn seal_alert(&mut self, error: &TlsError, outgoing: &mut Vec<u8>) {
        const FATAL: u8 = 2;
        let description = match error {
            // The peer knows.
            TlsError::AlertReceived(_) => return,
            TlsError::DecryptError => AlertDescription::BadRecordMac,
            TlsError::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            TlsError::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
                AlertDescription::IllegalParameter
            }
            TlsError::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::InvalidEmptyPayload,
            )
            | TlsError::InappropriateMessage { .. }
            | TlsError::InappropriateHandshakeMessage { .. }
            | TlsError::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
            TlsError::InvalidMessage(_) => AlertDescription::DecodeError,
            _ => AlertDescription::InternalError,
        };
        let alert = [FATAL, description.into()];
        // Without it the peer sees a connection that ends without a reason.
        let _ = self.sealing.seal(ContentType::Alert, &alert, outgoing);
    }

    /// Deals with the handshake messages that are complete.
    fn take_messages(&mut self) -> Result<(), TlsError> {
        let mut start = 0;
        while let Some((&[kind, a, b, c], behind)) = self
            .message
            .get(start..)
            .and_then(<[u8]>::split_first_chunk)
        {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if length > MOST_MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some((body, behind)) = behind.split_at_checked(length) else {
                break;
            };
            match HandshakeType::from(kind) {
                HandshakeType::NewSessionTicket => self.keys.handle_new_session_ticket(body)?,
                HandshakeType::KeyUpdate => {
                    self.must_replace |= match body {
                        [0] => false,
                        [1] => true,
                        _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                    };
                    // The peer protects what follows with the next key, so nothing may follow here.
                    if !behind.is_empty() {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    self.opening = Key::new(self.keys.update_rx_secret()?)?;
                }
                got_type => {
                    return Err(TlsError::InappropriateHandshakeMessage {
                        expect_types: vec![
                            HandshakeType::NewSessionTicket,
                            HandshakeType::KeyUpdate,
                        ],
                        got_type,
                    });
                }
            }
            start = self.message.len() - behind.len();
        }
        self.message.drain(..start);
        Ok(())
    }
}

impl<'r> Record<'r> {
    /// The one at the front of `received`; `None` while it is not complete.
    fn first(received: &'r [u8]) -> Result<Option<Self>, TlsError> {
        let Some((&header, behind)) = received.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [kind, _, _, high, low] = header;
        // Nothing travels unprotected behind the handshake. The version needs no look: the header is
        // under the tag.
        if ContentType::from(kind) != ContentType::ApplicationData {
            return Err(TlsError::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData],
                got_type: kind.into(),
            });
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MOST_PROTECTED {
            return Err(TlsError::PeerSentOversizedRecord);
        }
        if length < TAG {
            return Err(TlsError::DecryptError);
        }
        let protected = behind.get(..length);
        Ok(protected.map(|protected| Self { header, protected }))
    }
}

/// Whether an alert is the closing one; other ones than that are errors (RFC 8446, 6).
fn is_end(alert: &[u8]) -> Result<bool, TlsError> {
    const WARNING: u8 = 1;
    let &[level, description] = alert else {
        return Err(InvalidMessage::MessageTooShort.into());
    };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(true),
        // A server that still ends in order.
        AlertDescription::UserCanceled if level == WARNING => Ok(false),
        description => Err(TlsError::AlertReceived(description)),
    }
}
