//! Bytes that have been copied since this process started, for a counter.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use population::{model::Uid, progress::Measured};

use super::ScrapeTarget;

/// The last value of each pod, so that each byte is counted once, also when a pod did not answer
/// meanwhile.
#[derive(Debug)]
pub struct CopiedBytes {
    start: Timestamp,
    copied: HashMap<Uid, u64>,
}

impl CopiedBytes {
    /// Counts from `now` on.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self {
            start: now,
            copied: HashMap::new(),
        }
    }

    /// The bytes that are new. The bytes that a pod had copied before this process started were
    /// counted by the previous one.
    pub fn newly(&mut self, target: &ScrapeTarget, measured: Option<Measured>) -> u64 {
        let Some(bytes) = measured.and_then(|measured| measured.bytes) else {
            return 0;
        };
        let before = self.copied.insert(target.pod_uid.clone(), bytes.copied);
        match before {
            Some(before) => bytes.copied.saturating_sub(before),
            None if target.created < self.start => 0,
            None => bytes.copied,
        }
    }

    /// Drops pods that are not among `targets`.
    pub fn keep(&mut self, targets: &[ScrapeTarget]) {
        let pods = targets.iter().map(|target| target.pod_uid.as_str());
        let pods: HashSet<&str> = pods.collect();
        self.copied.retain(|pod, _| pods.contains(pod.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use population::progress::Bytes;

    fn target(pod_uid: &str, created: i64) -> ScrapeTarget {
        ScrapeTarget {
            claim_uid: "c".into(),
            pod_uid: pod_uid.into(),
            namespace: "vms".to_owned(),
            pod: "populate-c".to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            created: Timestamp::from_second(created).unwrap(),
        }
    }

    #[allow(
        clippy::unnecessary_wraps,
        reason = "in the form that the poller delivers"
    )]
    fn copied(copied: u64) -> Option<Measured> {
        Some(Measured {
            percent: 0,
            bytes: Some(Bytes {
                copied,
                size: 1000,
                rate: 0,
            }),
        })
    }

    #[test]
    fn each_byte_is_counted_once() {
        let mut copied_bytes = CopiedBytes::new(Timestamp::from_second(100).unwrap());
        let pod = target("new", 101);
        let reports = [copied(10), None, copied(30), copied(30), copied(20)];
        let counted = reports.map(|measured| copied_bytes.newly(&pod, measured));
        assert_eq!(counted, [10, 0, 20, 0, 0]);
        // This pod started before this process.
        let old = target("old", 99);
        let counted = [copied(500), None, copied(501)].map(|now| copied_bytes.newly(&old, now));
        assert_eq!(counted, [0, 0, 1]);
        copied_bytes.keep(std::slice::from_ref(&old));
        assert_eq!(
            copied_bytes.copied.keys().collect::<Vec<_>>(),
            [&Uid::from("old")]
        );
    }
}
