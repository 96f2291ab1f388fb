//! The protection of records in one direction (RFC 8446, 5.2 and 5.3).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error as TlsError,
    crypto::cipher::{Iv, Nonce as RecordNonce},
};

/// Content type, version and length of a record.
pub(super) const HEADER: usize = 5;
/// The tag of AES-GCM.
pub(super) const TAG: usize = 16;

/// A key, and the number of the next record that it protects. The number goes into the nonce, so no
/// nonce is used twice. Nothing here is shown by `Debug`; AWS-LC wipes the key when it frees it, and
/// rustls the bytes that it was made of.
pub(super) struct Key {
    aead: LessSafeKey,
    iv: Iv,
    sequence: u64,
}

impl Key {
    /// From what rustls gives away: the number of the next record, and the secrets.
    ///
    /// # Errors
    /// For another cipher than AES-GCM.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            _ => return Err(TlsError::General("a cipher that is not AES-GCM".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| TlsError::General("a key of the wrong length".into()))?;
        Ok(Self {
            aead: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// How many records the key has protected.
    pub(super) const fn used(&self) -> u64 {
        self.sequence
    }

    /// Opens the next record. `plaintext` is as long as `protected` without its tag, and means
    /// nothing unless this returns `Ok`.
    pub(super) fn open(
        &mut self,
        header: [u8; HEADER],
        protected: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), TlsError> {
        let (ciphertext, tag) = protected
            .split_at_checked(plaintext.len())
            .ok_or(TlsError::DecryptError)?;
        let nonce = self.next_nonce().ok_or(TlsError::DecryptError)?;
        self.aead
            .open_separate_gather(nonce, Aad::from(header), ciphertext, tag, plaintext)
            .map_err(|_| TlsError::DecryptError)
    }

    /// Appends a record with `content`, of at most 16 KiB, to `outgoing`.
    pub(super) fn seal(
        &mut self,
        kind: ContentType,
        content: &[u8],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let length = u16::try_from(content.len() + 1 + TAG).map_err(|_| TlsError::EncryptError)?;
        let [high, low] = length.to_be_bytes();
        // Every record of TLS 1.3 states that it holds data of TLS 1.2.
        let header = [u8::from(ContentType::ApplicationData), 3, 3, high, low];
        let nonce = self.next_nonce().ok_or(TlsError::EncryptError)?;
        outgoing.extend_from_slice(&header);
        let start = outgoing.len();
        outgoing.extend_from_slice(content);
        outgoing.push(kind.into());
        let plaintext = outgoing.get_mut(start..).unwrap_or_default();
        let tag = self
            .aead
            .seal_in_place_separate_tag(nonce, Aad::from(header), plaintext)
            .map_err(|_| TlsError::EncryptError)?;
        outgoing.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// `None` when the numbers are used up.
    fn next_nonce(&mut self) -> Option<Nonce> {
        let nonce = RecordNonce::new(&self.iv, self.sequence);
        self.sequence = self.sequence.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce.0))
    }
}
