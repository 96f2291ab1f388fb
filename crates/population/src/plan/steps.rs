//! Steps that occur at several points in the life of a claim.

use std::time::Duration;

use jiff::Timestamp;
use populator_api::{Reason, names::event as name};

use super::{
    action::{Action, DeleteReason},
    types::{Plan, Situation},
};
use crate::{
    model::{Lookup, Pod, PodPhase, PopulatorSpec, TemporaryClaim, World},
    settings::variable,
    text,
};

/// So much of a URL is shown, in bytes.
const MOST_SHOWN: usize = 256;

/// The populator resource, or the plan without one: nothing is created for a resource that is gone.
pub(super) fn usable_populator<'a>(
    situation: &Situation<'a>,
) -> Result<&'a PopulatorSpec, Box<Plan>> {
    let reference = &situation.world.claim.reference;
    let resource = format!("{} {}", reference.kind, reference.name);
    let (event, reason, message) = match &situation.world.populator {
        Lookup::Found(populator) if !populator.terminating => {
            let Some(why) = forbidden_host(situation, populator) else {
                return Ok(populator);
            };
            (
                name::REFUSED,
                Reason::ResourceInvalid,
                format!("the {resource} cannot be used: {why}"),
            )
        }
        Lookup::Found(_) => (
            name::WAITING,
            Reason::ResourceMissing,
            format!("the {resource} is being deleted"),
        ),
        Lookup::Missing => (
            name::WAITING,
            Reason::ResourceMissing,
            format!("there is no {resource}; the claim waits for it"),
        ),
        Lookup::Invalid(why) => (
            name::REFUSED,
            Reason::ResourceInvalid,
            format!("the {resource} cannot be used: {why}"),
        ),
    };
    Err(Box::new(Plan::warn(event, reason, message)))
}

/// Why the installation does not let credentials be sent to where the resource says.
fn forbidden_host(situation: &Situation<'_>, populator: &PopulatorSpec) -> Option<String> {
    let allowed = situation.settings.allowed_hosts.as_ref()?;
    let url = populator.location.url();
    (!allowed.allow(url)).then(|| {
        format!(
            "this installation allows no source {:?}, only {allowed}; name one of these, or have an administrator \
             add its host to {}",
            text::plain(url, MOST_SHOWN),
            variable::ALLOWED_HOSTS
        )
    })
}

/// Deletes the pod while it runs, and the temporary claim. A pod that has ended stays for its log.
pub(super) fn drop_running(world: &World) -> Vec<Action> {
    let running = world
        .own_pod()
        .filter(|pod| matches!(pod.phase, PodPhase::Pending | PodPhase::Running));
    drop_with(world, running)
}

/// Deletes the pod also when it has ended: it would keep the temporary claim and its volume for as
/// long as the claim exists.
pub(super) fn drop_all(world: &World) -> Vec<Action> {
    drop_with(world, world.own_pod())
}

fn drop_with(world: &World, pod: Option<&Pod>) -> Vec<Action> {
    let temporary = world
        .own_temporary()
        .filter(|temporary| temporary.terminating.is_none())
        .map(|temporary| delete_claim(temporary, DeleteReason::Abandoned));
    // The pod first: Kubernetes keeps a claim that is deleted until no pod uses it.
    let pod = pod.and_then(delete_pod);
    pod.into_iter().chain(temporary).collect()
}

/// Deletes the pod, unless it is being deleted already.
pub(super) fn delete_pod(pod: &Pod) -> Option<Action> {
    pod.terminating.is_none().then(|| Action::DeletePod {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    })
}

/// Deletes the temporary claim.
pub(super) fn delete_claim(temporary: &TemporaryClaim, reason: DeleteReason) -> Action {
    Action::DeleteTemporaryClaim {
        name: temporary.name.clone(),
        uid: temporary.uid.clone(),
        reason,
    }
}

/// What is left of `delay` after `since`. A time far in the future comes from a wrong clock, and
/// must not block a claim.
pub(super) fn remaining(since: Timestamp, delay: Duration, now: Timestamp) -> Duration {
    let passed = now.duration_since(since);
    match Duration::try_from(passed) {
        Ok(passed) => delay.saturating_sub(passed),
        Err(_) if passed.unsigned_abs() > delay => Duration::ZERO,
        Err(_) => delay,
    }
}
