//! The termination message: what a mover says when it ends, read by the controller from the pod.
//!
//! Kubernetes keeps at most 4096 bytes of it
//! (<https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/>).

use serde::{Deserialize, Serialize};

use crate::Exit;

/// Limit of Kubernetes for one container's message, in bytes.
pub const MAX_BYTES: usize = 4096;
/// Where Kubernetes reads the message from, unless the container names another path.
pub const DEFAULT_PATH: &str = "/dev/termination-log";
/// Version of the layout. Readers take any message whose version they know and ignore unknown keys.
pub const VERSION: u32 = 1;

/// What is written, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Termination {
    /// Layout version, [`VERSION`].
    pub version: u32,
    /// How it ended.
    pub exit: Exit,
    /// The exit code, for readers that do not know the word.
    pub exit_code: u8,
    /// One sentence for people: the cause, and what to do. Free of secrets.
    pub message: String,
    /// Size of the source in bytes, when it was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_bytes: Option<u64>,
    /// Bytes of the source that were in place at the end.
    #[serde(default)]
    pub copied_bytes: u64,
    /// Seconds from start to end.
    #[serde(default)]
    pub seconds: u64,
    /// Requests that were repeated.
    #[serde(default)]
    pub retries: u64,
    /// The digest that was verified, as `algorithm:hex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
    /// Of a success: what a user should do nevertheless, such as to remove what is left at the source. One sentence for
    /// people, free of secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl Termination {
    /// A message with the given end and cause, everything else empty.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            version: VERSION,
            exit,
            exit_code: exit.code(),
            message: message.into(),
            source_bytes: None,
            copied_bytes: 0,
            seconds: 0,
            retries: 0,
            verified: None,
            warning: None,
        }
    }

    /// Shortens `message` or `warning`, whichever is longer, at a character, until `encoded_len` says that the whole fits
    /// [`MAX_BYTES`]. The encoder is the caller's, so that this crate needs none.
    pub fn fit(&mut self, encoded_len: impl Fn(&Self) -> usize) {
        loop {
            let excess = encoded_len(self).saturating_sub(MAX_BYTES);
            let text = match &mut self.warning {
                Some(warning) if warning.len() > self.message.len() => warning,
                _ => &mut self.message,
            };
            if excess == 0 || text.is_empty() {
                return;
            }
            *text = shortened(text, excess);
        }
    }
}

/// The text without some of its last characters; `excess` is how many bytes of its encoded form are too many.
fn shortened(text: &str, excess: usize) -> String {
    const CUT: &str = " [cut]";
    let body = text.strip_suffix(CUT).unwrap_or(text);
    // Escapes make a character longer than its UTF-8 form, never shorter, so cutting
    // `excess` bytes may be too much by little, and at least one character always goes.
    let mut end = body
        .len()
        .saturating_sub(excess.div_ceil(6).max(CUT.len() + 1));
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 {
        return String::new();
    }
    format!("{}{CUT}", &body[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(termination: &Termination) -> usize {
        serde_json::to_vec(termination).unwrap().len()
    }

    #[test]
    fn layout_is_stable() {
        let mut message = Termination::new(Exit::TargetTooSmall, "too small");
        message.source_bytes = Some(10);
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"version":1,"exit":"target-too-small","exitCode":20,"message":"too small","sourceBytes":10,"copiedBytes":0,"seconds":0,"retries":0}"#
        );
    }

    #[test]
    fn a_warning_is_one_key_more() {
        let mut message = Termination::new(Exit::Success, "copied");
        message.warning = Some("left".to_owned());
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"exit":"success","exitCode":0,"message":"copied","copiedBytes":0,"seconds":0,"retries":0,"warning":"left"}"#
        );
        assert_eq!(serde_json::from_str::<Termination>(&text).unwrap(), message);
        let without = text.replace(r#","warning":"left""#, "");
        let read: Termination = serde_json::from_str(&without).unwrap();
        assert_eq!(read.warning, None);
    }

    #[test]
    fn readers_ignore_what_they_do_not_know() {
        let text = r#"{"version":1,"exit":"tls","exitCode":17,"message":"m","new":{"a":1}}"#;
        assert_eq!(
            serde_json::from_str::<Termination>(text).unwrap().exit,
            Exit::Tls
        );
    }

    #[test]
    fn fits_whatever_the_message() {
        for text in [
            "x".repeat(10_000),
            "\u{1}".repeat(9_000),
            "ü\"\\\n€".repeat(3_000),
        ] {
            let mut message = Termination::new(Exit::Internal, text);
            message.fit(encoded);
            assert!(encoded(&message) <= MAX_BYTES, "{}", encoded(&message));
            assert!(
                encoded(&message) > MAX_BYTES / 2,
                "cut too much: {}",
                encoded(&message)
            );
        }
    }

    #[test]
    fn fits_whatever_the_warning() {
        for text in ["x".repeat(10_000), "\u{1}".repeat(9_000)] {
            let mut message = Termination::new(Exit::Success, "copied");
            message.warning = Some(text.clone());
            message.fit(encoded);
            assert!(encoded(&message) <= MAX_BYTES, "{}", encoded(&message));
            assert_eq!(message.message, "copied");
            assert!(message.warning.as_ref().unwrap().ends_with(" [cut]"));
            message.message = text;
            message.fit(encoded);
            assert!(encoded(&message) <= MAX_BYTES, "{}", encoded(&message));
        }
    }

    #[test]
    fn a_short_message_is_left_alone() {
        let mut message = Termination::new(Exit::Internal, "short");
        message.fit(encoded);
        assert_eq!(message.message, "short");
    }
}
