//! The first step: whether the claim can be populated at all, and its temporary claim.

use std::time::Duration;

use populator_api::{
    GROUP, Reason,
    names::{annotation as key, event as name, is_object_name},
};

use super::{
    action::Action,
    failure, late_binding,
    steps::{delete_pod, remaining, usable_populator},
    types::{Plan, Situation, SlotUse},
};
use crate::{
    Settings,
    model::{Binding, Claim, Grant, Kind, Lookup, PodPhase, StorageClass},
    objects,
};

/// Requeue of a claim without its grant: grants are not watched, but read while a claim needs one.
const GRANT_RECHECK: Duration = Duration::from_secs(30);
/// By then Kubernetes has said on a new claim which CSI driver serves its in-tree class.
const MIGRATED: Duration = Duration::from_mins(1);

/// Why the claim is not populated, whatever was created for it so far.
///
/// First what the claim itself asks for, then objects of others that are in the way: a claim that
/// is not served at all needs no name of its own.
pub(super) fn refusal(situation: &Situation<'_>) -> Option<Plan> {
    let world = situation.world;
    let claim = &world.claim;
    let refuse = |reason, message: String| Some(Plan::warn(name::REFUSED, reason, message));
    let kind = &claim.reference.kind;
    let Some(known) = Kind::from_name(kind) else {
        return refuse(
            Reason::KindUnsupported,
            format!("this controller does not serve the kind {kind} of {GROUP}"),
        );
    };
    if !situation.settings.images.contains_key(&known) {
        return refuse(
            Reason::KindUnsupported,
            format!(
                "this controller has no image for the kind {kind}; its installation must name one"
            ),
        );
    }
    if world.grant == Grant::Missing {
        let namespace = claim.populator_namespace();
        let message = format!(
            "dataSourceRef names the namespace {namespace}, and no ReferenceGrant there allows it; \
             use a {kind} of the claim's namespace"
        );
        let refused = Plan::warn(name::REFUSED, Reason::ReferenceNotGranted, message);
        return Some(refused.requeue_after(GRANT_RECHECK));
    }
    if let Some(account) = &claim.service_account
        && !may_run_as(situation.settings, account)
    {
        return refuse(
            Reason::ClaimUnsupported,
            format!(
                "the annotation {} names {account:?}, which is no service account that this installation allows; \
                 remove it, or name another one",
                key::SERVICE_ACCOUNT
            ),
        );
    }
    // A copy that has started goes on as it was started.
    let has_started = world
        .own_pod()
        .is_some_and(|pod| pod.phase != PodPhase::Pending);
    if let Err(why) = &claim.mover
        && !has_started
    {
        return refuse(Reason::ClaimUnsupported, why.to_string());
    }
    if claim.has_selector {
        return refuse(
            Reason::ClaimUnsupported,
            "spec.selector is set; a claim that is to be populated gets a new volume, not one by its \
             labels"
                .to_owned(),
        );
    }
    if claim.access_modes == ["ReadOnlyMany"] {
        return refuse(
            Reason::ClaimUnsupported,
            "the only access mode is ReadOnlyMany; a claim that is to be populated must be writable"
                .to_owned(),
        );
    }
    if let Some(found) = &world.temporary
        && world.own_temporary().is_none()
    {
        let message = format!(
            "a claim {} exists that does not belong to this one; delete or rename it",
            found.name
        );
        return Some(Plan::warn(
            name::CLAIM_CREATION_ERROR,
            Reason::NameTaken,
            message,
        ));
    }
    if let Some(found) = &world.pod
        && world.own_pod().is_none()
    {
        let message = format!(
            "a pod {} exists that does not belong to this claim; delete or rename it",
            found.name
        );
        return Some(Plan::warn(name::CREATION_ERROR, Reason::NameTaken, message));
    }
    None
}

/// Whether a claim may choose the service account: a cloud may give it rights that the claim's owner lacks.
fn may_run_as(settings: &Settings, account: &str) -> bool {
    let allowed = settings.service_accounts.as_ref();
    is_object_name(account) && allowed.is_none_or(|allowed| allowed.contains(account))
}

