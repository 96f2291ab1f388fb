//! Why the engine refuses: its faults, sorted by what can be done about them.
//!
//! A fault is `{"detail": "[...]", "reason": "Operation Failed"}`; the detail is a Java list, so it
//! has brackets. The texts are the engine's `AppErrors.properties`, in English unless a language is
//! asked for, which we never do.

use http::StatusCode;
use serde::Deserialize;

use super::{Error, Kind, model::Scalar};

/// Longest part of the engine's words that is repeated, in characters.
const LONGEST: usize = 500;

/// Words of a 409 that is transient (`validateImageTransfer` of the engine; the last one is of
/// 4.3).
const PASSING: [&str; 4] = [
    "disks are locked",
    "is being transferred",
    "in progress",
    "disk is locked",
];

/// Words of a 409 that lasts until an administrator acts. They are searched first, because names
/// that users choose, of disks and VMs, stand beside them and may hold the words of [`PASSING`].
const LASTING: [&str; 3] = ["is plugged to", "storage domain's status", "no active host"];

/// Whether a request changes something at the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It only asks, or may be repeated without harm.
    None,
    /// Doing it twice is not the same as once.
    Creates,
}

#[derive(Deserialize)]
struct Fault {
    detail: Option<Scalar>,
    reason: Option<Scalar>,
}

/// The error for an answer that is not a success. `doing` completes "cannot ...".
pub(super) fn refusal(doing: &str, status: StatusCode, body: &[u8], effect: Effect) -> Error {
    let fault: Option<Fault> = serde_json::from_slice(body)
        .ok()
        .filter(|fault: &Fault| fault.detail.is_some() || fault.reason.is_some());
    let words = fault.as_ref().map(words);
    let kind = kind(status, words.as_deref(), effect);
    let said = match &words {
        Some(words) if words.is_empty() => {
            "the engine gives no reason; look for it in engine.log on the engine and in vdsm.log on \
             the host"
                .to_owned()
        }
        Some(words) => format!("the engine says: {words}"),
        None if status.is_server_error() => {
            "the web server answers in the engine's place, which may be restarting".to_owned()
        }
        None => "the engine gives no reason".to_owned(),
    };
    Error::new(
        kind,
        format!("cannot {doing}: {said} (HTTP {})", status.as_u16()),
    )
}

fn words(fault: &Fault) -> String {
    let text = |scalar: &Option<Scalar>| {
        scalar.as_ref().map_or(String::new(), |scalar| {
            let text = scalar.0.trim();
            let inner = text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'));
            inner.unwrap_or(text).trim().to_owned()
        })
    };
    let mut words = text(&fault.detail);
    if words.is_empty() && fault.detail.is_none() {
        words = text(&fault.reason);
    }
    shorten(&words)
}

fn kind(status: StatusCode, words: Option<&str>, effect: Effect) -> Kind {
    let words = words.map(str::to_ascii_lowercase);
    let has = |needles: &[&str]| {
        words
            .as_deref()
            .is_some_and(|words| needles.iter().any(|needle| words.contains(needle)))
    };
    match status.as_u16() {
        401 => Kind::Credentials,
        403 => Kind::Permission,
        404 | 410 => Kind::Missing,
        409 if !has(&LASTING) && has(&PASSING) => Kind::Busy,
        400 if has(&["does not exist"]) => Kind::Missing,
        // Asked to come back later, the request was not carried out.
        408 | 429 => Kind::Unreachable,
        // Without a fault it is not the engine that speaks.
        500..=599 if words.is_none() => match effect {
            Effect::None => Kind::Unreachable,
            Effect::Creates => Kind::AnswerLost,
        },
        400 | 409 | 500..=599 => Kind::Unusable,
        _ => Kind::Protocol,
    }
}

