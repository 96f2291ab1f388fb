//! The status that the controller writes to a populator resource.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Reason;

/// How many claims [`PopulatorStatus::claims`] lists at most.
pub const MOST_CLAIMS: usize = 50;
/// Bytes of a claim's message and of the last error, at most. With [`MOST_CLAIMS`] it keeps the
/// status far below the 1.5 MiB at which the API server refuses an object.
pub const MOST_TEXT: usize = 1024;
/// More than there are reasons.
const MOST_COUNTS: usize = 64;
/// More than there are types of conditions.
const MOST_CONDITIONS: usize = 8;
/// Kubernetes' limit on the name of an object.
const MOST_OF_NAME: usize = 253;
/// More than a UID has.
const MOST_OF_UID: usize = 128;

/// Status of a populator resource.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PopulatorStatus {
    /// Percent of the disk that is in place, a plain integer from 0 to 100 as a string; the least
    /// of all claims. Readers parse it strictly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,

    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The conditions Ready, Progressing and Failed; and, only while they hold, Stalled (like Failed)
    /// and Reconciling (some claim is on its way or waits).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_CONDITIONS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// How many claims refer to the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_count: Option<i32>,

    /// How many of them have each reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_COUNTS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["reason"]))]
    pub counts: Vec<ClaimCount>,

    /// The claims that need attention first, at most 50: failed ones, then those on their way, those
    /// that wait, and those that are populated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_CLAIMS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub claims: Vec<ClaimStatus>,

    /// Bytes of the source that are in place, over all claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transferred_bytes: Option<i64>,

    /// Size of the source in bytes, over all claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,

    /// Rate of the copy, over all claims, for people: `118 MiB/s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,

    /// The last error, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MOST_TEXT))]
    pub last_error: Option<String>,
}

/// How many claims have one reason.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimCount {
    /// State of these claims, in one word.
    // A plain string for the API server, as in [`ClaimStatus`].
    #[schemars(with = "String")]
    pub reason: Reason,
    /// Number of the claims.
    pub claims: i32,
}

/// A claim that is populated from the resource.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// UID of the claim.
    #[schemars(length(max = MOST_OF_UID))]
    pub uid: String,
    /// Name of the claim.
    #[schemars(length(max = MOST_OF_NAME))]
    pub name: String,
    /// Percent of the disk that is in place; absent while it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<i32>,
    /// State of the claim, in one word.
    // A plain string for the API server: a controller that knows one reason more than the installed
    // definition would otherwise have its whole status refused.
    #[schemars(with = "String")]
    pub reason: Reason,
    /// State of the claim, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MOST_TEXT))]
    pub message: Option<String>,
}

/// Types of conditions of a populator resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Every claim is populated and bound.
    Ready,
    /// At least one claim is being populated.
    Progressing,
    /// At least one claim failed permanently and waits for the user or an administrator.
    Failed,
    /// The same, in the word of kstatus. The condition is there only while it holds.
    Stalled,
    /// At least one claim is neither populated nor failed, in the word of kstatus. The condition is
    /// there only while it holds.
    Reconciling,
}

impl PopulatorStatus {
    /// [`Self::progress`] for these percentages: the least of them, where unknown counts as 0;
    /// `None` for no percentages.
    #[must_use]
    pub fn progress_of(claims: impl IntoIterator<Item = Option<i32>>) -> Option<String> {
        claims
            .into_iter()
            .map(|progress| progress.unwrap_or(0).clamp(0, 100))
            .min()
            .map(|progress| progress.to_string())
    }
}

impl ConditionType {
    /// The word that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Failed => "Failed",
            Self::Stalled => "Stalled",
            Self::Reconciling => "Reconciling",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_plain_integer_and_the_least() {
        let of = |claims: Vec<_>| PopulatorStatus::progress_of(claims);
        assert_eq!(of(vec![]), None);
        assert_eq!(of(vec![Some(70), Some(3)]).as_deref(), Some("3"));
        assert_eq!(of(vec![Some(100), None]).as_deref(), Some("0"));
        assert_eq!(of(vec![Some(250)]).as_deref(), Some("100"));
        assert_eq!(of(vec![Some(-1)]).as_deref(), Some("0"));
    }

    #[test]
    fn an_empty_status_is_empty() {
        let status = PopulatorStatus::default();
        assert_eq!(serde_json::to_string(&status).unwrap(), "{}");
    }

    #[test]
    fn the_list_of_counts_has_room_for_every_reason() {
        assert!(Reason::ALL.len() <= MOST_COUNTS);
    }

    #[test]
    fn forklifts_status_is_read() {
        let status: PopulatorStatus = serde_json::from_str(r#"{"progress": "42"}"#).unwrap();
        assert_eq!(status.progress.as_deref(), Some("42"));
        assert!(status.conditions.is_empty());
    }
}
