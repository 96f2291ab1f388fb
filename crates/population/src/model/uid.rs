//! Identity of Kubernetes objects.

use std::fmt;

use serde::{Deserialize, Serialize};

/// UID of a Kubernetes object: unlike its name, no other object ever has it.
///
/// A type of its own, so that the compiler keeps UIDs and names apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(String);

impl Uid {
    /// The UID as Kubernetes writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<String> for Uid {
    fn from(uid: String) -> Self {
        Self(uid)
    }
}

impl From<&str> for Uid {
    fn from(uid: &str) -> Self {
        Self(uid.to_owned())
    }
}
