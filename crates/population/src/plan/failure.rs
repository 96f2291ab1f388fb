//! A pod that failed: whether another attempt is of use.

use contract::{Exit, Retry, Termination, termination};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use populator_api::{Reason, names::event as name};

use super::{
    action::{Action, DeleteReason},
    outdated,
    steps::{delete_claim, delete_pod, usable_populator},
    types::{Plan, Situation, SlotUse},
};
use crate::{
    model::{Ended, LastFailure, Pod, PodPhase, PopulatorSpec, TemporaryClaim, Verdict},
    objects,
};

/// The failure of a pod, as far as the next step depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureClass {
    /// Whether another attempt, with nothing changed, can succeed.
    pub is_transient: bool,
    /// Whether the cluster ended the pod, or never started it: no failed attempt, and not counted
    /// as one.
    pub is_disruption: bool,
    /// Why the pod failed, in one word.
    pub reason: Reason,
    /// Why the pod failed, in a sentence.
    pub message: String,
}

/// The next step after the pod has failed.
///
/// A pod that another one replaces is deleted at once: Forklift polls every three seconds and takes
/// a failed pod for the end of the migration. The pod of a permanent failure is kept for its log.
pub(super) fn next(situation: &Situation<'_>, pod: &Pod) -> Plan {
    let failure = FailureClass::of(pod);
    // Without its resource the claim gets no other pod, so this failure is the last word for now.
    let populator = match usable_populator(situation) {
        Ok(populator) => populator,
        Err(plan) if failure.is_transient => {
            let message = format!(
                "{}; no further attempt: {}",
                failure.message, plan.status.message
            );
            return Plan::warn(name::FAILED, plan.status.reason, message);
        }
        Err(_) => return failed(failure),
    };
    // Before the class of the failure: a corrected resource, or a requested retry, justifies
    // another attempt after a permanent failure too.
    if outdated::is_outdated(&situation.world.claim, populator, pod) {
        // A permanent failure has given the slot up. Until the claim has another one, the pod stays
        // for its log.
        let slot = if failure.is_transient {
            SlotUse::Resume
        } else {
            SlotUse::Acquire
        };
        // The failures are forgotten first: only the pod shows that a new attempt was requested,
        // and once it is gone the next attempt would wait for the old backoff.
        let temporary = situation.world.own_temporary();
        let actions: Vec<Action> = [Action::ForgetFailures]
            .into_iter()
            .chain(delete_pod(pod))
            .chain(restart(temporary.filter(|_| pod.is_overdue)))
            .collect();
        return Plan::act(Reason::Retrying, "a new attempt was requested", actions).with_slot(slot);
    }
    if !failure.is_transient {
        return permanent(situation, populator, pod, failure);
    }
    retried(situation, populator, pod, failure)
}

/// Another attempt, if there is one left.
fn retried(
    situation: &Situation<'_>,
    populator: &PopulatorSpec,
    pod: &Pod,
    failure: FailureClass,
) -> Plan {
    let attempts = &situation.world.claim.attempts;
    let retry = &situation.settings.retry;
    // The pod may outlive the action that counted it: its UID keeps it from being counted twice.
    let last = attempts.last_failure.as_ref();
    let counted = last.is_some_and(|last| last.pod == pod.uid);
    let disruptions = last.map_or(0, |last| last.disruptions);
    let (count, most) = if failure.is_disruption {
        (disruptions, retry.most_disruptions)
    } else {
        (attempts.recreations, retry.most)
    };
    if !counted && count >= most {
        let what = if failure.is_disruption {
            "time that the cluster ended the pod"
        } else {
            "attempt"
        };
        let last_word = FailureClass {
            reason: Reason::RetriesExhausted,
            message: format!(
                "{}; that was {what} {}, the last one",
                failure.message,
                count.saturating_add(1)
            ),
            ..failure
        };
        return permanent(situation, populator, pod, last_word);
    }
    let one = u32::from(!counted);
    let is_disruption = failure.is_disruption;
    let recreations = attempts
        .recreations
        .saturating_add(if is_disruption { 0 } else { one });
    let disruptions = disruptions.saturating_add(if is_disruption { one } else { 0 });
    let record = (!counted).then(|| Action::RecordFailure {
        recreations,
        failure: LastFailure {
            pod: pod.uid.clone(),
            at: Time(situation.now),
            reason: failure.reason,
            message: failure.message.clone(),
            disruptions,
            verdict: None,
        },
    });
    // Counted before the pod is deleted: a failure that was never counted would make the number of
    // attempts unbounded.
    let actions: Vec<Action> = record.into_iter().chain(delete_pod(pod)).collect();
    let pause = retry.backoff.bound(recreations.max(disruptions));
    Plan::act(Reason::Retrying, failure.message, actions).requeue_after(pause)
}

