//! Before there is anything: whether the claim can be populated at all, and the temporary claim.

use std::time::Duration;

use populator_api::{GROUP, Reason, names::event as name};

use super::{Action, Plan, Situation, SlotUse, finish};
use crate::{
    model::{Binding, Claim, Grant, Kind, Lookup, PopulatorSpec, StorageClass},
    objects,
};

/// Grants are not watched, but asked for while a claim needs one.
const ASK_FOR_GRANT: Duration = Duration::from_secs(30);

/// Why the claim is not populated, whatever was made for it so far.
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
        return Some(refused.requeue_after(ASK_FOR_GRANT));
    }
    if claim.has_selector {
        return refuse(
            Reason::ClaimUnsupported,
            "spec.selector is set; a claim that is to be populated gets a new volume, not one by its labels".to_owned(),
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

/// The next step while there is no temporary claim.
pub(super) fn next(situation: &Situation<'_>) -> Plan {
    let world = situation.world;
    let claim = &world.claim;
    if let Some(pod) = world.own_pod() {
        // Whatever it wrote went with the claim that it wrote to.
        let reason = pod.terminating.is_none().then(|| finish::delete_pod(pod));
        let message = "the temporary claim is gone; its pod goes too, and the work begins anew";
        return Plan::act(Reason::Clearing, message, Vec::from_iter(reason));
    }
    if let Err(plan) = usable_populator(situation) {
        return *plan;
    }
    let class = match usable_class(claim, &world.class) {
        Ok(class) => class,
        Err(plan) => return *plan,
    };
    let node = match class.binding {
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
    if let Some(node) = node.filter(|node| world.nodes.lacks(node)) {
        let clear = Action::ClearSelectedNode {
            node: node.to_owned(),
        };
        return Plan::act(
            Reason::WaitingForConsumer,
            format!("the node {node} is gone; the scheduler chooses another one"),
            [clear],
        );
    }
    let temporary = objects::temporary_claim(claim, node);
    Plan::act(
        Reason::Provisioning,
        "making the temporary claim",
        [Action::CreateTemporaryClaim(Box::new(temporary))],
    )
    .with_slot(SlotUse::Acquire)
}

/// The populator resource, or what to do without one: nothing is made for a resource that is gone.
pub(super) fn usable_populator<'a>(
    situation: &Situation<'a>,
) -> Result<&'a PopulatorSpec, Box<Plan>> {
    let reference = &situation.world.claim.reference;
    match &situation.world.populator {
        Lookup::Found(populator) if !populator.terminating => Ok(populator),
        Lookup::Found(_) => Err(Box::new(Plan::warn(
            name::WAITING,
            Reason::ResourceMissing,
            format!("the {} {} is being deleted", reference.kind, reference.name),
        ))),
        Lookup::Missing => Err(Box::new(Plan::warn(
            name::WAITING,
            Reason::ResourceMissing,
            format!(
                "there is no {} {}; the claim waits for it",
                reference.kind, reference.name
            ),
        ))),
        Lookup::Invalid(why) => Err(Box::new(Plan::warn(
            name::REFUSED,
            Reason::ResourceInvalid,
            format!(
                "the {} {} cannot be used: {why}",
                reference.kind, reference.name
            ),
        ))),
    }
}

fn usable_class<'a>(
    claim: &Claim,
    class: &'a Lookup<StorageClass>,
) -> Result<&'a StorageClass, Box<Plan>> {
    let wait = |message: String| {
        Err(Box::new(Plan::warn(
            name::WAITING,
            Reason::StorageClassMissing,
            message,
        )))
    };
    let refuse = |message: String| {
        Err(Box::new(Plan::warn(
            name::REFUSED,
            Reason::StorageClassUnsupported,
            message,
        )))
    };
    let class = match (claim.class.as_deref(), class) {
        (None, _) => {
            return wait(
                "the claim names no storage class, and there is no default; the claim waits for one".to_owned(),
            );
        }
        (Some(""), _) => {
            return refuse(
                "the storage class is \"\", which means volumes made by hand; name a class with a provisioner".to_owned(),
            );
        }
        (Some(name), Lookup::Missing) => {
            return wait(format!(
                "there is no storage class {name}; the claim waits for it"
            ));
        }
        (Some(name), Lookup::Invalid(why)) => {
            return wait(format!("the storage class {name} cannot be read: {why}"));
        }
        (Some(_), Lookup::Found(class)) => class,
    };
    if class.is_static() {
        return refuse(format!(
            "the storage class {} has no provisioner (local volumes); name a class with one",
            class.name
        ));
    }
    if class.is_in_tree() && !claim.migrated_to_csi {
        return refuse(format!(
            "the provisioner {} of the storage class {} is built into Kubernetes and cannot populate; \
             name a class with a CSI driver",
            class.provisioner, class.name
        ));
    }
    Ok(class)
}
