//! The certificates that an installation has its movers trust.

use populator_api::names::is_object_name;

use super::MOST_SHOWN;
use crate::text;

/// The key under which most put a bundle, the network operator of `OpenShift` among them.
const DEFAULT_KEY: &str = "ca-bundle.crt";
/// Longest key, in bytes.
const LONGEST_KEY: usize = 253;

/// A key of a `ConfigMap` in each claim's namespace, whose value is PEM text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaBundle {
    /// Name of the `ConfigMap`.
    pub config_map: String,
    /// The key.
    pub key: String,
}

impl CaBundle {
    /// `CONFIGMAP` or `CONFIGMAP/KEY`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (config_map, key) = text.split_once('/').unwrap_or((text, DEFAULT_KEY));
        if is_object_name(config_map) && is_key(key) {
            return Ok(Self {
                config_map: config_map.to_owned(),
                key: key.to_owned(),
            });
        }
        let shown = text::plain(text, MOST_SHOWN);
        Err(format!(
            "{shown:?} names no ConfigMap; give the name of one in the claims' namespaces, such as trusted-ca, \
             or with its key trusted-ca/{DEFAULT_KEY}"
        ))
    }
}

/// Whether the text is a key of a `ConfigMap` (`IsConfigMapKey` in Kubernetes' apimachinery).
fn is_key(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty()
        && text.len() <= LONGEST_KEY
        && text.bytes().all(inner)
        && text != "."
        && !text.starts_with("..")
}