/// Cuts what a server says to a length that fits a message, on one line.
pub(super) fn shorten(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if line.len() < text.len() {
        return line + " ...";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(detail: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({"detail": detail, "reason": "Operation Failed"}))
            .unwrap()
    }

    /// Every refusal that `validateImageTransfer` knows, with the engine's own text.
    #[test]
    fn refusals_of_a_transfer() {
        for (status, detail, kind) in [
            (
                409,
                "[Cannot transfer Virtual Disk: The following disks are locked: d1. Please try again in a few minutes.]",
                Kind::Busy,
            ),
            (
                409,
                "[Cannot transfer Virtual Disk. Disk d1 is being transferred.]",
                Kind::Busy,
            ),
            (
                409,
                "[Cannot transfer Virtual Disk. Related operation is currently in progress. Please try again later.]",
                Kind::Busy,
            ),
            (409, "[Disk is locked]", Kind::Busy),
            (
                409,
                "[Cannot transfer Virtual Disk. The disk d1 is plugged to non-Down VMs: VM1,VM2]",
                Kind::Unusable,
            ),
            (
                409,
                "[Cannot transfer Virtual Disk. The disk move in progress is plugged to non-Down VMs: disk is locked]",
                Kind::Unusable,
            ),
            (
                500,
                "[Cannot transfer Virtual Disk. The following attached disks are in ILLEGAL status: d1 - please remove them and try again.]",
                Kind::Unusable,
            ),
            (
                409,
                "[Cannot transfer Virtual Disk. The relevant Storage Domain's status is Maintenance.]",
                Kind::Unusable,
            ),
            (
                409,
                "[Cannot transfer Virtual Disk. There is no active Host in the Data Center.]",
                Kind::Unusable,
            ),
            (409, "[Something new]", Kind::Unusable),
            (
                400,
                "[Cannot transfer Virtual Disk. The specified disk does not exist.]",
                Kind::Missing,
            ),
            (
                403,
                "[User is not authorized to perform this action.]",
                Kind::Permission,
            ),
            (
                400,
                "[Cannot transfer Virtual Disk. The operation is not supported for Managed Block Storage.]",
                Kind::Unusable,
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = refusal("make a transfer", status, &fault(detail), Effect::Creates);
            assert_eq!(error.kind(), kind, "{detail}");
            let words = detail.trim_matches(['[', ']']);
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn a_start_that_fails_without_words_says_where_to_look() {
        let error = refusal(
            "make a transfer",
            StatusCode::BAD_REQUEST,
            &fault("[]"),
            Effect::Creates,
        );
        assert_eq!(error.kind(), Kind::Unusable);
        assert!(error.to_string().contains("engine.log"), "{error}");
    }

    #[test]
    fn a_web_server_in_the_engines_place() {
        let html = b"<html><body>Service Unavailable</body></html>";
        for status in [500, 502, 503, 504] {
            let status = StatusCode::from_u16(status).unwrap();
            let asking = refusal("look", status, html, Effect::None);
            assert_eq!(asking.kind(), Kind::Unreachable);
            let making = refusal("make", status, html, Effect::Creates);
            assert_eq!(making.kind(), Kind::AnswerLost);
        }
        let missing = refusal("look", StatusCode::NOT_FOUND, b"", Effect::None);
        assert_eq!(missing.kind(), Kind::Missing);
        let odd = refusal("look", StatusCode::IM_A_TEAPOT, b"", Effect::None);
        assert_eq!(odd.kind(), Kind::Protocol);
    }

    #[test]
    fn reason_stands_in_for_a_missing_detail_and_words_are_bounded() {
        let body = br#"{"reason": "Operation failed"}"#;
        let error = refusal("look", StatusCode::BAD_REQUEST, body, Effect::None);
        assert!(error.to_string().contains("says: Operation failed"));
        let long = refusal(
            "look",
            StatusCode::BAD_REQUEST,
            &fault(&"x\n".repeat(5000)),
            Effect::None,
        );
        assert!(long.to_string().len() < LONGEST + 100);
        assert!(!long.to_string().contains('\n'));
    }
}
