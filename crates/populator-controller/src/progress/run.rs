//! From the pods to the status: which pods are polled, and where their progress goes.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use population::model::{Pod, PodPhase, Uid};

use super::{CopiedBytes, Poller, ScrapeTarget};
use crate::{observe::Observer, status::StatusWriter, telemetry::Telemetry};

/// Polls the running pods, until the future is dropped.
pub async fn run(
    poller: Poller,
    observer: Arc<Observer>,
    status: Arc<StatusWriter>,
    telemetry: Telemetry,
) {
    let copied = Mutex::new(CopiedBytes::new(Timestamp::now()));
    let copied = || copied.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = || {
        let targets = targets(&observer);
        copied().keep(&targets);
        targets
    };
    let deliver = |target: &ScrapeTarget, measured| {
        let newly = copied().newly(target, measured);
        if let Some(kind) = status.measure(&target.claim_uid, measured) {
            telemetry.copied(kind, newly);
        }
    };
    poller.run(targets, deliver).await;
}

/// The running pods.
fn targets(observer: &Observer) -> Vec<ScrapeTarget> {
    let cache = observer.cache();
    let running = |(claim, name, pod): (Uid, &(String, String), &Pod)| {
        (pod.phase == PodPhase::Running && pod.ended.is_none()).then_some(())?;
        Some(ScrapeTarget {
            claim_uid: claim,
            pod_uid: pod.uid.clone(),
            namespace: name.0.clone(),
            pod: name.1.clone(),
            address: pod.address?,
            created: pod.created,
        })
    };
    cache.all_pods().filter_map(running).collect()
}