/// The last word, which is recorded on the claim so that it outlives the pod.
fn permanent(
    situation: &Situation<'_>,
    populator: &PopulatorSpec,
    pod: &Pod,
    failure: FailureClass,
) -> Plan {
    let claim = &situation.world.claim;
    let last = claim.attempts.last_failure.as_ref();
    let is_recorded = last.is_some_and(|last| last.pod == pod.uid && last.verdict.is_some());
    let record = (!is_recorded).then(|| Action::RecordFailure {
        recreations: claim.attempts.recreations,
        failure: LastFailure {
            pod: pod.uid.clone(),
            at: Time(situation.now),
            reason: failure.reason,
            message: failure.message.clone(),
            disruptions: last.map_or(0, |last| last.disruptions),
            verdict: Some(Verdict {
                origin: objects::origin(claim, populator),
                retry: claim.retry.clone(),
            }),
        },
    });
    let mut plan = failed(failure);
    plan.actions.extend(record);
    plan
}

fn failed(failure: FailureClass) -> Plan {
    Plan::warn(name::FAILED, failure.reason, failure.message)
}

/// Drops the temporary claim, whose age is what the deadline for the start counts from.
fn restart(temporary: Option<&TemporaryClaim>) -> Option<Action> {
    let temporary = temporary.filter(|temporary| temporary.terminating.is_none());
    temporary.map(|temporary| delete_claim(temporary, DeleteReason::Abandoned))
}

/// A permanent failure whose pod is gone. It stands until the resource is corrected or a retry is
/// requested: not because something deleted the pod.
pub(super) fn standing(
    situation: &Situation<'_>,
    populator: &PopulatorSpec,
    temporary: Option<&TemporaryClaim>,
) -> Option<Plan> {
    let claim = &situation.world.claim;
    let last = claim.attempts.last_failure.as_ref()?;
    let verdict = last.verdict.as_ref()?;
    let is_requested = claim.retry.is_some() && claim.retry != verdict.retry;
    if is_requested || verdict.origin != objects::origin(claim, populator) {
        let message = "a new attempt was requested";
        let mut plan = Plan::act(Reason::Retrying, message, [Action::ForgetFailures]);
        let is_overdue = last.reason == Reason::StartDeadlineExceeded;
        plan.actions
            .extend(restart(temporary.filter(|_| is_overdue)));
        return Some(plan.with_slot(SlotUse::Acquire));
    }
    Some(Plan::warn(name::FAILED, last.reason, &last.message))
}

impl FailureClass {
    /// The failure by the best source: the mover's termination message, its exit code, the kubelet.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        // Before any exit code: the mover ends with one when the node stops it, and is not to
        // blame.
        let evicted = pod.evicted.as_ref();
        if let Some(why) = evicted.filter(|_| pod.is_overdue) {
            return Self {
                is_transient: false,
                is_disruption: false,
                reason: Reason::StartDeadlineExceeded,
                message: why.clone(),
            };
        }
        if let Some(why) = evicted {
            return Self {
                is_disruption: true,
                ..Self::transient(format!("the cluster ended the pod: {why}"))
            };
        }
        if pod.phase == PodPhase::Succeeded {
            return Self::transient(
                "the pod ended with exit code 0 and did not report that the disk is complete, so its volume \
                 is not used; check that the controller's settings name the image of a populator of this \
                 release"
                    .to_owned(),
            );
        }
        let Some(ended) = &pod.ended else {
            return Self::transient("the pod failed without saying why".to_owned());
        };
        let Some((exit, message)) = exit_of(ended) else {
            return Self::transient(unexplained(ended));
        };
        let message = format!("{message} (exit code {})", exit.code());
        match exit.retry() {
            Retry::Useful => Self::transient(message),
            Retry::Pointless => Self {
                is_transient: false,
                is_disruption: false,
                reason: reason(exit),
                message,
            },
        }
    }

    fn transient(message: String) -> Self {
        Self {
            is_transient: true,
            is_disruption: false,
            reason: Reason::Retrying,
            message,
        }
    }
}

/// How the mover ended, if its termination message or its exit code is one of the contract's.
fn exit_of(ended: &Ended) -> Option<(Exit, String)> {
    let termination = serde_json::from_str::<Termination>(ended.message.trim()).ok();
    let termination = termination.filter(|termination| {
        termination.version == termination::VERSION
            && termination.exit != Exit::Success
            // The message was written before the kernel ended the mover for another reason.
            && ended.reason != "OOMKilled"
    });
    if let Some(termination) = termination {
        return Some((termination.exit, termination.message));
    }
    // Other programs, and Go's run time, end with 1 and 2 as well: without a message they prove
    // nothing.
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
        // A transient failure is retried.
        Exit::Success
        | Exit::Internal
        | Exit::SourceUnavailable
        | Exit::SourceBusy
        | Exit::Interrupted
        | Exit::Terminated => Reason::Retrying,
    }
}
