//! Giving the filled volume to the claim.
//!
//! The volume's `claimRef` moves from the temporary claim to the target in one write, so that it
//! refers to a claim that exists at every moment: see `docs/adr/0006-plan-is-pure.md`.

use populator_api::{Reason, names::event as name};

use super::{action::Action, types::Plan};
use crate::{
    model::{ClaimPhase, Pod, TemporaryClaim, VolumePhase, World},
    objects,
};

/// The pod has succeeded and reports a complete copy: the volume holds the disk, on stable storage.
pub(super) fn next(world: &World, temporary: &TemporaryClaim, pod: &Pod) -> Plan {
    let Some(volume) = &world.volume else {
        let message = "waiting for the temporary claim's volume to appear";
        return Plan::wait(Reason::Rebinding, message);
    };
    let id = &volume.name;
    let owner = volume.claim.as_ref();
    if owner.is_none_or(|owner| owner.uid != temporary.uid) {
        let other = owner.map_or_else(
            || "no claim".to_owned(),
            // The names of other tenants' claims are none of this one's business.
            |owner| {
                if owner.namespace == world.claim.namespace {
                    format!("the claim {}", owner.name)
                } else {
                    "a claim of another namespace".to_owned()
                }
            },
        );
        let message = format!(
            "the volume {id} belongs to {other}, not to the temporary claim; it is left alone"
        );
        return Plan::warn(name::FAILED, Reason::BoundElsewhere, message);
    }
    if volume.terminating {
        let message = format!(
            "the volume {id} is being deleted, and its data with it; \
             delete the pod to restart the population"
        );
        return Plan::warn(name::FAILED, Reason::VolumeLost, message);
    }
    // Kubernetes is still binding the two, and could overwrite the rebind.
    if volume.phase != VolumePhase::Bound || temporary.phase != ClaimPhase::Bound {
        let message = format!("waiting for the volume {id} to be bound to the temporary claim");
        return Plan::wait(Reason::Rebinding, message);
    }
    Plan::act(
        Reason::Rebinding,
        format!("giving the volume {id} to the claim"),
        [Action::RebindVolume {
            volume: Box::new(volume.clone()),
            from: temporary.uid.clone(),
            disk: objects::disk_argument(pod).map(str::to_owned),
        }],
    )
}

/// Whether the volume can still become the claim's. If it cannot, the only way out is another
/// attempt.
pub(super) fn is_open(world: &World, temporary: &TemporaryClaim) -> bool {
    let volume_is_own = world.volume.as_ref().is_none_or(|volume| {
        let owner = volume.claim.as_ref();
        !volume.terminating && owner.is_some_and(|owner| owner.uid == temporary.uid)
    });
    temporary.phase != ClaimPhase::Lost && volume_is_own
}

/// The volume refers to the claim; the binding controller of Kubernetes does the rest.
pub(super) fn under_way(world: &World) -> Plan {
    let volume = world.volume.as_ref().map(|volume| volume.name.as_str());
    let volume = volume.or(world.claim.volume.as_deref()).unwrap_or_default();
    Plan::wait(
        Reason::Rebinding,
        format!("waiting for Kubernetes to bind the claim to the volume {volume}"),
    )
}
