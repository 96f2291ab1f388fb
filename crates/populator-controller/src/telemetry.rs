//! The controller's own metrics. Labels come from closed lists, never from names of objects.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use populator_api::{Reason, ReasonClass};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use population::model::Kind;

/// Buckets in seconds, from a small test disk to a large one over a slow line: 1 s to about 6 days.
const OPERATION: [f64; 18] = [
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0,
    28_800.0, 57_600.0, 86_400.0, 172_800.0, 518_400.0,
];
/// Buckets in seconds for a few short requests.
const RECONCILE: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How a population ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Ended {
    /// The claim is populated and bound.
    #[allow(non_camel_case_types, reason = "the label's value is a contract")]
    success,
    /// The claim failed permanently.
    #[allow(non_camel_case_types, reason = "the label's value is a contract")]
    failure,
}

/// The claims that have one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// How many they are.
    pub claims: usize,
    /// For how long the first of them has had it, as far as this process has seen.
    pub longest: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ReasonLabel(Reason);

impl EncodeLabelValue for ReasonLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.0.to_string(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: ReasonLabel,
}

/// The reason of claims, and what it means for them, so that a query needs no list of reasons.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStanding {
    reason: ReasonLabel,
    standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    verb: &'static str,
    resource: &'static str,
}

/// The metrics. Clones share their values, so that each part of the controller updates its own.
#[derive(Debug, Clone)]
pub struct Telemetry {
    operations: Family<ByResult, Histogram>,
    in_flight: Gauge,
    queue: Gauge,
    reconciles: Histogram,
    reconcile_errors: Family<ByKind, Counter>,
    phases: Family<ByReason, Histogram>,
    failures: Family<ByReason, Counter>,
    copied: Family<ByKind, Counter>,
    writes: Family<Write, Counter>,
    claims: Family<ByStanding, Gauge>,
    longest: Family<ByReason, Gauge>,
    dropped_events: Counter,
    failing_watches: Gauge,
    leader: Gauge,
    memory: Gauge,
    started: Gauge<f64, AtomicU64>,
}

impl Telemetry {
    /// The metrics at their initial values, and the registry that exposes them.
    #[must_use]
    pub fn new(version: &'static str) -> (Self, Registry) {
        let telemetry = Self {
            operations: Family::new_with_constructor(|| Histogram::new(OPERATION)),
            in_flight: Gauge::default(),
            queue: Gauge::default(),
            reconciles: Histogram::new(RECONCILE),
            reconcile_errors: Family::default(),
            phases: Family::new_with_constructor(|| Histogram::new(OPERATION)),
            failures: Family::default(),
            copied: Family::default(),
            writes: Family::default(),
            claims: Family::default(),
            longest: Family::default(),
            dropped_events: Counter::default(),
            failing_watches: Gauge::default(),
            leader: Gauge::default(),
            memory: Gauge::default(),
            started: Gauge::default(),
        };
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        telemetry.started.set(since_epoch.as_secs_f64());
        // Both results from the start, so that a rate is 0 instead of absent.
        for result in [Ended::success, Ended::failure] {
            drop(telemetry.operations.get_or_create(&ByResult { result }));
        }
        // Likewise: of a counter that appears with 1 no increase is seen.
        let failures = Reason::ALL.into_iter();
        for reason in failures.filter(|reason| reason.class() == ReasonClass::Failed) {
            let reason = ReasonLabel(reason);
            drop(telemetry.failures.get_or_create(&ByReason { reason }));
        }
        let registry = telemetry.registry(version);
        (telemetry, registry)
    }

    fn registry(&self, version: &'static str) -> Registry {
        let mut all = Registry::default();
        all.register_with_unit(
            "volume_populator_operation",
            "Time from the temporary claim to the end of a population",
            Unit::Seconds,
            self.operations.clone(),
        );
        all.register(
            "volume_populator_operations_in_flight",
            "Claims that are being populated",
            self.in_flight.clone(),
        );
        all.register_with_unit(
            "process_start_time",
            "When the process started, since the Unix epoch",
            Unit::Seconds,
            self.started.clone(),
        );
        all.register_with_unit(
            "process_resident_memory",
            "Resident memory of the process",
            Unit::Bytes,
            self.memory.clone(),
        );
        let ours = all.sub_registry_with_prefix("populator_controller");
        ours.register(
            "queue_depth",
            "Claims that wait for a slot",
            self.queue.clone(),
        );
        ours.register_with_unit(
            "reconcile",
            "Time of one reconcile of a claim",
            Unit::Seconds,
            self.reconciles.clone(),
        );
        ours.register(
            "reconcile_errors",
            "Reconciles that failed, by the kind of the cause",
            self.reconcile_errors.clone(),
        );
        ours.register_with_unit(
            "phase",
            "Time that claims had a reason, by reason",
            Unit::Seconds,
            self.phases.clone(),
        );
        ours.register(
            "failures",
            "Claims that failed permanently, by reason",
            self.failures.clone(),
        );
        ours.register_with_unit(
            "copied",
            "Bytes that pods reported as copied, by the kind of their source",
            Unit::Bytes,
            self.copied.clone(),
        );
        ours.register(
            "api_writes",
            "Requests to the API server that write",
            self.writes.clone(),
        );
        ours.register("claims", "Claims, by reason", self.claims.clone());
        ours.register_with_unit(
            "longest",
            "For how long the first of the claims with a reason has had it, by reason",
            Unit::Seconds,
            self.longest.clone(),
        );
        ours.register(
            "dropped_events",
            "Events that found no room in the queue",
            self.dropped_events.clone(),
        );
        ours.register(
            "failing_watches",
            "Kinds of objects whose watch fails: what changes of them is not seen",
            self.failing_watches.clone(),
        );
        ours.register(
            "leader",
            "1 while this process serves claims, 0 while it stands by",
            self.leader.clone(),
        );
        ours.register(
            "build",
            "Version of the process",
            Info::new([("version", version)]),
        );
        all
    }

