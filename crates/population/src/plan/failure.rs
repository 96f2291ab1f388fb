//! A pod that failed: whether another attempt is of use.

use contract::{Exit, Retry, Termination, termination};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use populator_api::{Reason, names::event as name};

use super::{Action, Plan, Situation, SlotUse, begin, finish, outdated};
use crate::model::{Ended, LastFailure, Pod, PodPhase};

/// What a failed pod says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureClass {
    /// Whether another attempt, with nothing changed, can end differently.
    pub is_transient: bool,
    /// Why it failed, in one word.
    pub reason: Reason,
    /// Why it failed, in a sentence.
    pub message: String,
}

/// The next step after the pod has failed.
///
/// A pod that makes way for another one is deleted at once: Forklift looks every three seconds and takes
/// a failed pod for the end of the migration. One that stays is kept for its log.
pub(super) fn next(situation: &Situation<'_>, pod: &Pod) -> Plan {
    let attempts = &situation.world.claim.attempts;
    let most = situation.settings.retry.most;
    let verdict = FailureClass::of(pod);
    let populator = match begin::usable_populator(situation) {
        Ok(populator) => populator,
        Err(plan) if verdict.is_transient => {
            let message = format!(
                "{}; no other attempt: {}",
                verdict.message, plan.status.message
            );
            return Plan::warn(name::FAILED, plan.status.reason, message);
        }
        Err(_) => return permanent(verdict),
    };
    if outdated::is_outdated(&situation.world.claim, populator, pod) {
        // A permanent failure has given the slot up. Until there is another one, the pod keeps its log.
        let slot = if verdict.is_transient {
            SlotUse::Resume
        } else {
            SlotUse::Acquire
        };
        let again = [Action::ForgetFailures, finish::delete_pod(pod)];
        return Plan::act(Reason::Retrying, "a new attempt was asked for", again).with_slot(slot);
    }
    if !verdict.is_transient {
        return permanent(verdict);
    }

    let counted = attempts
        .last_failure
        .as_ref()
        .is_some_and(|failure| failure.pod == pod.uid);
    if !counted && attempts.recreations >= most {
        return permanent(FailureClass {
            reason: Reason::RetriesExhausted,
            message: format!(
                "{}; that was attempt {}, the last one",
                verdict.message,
                attempts.recreations.saturating_add(1)
            ),
            ..verdict
        });
    }
    let recreations = attempts.recreations.saturating_add(u32::from(!counted));
    let record = (!counted).then(|| Action::RecordFailure {
        recreations,
        failure: LastFailure {
            pod: pod.uid.clone(),
            at: Time(situation.now),
            reason: verdict.reason,
            message: verdict.message.clone(),
        },
    });
    let actions: Vec<Action> = record
        .into_iter()
        .chain([finish::delete_pod(pod)])
        .collect();
    Plan::act(Reason::Retrying, verdict.message, actions)
        .requeue_after(situation.settings.retry.pause(recreations))
}

fn permanent(verdict: FailureClass) -> Plan {
    Plan::warn(name::FAILED, verdict.reason, verdict.message)
}

impl FailureClass {
    /// What the pod says: by the mover's own word, then by its exit code, then by the node's.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        if let Some(why) = &pod.evicted {
            return Self::is_transient(format!("the node ended the pod: {why}"));
        }
        if pod.phase == PodPhase::Succeeded {
            return Self::is_transient(
                "the pod ended with exit code 0 and did not report that the disk is complete, so that its volume is \
                 not used; check that the controller's settings name the image of a populator of this release"
                    .to_owned(),
            );
        }
        let Some(ended) = &pod.ended else {
            return Self::is_transient("the pod failed without saying why".to_owned());
        };
        let Some((exit, message)) = exit_of(ended) else {
            return Self::is_transient(unexplained(ended));
        };
        let message = format!("{message} (exit code {})", exit.code());
        match exit.retry() {
            Retry::Useful => Self::is_transient(message),
            Retry::Pointless => Self {
                is_transient: false,
                reason: reason(exit),
                message,
            },
        }
    }

    fn is_transient(message: String) -> Self {
        Self {
            is_transient: true,
            reason: Reason::Retrying,
            message,
        }
    }
}

/// How the mover ended, if it says so.
fn exit_of(ended: &Ended) -> Option<(Exit, String)> {
    let told = serde_json::from_str::<Termination>(ended.message.trim()).ok();
    let told = told.filter(|told| {
        told.version == termination::VERSION
            && told.exit != Exit::Success
            && ended.reason != "OOMKilled"
    });
    if let Some(told) = told {
        return Some((told.exit, told.message));
    }
    // 1 and 2 are also what other programs, and Go's run time, end with: no verdict without words.
    let exit = Exit::from_code(ended.exit_code).filter(|exit| exit.code() > Exit::Usage.code())?;
    Some((exit, "the mover ended without a message".to_owned()))
}

fn unexplained(ended: &Ended) -> String {
    let Ended {
        exit_code,
        reason,
        message,
        ..
    } = ended;
    let last = message.lines().rfind(|line| !line.trim().is_empty());
    match (reason.as_str(), last) {
        ("" | "Error", None) => {
            format!("the mover ended with exit code {exit_code} and no message")
        }
        ("" | "Error", Some(last)) => format!(
            "the mover ended with exit code {exit_code}: {}",
            last.trim()
        ),
        (reason, None) => format!("{reason} (exit code {exit_code})"),
        (reason, Some(last)) => format!("{reason} (exit code {exit_code}): {}", last.trim()),
    }
}

const fn reason(exit: Exit) -> Reason {
    match exit {
        Exit::Usage | Exit::Configuration => Reason::InvalidConfiguration,
        Exit::Credentials => Reason::CredentialsRefused,
        Exit::Permission => Reason::PermissionDenied,
        Exit::SourceMissing => Reason::SourceMissing,
        Exit::SourceUnusable => Reason::SourceUnusable,
        Exit::SourceProtocol => Reason::SourceProtocolError,
        Exit::HashMismatch => Reason::HashMismatch,
        Exit::Tls => Reason::CertificateNotTrusted,
        Exit::TargetTooSmall => Reason::VolumeTooSmall,
        Exit::TargetDenied | Exit::TargetExists => Reason::VolumeDenied,
        Exit::TargetFull => Reason::VolumeFull,
        Exit::TargetIo => Reason::VolumeIoError,
        // What may heal has the reason of its last attempt.
        Exit::Success
        | Exit::Internal
        | Exit::SourceUnavailable
        | Exit::SourceBusy
        | Exit::Interrupted
        | Exit::Terminated => Reason::Retrying,
    }
}
