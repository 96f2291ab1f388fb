//! A token that is renewed when a server no longer accepts it.

use std::sync::{Mutex, PoisonError, RwLock};

use http::HeaderMap;
use net::Repeat;
use tokio::runtime::Handle;
use transfer::{Error, Kind, source::Authorization};

use super::{Keystone, Token};

/// The headers of the current token, and the client that gets the next one.
///
/// Readers run on blocking threads, several at a time. When the token expires, the server refuses
/// all of them at about the same time: the first asks Keystone, the others wait for it and use its
/// token. A Keystone that does not answer is a transient error: the engine's retry budget decides
/// how often renewal is retried.
#[derive(Debug)]
pub struct Session {
    keystone: Keystone,
    runtime: Handle,
    headers: RwLock<HeaderMap>,
    renewing: Mutex<()>,
}

impl Session {
    /// A session that begins with `token`.
    ///
    /// # Errors
    /// [`Kind::Protocol`] when the token cannot stand in a header.
    pub fn new(keystone: Keystone, token: &Token, runtime: Handle) -> Result<Self, Error> {
        Ok(Self {
            keystone,
            runtime,
            headers: RwLock::new(token.headers()?),
            renewing: Mutex::new(()),
        })
    }

    fn present(&self) -> HeaderMap {
        self.headers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Authorization for Session {
    fn headers(&self) -> Result<HeaderMap, Error> {
        Ok(self.present())
    }

    /// Must not be called on a thread that drives asynchronous tasks: it blocks on one.
    fn renew(&self, refused: &HeaderMap) -> Result<(), Error> {
        let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        // Another reader renewed the token while this one waited for the lock, or this reader's
        // request was sent before the renewal. Its next try takes the new token.
        if self.present().get(TOKEN) != refused.get(TOKEN) {
            return Ok(());
        }
        tracing::info!("the token is no longer accepted; asking Keystone for a new one");
        // One try, so that a Keystone that is down holds the lock for one time limit only.
        let headers = self
            .runtime
            .block_on(self.keystone.authenticate(Repeat::Never))
            .and_then(|token| token.headers())
            .map_err(|error| self.explain(error))?;
        *self.headers.write().unwrap_or_else(PoisonError::into_inner) = headers;
        Ok(())
    }
}

impl Session {
    fn explain(&self, error: Error) -> Error {
        let kind = match error.kind() {
            // The same keys gave a token before, so they are not malformed: they no longer serve.
            Kind::Configuration => Kind::Credentials,
            // Only one try was made; the engine retries within its own budget.
            Kind::Exhausted => Kind::Network,
            kind => kind,
        };
        let context = if error.kind() == Kind::Credentials
            && !self.keystone.credentials().outlive_a_token()
        {
            "the token has expired, and authType token holds nothing to get another with; use a token that lives longer, a password or an application credential"
        } else {
            "the token is no longer accepted and could not be renewed"
        };
        Error::with_source(kind, context, error)
    }
}

const TOKEN: &str = "x-auth-token";