    /// A population ended, this long after its temporary claim was created.
    pub fn ended(&self, result: Ended, after: Duration) {
        let operations = self.operations.get_or_create(&ByResult { result });
        operations.observe(after.as_secs_f64());
    }

    /// A claim had a reason for this long, and has another one now.
    pub fn left(&self, reason: Reason, time: Duration) {
        let reason = ReasonLabel(reason);
        self.phases
            .get_or_create(&ByReason { reason })
            .observe(time.as_secs_f64());
    }

    /// A claim failed permanently.
    pub fn failed(&self, reason: Reason) {
        let reason = ReasonLabel(reason);
        self.failures.get_or_create(&ByReason { reason }).inc();
    }

    /// Pods have copied more bytes.
    pub fn copied(&self, kind: Kind, bytes: u64) {
        let kind = kind.name();
        self.copied.get_or_create(&ByKind { kind }).inc_by(bytes);
    }

    /// A request that writes was sent.
    pub fn wrote(&self, verb: &'static str, resource: &'static str) {
        self.writes.get_or_create(&Write { verb, resource }).inc();
    }

    /// A reconcile took this long; `error` is the kind of its failure.
    pub fn reconciled(&self, time: Duration, error: Option<&'static str>) {
        self.reconciles.observe(time.as_secs_f64());
        if let Some(kind) = error {
            self.reconcile_errors.get_or_create(&ByKind { kind }).inc();
        }
    }

    /// How many claims hold a slot, and how many wait for one.
    pub fn slots(&self, held: usize, waiting: usize) {
        self.in_flight.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.queue.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// How many claims have each reason, and for how long.
    pub fn claims(&self, standings: impl Fn(Reason) -> Standing) {
        for reason in Reason::ALL {
            let Standing { claims, longest } = standings(reason);
            let by_reason = ByReason {
                reason: ReasonLabel(reason),
            };
            let count = i64::try_from(claims).unwrap_or(i64::MAX);
            let seconds = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
            let by_standing = ByStanding {
                reason: ReasonLabel(reason),
                standing: standing(reason.class()),
            };
            self.claims.get_or_create(&by_standing).set(count);
            self.longest.get_or_create(&by_reason).set(seconds);
        }
    }

    /// An event found no room in the queue.
    pub fn dropped_event(&self) {
        self.dropped_events.inc();
    }

    /// How many watches fail.
    pub fn watches(&self, failing: usize) {
        let failing = i64::try_from(failing).unwrap_or(i64::MAX);
        self.failing_watches.set(failing);
    }

    /// Whether this process is the leader.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Measures the resident memory (`/proc/self/statm`, proc(5)); a failure leaves the last value.
    pub fn measure_memory(&self) {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        if let Some(pages) = pages {
            let bytes = pages.saturating_mul(runtime::page_size());
            self.memory.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

const fn standing(class: ReasonClass) -> &'static str {
    match class {
        ReasonClass::Failed => "failed",
        ReasonClass::Waiting => "waiting",
        ReasonClass::Progressing => "progressing",
        ReasonClass::Done => "done",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn names_are_those_that_others_read() {
        let (telemetry, registry) = Telemetry::new("1.2.3");
        telemetry.ended(Ended::failure, Duration::from_secs(700));
        telemetry.left(Reason::Copying, Duration::from_secs(1));
        telemetry.failed(Reason::VolumeFull);
        telemetry.copied(Kind::Ovirt, 7);
        telemetry.wrote("create", "pods");
        telemetry.reconciled(Duration::from_millis(3), Some("late"));
        telemetry.slots(3, 4);
        telemetry.claims(|reason| match reason {
            Reason::Copying => Standing {
                claims: 1,
                longest: Duration::from_secs(7),
            },
            _ => Standing::default(),
        });
        telemetry.dropped_event();
        telemetry.leads(true);
        telemetry.watches(2);
        telemetry.measure_memory();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "volume_populator_operation_seconds_bucket{le=\"1800.0\",result=\"failure\"} 1",
            "volume_populator_operation_seconds_count{result=\"success\"} 0",
            "volume_populator_operations_in_flight 3",
            "populator_controller_queue_depth 4",
            "populator_controller_reconcile_seconds_count 1",
            "populator_controller_reconcile_errors_total{kind=\"late\"} 1",
            "populator_controller_phase_seconds_count{reason=\"Copying\"} 1",
            "populator_controller_failures_total{reason=\"VolumeFull\"} 1",
            "populator_controller_failures_total{reason=\"BoundElsewhere\"} 0",
            "populator_controller_copied_bytes_total{kind=\"OvirtVolumePopulator\"} 7",
            "populator_controller_api_writes_total{verb=\"create\",resource=\"pods\"} 1",
            "populator_controller_claims{reason=\"Copying\",standing=\"progressing\"} 1",
            "populator_controller_claims{reason=\"VolumeFull\",standing=\"failed\"} 0",
            "populator_controller_longest_seconds{reason=\"Copying\"} 7",
            "populator_controller_dropped_events_total 1",
            "populator_controller_leader 1",
            "populator_controller_failing_watches 2",
            "populator_controller_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no {line} in:\n{text}"
            );
        }
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().parse::<f64>().unwrap()
        };
        assert!(value("process_start_time_seconds ") > 1_700_000_000.0);
        assert!(value("process_resident_memory_bytes ") > 1_000_000.0);
    }
}
