//! Names of the movers' metrics.

/// Each of them.
pub const ALL: [&str; 8] = [
    OVIRT_PROGRESS,
    OPENSTACK_PROGRESS,
    SOURCE_BYTES,
    COPIED_BYTES,
    RECEIVED_BYTES,
    RATE,
    RETRIES,
    PHASE,
];

/// Percent done of an oVirt disk. Label: [`OWNER_UID`] and no other.
pub const OVIRT_PROGRESS: &str = "ovirt_progress";
/// Percent done of an OpenStack image. Label: [`OWNER_UID`] and no other.
pub const OPENSTACK_PROGRESS: &str = "openstack_populator_progress";
/// The progress metrics' one label. Forklift matches
/// `progress\{ownerUID="<uid>"\} (\d+\.?\d*)`, so nothing else may stand between the braces.
pub const OWNER_UID: &str = "ownerUID";

/// Gauge: size of the source in bytes.
pub const SOURCE_BYTES: &str = "populator_source_bytes";
/// Counter: bytes of the source that are in place; label `kind` = `data` | `zero`.
pub const COPIED_BYTES: &str = "populator_copied_bytes";
/// Counter: body bytes received from the source, repeats included.
pub const RECEIVED_BYTES: &str = "populator_received_bytes";
/// Gauge: bytes per second over the last seconds.
pub const RATE: &str = "populator_rate_bytes_per_second";
/// Counter: requests that were repeated; label `reason` from a closed list.
pub const RETRIES: &str = "populator_retries";
/// Gauge: 1 for the phase the process is in, 0 for the others; label `phase` from a closed list.
pub const PHASE: &str = "populator_phase";
