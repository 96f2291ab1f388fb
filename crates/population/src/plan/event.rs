//! Events: what the owner of a claim learns from `kubectl describe`.

/// The API server rejects events with a longer message, in bytes.
const MOST_BYTES: usize = 1024;
const CUT: &str = " [cut]";

/// An event on the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whether the owner has to do something.
    pub event_type: EventType,
    /// One word, from [`populator_api::names::event`].
    pub reason: &'static str,
    /// A sentence of at most 1024 bytes, free of secrets.
    pub message: String,
}

/// Type of an event, as Kubernetes writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Information only.
    Normal,
    /// The owner or an administrator should act.
    Warning,
}

impl Event {
    /// An event for information only. A message that is too long is cut.
    #[must_use]
    pub fn normal(reason: &'static str, message: &str) -> Self {
        Self::new(EventType::Normal, reason, message)
    }

    /// An event that the owner or an administrator should act on. A message that is too long is
    /// cut.
    #[must_use]
    pub fn warning(reason: &'static str, message: &str) -> Self {
        Self::new(EventType::Warning, reason, message)
    }

    fn new(event_type: EventType, reason: &'static str, message: &str) -> Self {
        let message = if message.len() <= MOST_BYTES {
            message.to_owned()
        } else {
            let end = message.floor_char_boundary(MOST_BYTES - CUT.len());
            format!("{}{CUT}", &message[..end])
        };
        Self {
            event_type,
            reason,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        for (text, bytes) in [
            ("x".repeat(1024), 1024),
            ("x".repeat(1025), 1024),
            ("€".repeat(400), 1023),
        ] {
            let event = Event::normal("Test", &text);
            assert_eq!(event.message.len(), bytes);
            assert_eq!(event.message.ends_with(CUT), text.len() > 1024);
        }
    }
}