/// The next step while there is no temporary claim.
pub(super) fn next(situation: &Situation<'_>) -> Plan {
    let world = situation.world;
    let claim = &world.claim;
    if let Some(pod) = world.own_pod() {
        // Whatever it wrote is gone with the claim that it wrote to. Not even its success counts:
        // the next temporary claim has the same name, and an empty volume.
        let message =
            "the temporary claim is gone; its pod is deleted too, and the population restarts";
        return Plan::act(Reason::Clearing, message, Vec::from_iter(delete_pod(pod)));
    }
    let populator = match usable_populator(situation) {
        Ok(populator) => populator,
        Err(plan) => return *plan,
    };
    if let Some(plan) = failure::standing(situation, populator, None) {
        return plan;
    }
    let class = match usable_class(situation) {
        Ok(class) => class,
        Err(plan) => return *plan,
    };
    let node = match class.binding {
        // Such a class chooses by itself, whatever node the claim names.
        Binding::Immediate => None,
        Binding::WaitForFirstConsumer => claim.selected_node.as_deref(),
    };
    if class.binding == Binding::WaitForFirstConsumer && node.is_none() && !claim.bind_immediately {
        let message = format!(
            "the storage class {} waits for a pod that uses the claim",
            class.name
        );
        return Plan::wait(Reason::WaitingForConsumer, message);
    }
    if let Some(plan) = node.and_then(|node| late_binding::before(situation, node)) {
        return plan;
    }
    let temporary = objects::temporary_claim(claim, node, &situation.settings.placement);
    Plan::act(
        Reason::Provisioning,
        "creating the temporary claim",
        [Action::CreateTemporaryClaim(Box::new(temporary))],
    )
    .with_slot(SlotUse::Acquire)
}

/// Whether the class is built into Kubernetes, and no CSI driver has taken it over. Where the class
/// waits for a consumer, Kubernetes says so only when there is one, and then on the temporary claim
/// as well.
fn is_unmigrated(claim: &Claim, class: &StorageClass) -> bool {
    class.is_in_tree() && class.binding == Binding::Immediate && !claim.migrated_to_csi
}

/// The storage class, or the plan without one that provisions volumes for populators.
fn usable_class<'a>(situation: &Situation<'a>) -> Result<&'a StorageClass, Box<Plan>> {
    let world = situation.world;
    match (world.claim.class.as_deref(), &world.class) {
        (None, _) => wait_for_class(
            "the claim names no storage class, and there is no default; the claim waits for one",
        ),
        (Some(""), _) => refuse_class(
            "the storage class is \"\", which means volumes made by hand; name a class with a provisioner",
        ),
        (Some(name), Lookup::Missing) => wait_for_class(format!(
            "there is no storage class {name}; the claim waits for it"
        )),
        (Some(name), Lookup::Invalid(why)) => {
            wait_for_class(format!("the storage class {name} cannot be read: {why}"))
        }
        (Some(_), Lookup::Found(class)) if class.is_static() => refuse_class(format!(
            "the storage class {} has no provisioner (local volumes); name a class with one",
            class.name
        )),
        (Some(_), Lookup::Found(class)) if is_unmigrated(&world.claim, class) => {
            let left = remaining(world.claim.created, MIGRATED, situation.now);
            if !left.is_zero() {
                let message = format!(
                    "waiting to see which CSI driver serves the storage class {}",
                    class.name
                );
                let plan = Plan::wait(Reason::StorageClassMissing, message);
                return Err(Box::new(plan.requeue_after(left)));
            }
            refuse_class(format!(
                "the provisioner {} of the storage class {} is built into Kubernetes and cannot populate; \
                 name a class with a CSI driver",
                class.provisioner, class.name
            ))
        }
        (Some(_), Lookup::Found(class)) => Ok(class),
    }
}

fn wait_for_class<T>(message: impl Into<String>) -> Result<T, Box<Plan>> {
    let plan = Plan::warn(name::WAITING, Reason::StorageClassMissing, message);
    Err(Box::new(plan))
}

fn refuse_class<T>(message: impl Into<String>) -> Result<T, Box<Plan>> {
    let plan = Plan::warn(name::REFUSED, Reason::StorageClassUnsupported, message);
    Err(Box::new(plan))
}
