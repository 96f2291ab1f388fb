//! What the installation decides: images, resources, limits.

mod hosts;
mod mover;
mod placement;
#[cfg(test)]
mod tests;

pub(crate) use placement::OPERATING_SYSTEM;
pub use {
    hosts::AllowedHosts,
    mover::{InvalidSetting, MoverFlag, MoverSettings},
    placement::{CaBundle, InvalidPlacement, Placement},
};

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use backoff::Backoff;
use contract::args::{environment, secret};

use crate::model::{Attempts, Kind, PodPhase, Quantity, World};

/// Environment variables, as Forklift's operator sets them.
pub mod variable {
    /// Image of the oVirt mover. Without it the kind is not served.
    pub const OVIRT_IMAGE: &str = "OVIRT_POPULATOR_IMAGE";
    /// Image of the OpenStack mover. Without it the kind is not served.
    pub const OPENSTACK_IMAGE: &str = "OPENSTACK_POPULATOR_IMAGE";
    /// Image of a mover that this project lacks: claims of `VSphereXcopyVolumePopulator` are
    /// refused.
    pub const XCOPY_IMAGE: &str = "VSPHERE_COPY_OFFLOAD_POPULATOR_IMAGE";
    /// Limit on the claims that are served at a time.
    pub const MAX_IN_FLIGHT: &str = "MAX_POPULATOR_INFLIGHT";
    /// The same limit for the claims of one engine or identity service.
    pub const MAX_IN_FLIGHT_PER_SOURCE: &str = "MAX_POPULATOR_INFLIGHT_PER_SOURCE";
    /// The same limit for the claims of one namespace.
    pub const MAX_IN_FLIGHT_PER_NAMESPACE: &str = "MAX_POPULATOR_INFLIGHT_PER_NAMESPACE";
    /// Names of the service accounts that claims may choose, separated by commas; without it, any.
    pub const SERVICE_ACCOUNTS: &str = "POPULATOR_SERVICE_ACCOUNTS";
    /// The hosts that populator resources may name, separated by commas; without it, any.
    pub const ALLOWED_HOSTS: &str = "POPULATOR_ALLOWED_HOSTS";
    /// How long a claim may take to start, as a duration; without it, for ever.
    pub const START_DEADLINE: &str = "POPULATOR_START_DEADLINE";
    /// Limit of a pod's CPU, as a quantity.
    pub const CPU_LIMIT: &str = "POPULATOR_CONTAINER_LIMITS_CPU";
    /// Limit of a pod's memory, as a quantity.
    pub const MEMORY_LIMIT: &str = "POPULATOR_CONTAINER_LIMITS_MEMORY";
    /// Request of a pod's CPU, as a quantity.
    pub const CPU_REQUEST: &str = "POPULATOR_CONTAINER_REQUESTS_CPU";
    /// Request of a pod's memory, as a quantity.
    pub const MEMORY_REQUEST: &str = "POPULATOR_CONTAINER_REQUESTS_MEMORY";
    /// Taints that the pods tolerate, in YAML as in a pod's spec.
    pub const TOLERATIONS: &str = "POPULATOR_TOLERATIONS";
    /// Labels of the pods' nodes, as a mapping in YAML.
    pub const NODE_SELECTOR: &str = "POPULATOR_NODE_SELECTOR";
    /// Affinity of the pods, in YAML as in a pod's spec.
    pub const AFFINITY: &str = "POPULATOR_AFFINITY";
    /// Name of the pods' `PriorityClass`.
    pub const PRIORITY_CLASS: &str = "POPULATOR_PRIORITY_CLASS";
    /// Name of the pods' `RuntimeClass`.
    pub const RUNTIME_CLASS: &str = "POPULATOR_RUNTIME_CLASS";
    /// Names of the secrets that the movers' images are pulled with, separated by commas.
    pub const IMAGE_PULL_SECRETS: &str = "POPULATOR_IMAGE_PULL_SECRETS";
    /// Name of the `ConfigMap` in the claims' namespaces whose certificates the movers trust beside the system's, with the
    /// key behind a slash where it is not `ca-bundle.crt`.
    pub const CA_BUNDLE: &str = "POPULATOR_CA_BUNDLE";
    /// Labels of pods and temporary claims, as a mapping in YAML.
    pub const LABELS: &str = "POPULATOR_LABELS";
    /// Annotations of pods and temporary claims, as a mapping in YAML.
    pub const ANNOTATIONS: &str = "POPULATOR_ANNOTATIONS";
    /// Proxy variables, which are copied to the pods unchanged.
    pub const PROXY: [&str; 6] = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
}

/// Below this a limit is a mistake in the unit (`512` for `512Mi`), and no pod would start.
const LEAST_MEMORY: &str = "32Mi";

/// What the installation decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Image of each mover; a kind without one is not served.
    pub images: BTreeMap<Kind, String>,
    /// CPU request and limit of a pod.
    pub cpu: ContainerResources,
    /// Memory request and limit of a pod.
    pub memory: ContainerResources,
    /// Variables for the pods: proxies, and what the movers read beside their flags.
    pub environment: BTreeMap<String, String>,
    /// How the movers copy, unless the claim says otherwise.
    pub mover: MoverSettings,
    /// Where the pods run, and what is added to them and to temporary claims.
    pub placement: Placement,
    /// Limit on the claims that are served at a time.
    pub max_in_flight: usize,
    /// The same limit for the claims of one engine or identity service.
    pub max_in_flight_per_source: usize,
    /// The same limit for the claims of one namespace.
    pub max_in_flight_per_namespace: usize,
    /// The service accounts that claims may choose for their pods; `None` for any.
    pub service_accounts: Option<BTreeSet<String>>,
    /// The hosts that populator resources may name; `None` for any.
    pub allowed_hosts: Option<AllowedHosts>,
    /// Attempts after a transient failure.
    pub retry: Retry,
    /// A pod that has not started for this long is reported.
    pub stuck_after: Duration,
    /// A claim that moves nothing for this long gives its slot up.
    pub slot_timeout: Duration,
    /// A claim whose copy has not started this long after its temporary claim was created has
    /// failed.
    pub start_deadline: Option<Duration>,
    /// A node that has not been ready for this long gets no volume.
    pub node_grace: Duration,
    /// How long finished pods are kept.
    pub keep_pods: KeepPods,
}

/// How long finished pods of populated claims are kept, for their logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeepPods {
    /// Those of Forklift's migrations for ever, since Forklift cleans them up; others for an hour.
    #[default]
    Default,
    /// For ever, also where they count against a quota that is exhausted.
    Forever,
    /// Only failed ones.
    Failed,
    /// For this long after their end.
    For(Duration),
}

/// Request and limit of a container for one resource, as quantities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerResources {
    /// What the scheduler reserves.
    pub request: String,
    /// What the node allows at most.
    pub limit: String,
}

/// Attempts after a transient failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How many pods may follow the first. Forklift stops at 3.
    pub most: u32,
    /// How many times the cluster may end a pod, or not start it: evictions, shutdowns.
    pub most_disruptions: u32,
    /// The delay before each of them is the bound of this, without jitter: a plan has no chance.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: BTreeMap::new(),
            cpu: ContainerResources::new("100m", "1000m"),
            memory: ContainerResources::new("512Mi", "1Gi"),
            environment: BTreeMap::new(),
            mover: MoverSettings::default(),
            placement: Placement::default(),
            max_in_flight: 20,
            // What an engine's hosts and a Glance serve at full speed; the rest would only share
            // it.
            max_in_flight_per_source: 10,
            // Room for the others: a tenant can name more than one source.
            max_in_flight_per_namespace: 15,
            service_accounts: None,
            allowed_hosts: None,
            retry: Retry {
                most: 3,
                // With their delays, more than two hours of a cluster that takes every node away.
                most_disruptions: 30,
                backoff: Backoff::new(Duration::from_secs(10), Duration::from_mins(5)),
            },
            // The report follows within a minute, including the time to read the pod's events.
            stuck_after: Duration::from_secs(45),
            slot_timeout: Duration::from_mins(5),
            start_deadline: None,
            // What Kubernetes tolerates before it evicts the node's pods.
            node_grace: Duration::from_mins(5),
            keep_pods: KeepPods::Default,
        }
    }
}

impl Settings {
    /// The settings in an environment, and a warning for each value that is ignored. `get` returns
    /// the value of a variable.
    ///
    /// # Errors
    /// A variable of the [`Placement`] holds what cannot be.
    pub fn from_environment(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<String>), InvalidPlacement> {
        let mut warnings = Vec::new();
        // An empty name means that there is none; an empty number is a mistake.
        let name_of = |variable: &str| get(variable).filter(|value| !value.trim().is_empty());
        let mut settings = Self::default();

        for (kind, name) in [
            (Kind::Ovirt, variable::OVIRT_IMAGE),
            (Kind::Openstack, variable::OPENSTACK_IMAGE),
        ] {
            match name_of(name) {
                Some(image) => {
                    settings.images.insert(kind, image.trim().to_owned());
                }
                None => warnings.push(format!("{name} is not set: {} is not served", kind.name())),
            }
        }
        if name_of(variable::XCOPY_IMAGE).is_some() {
            warnings.push(format!(
                "{} is set, but this controller does not serve VSphereXcopyVolumePopulator: its \
                 claims are refused",
                variable::XCOPY_IMAGE
            ));
        }
        let total = limit(
            &get,
            variable::MAX_IN_FLIGHT,
            settings.max_in_flight,
            &mut warnings,
        );
        // Forklift's operator has only this limit, and whoever raises it means every source.
        let of_source = total.unwrap_or(settings.max_in_flight_per_source);
        settings.max_in_flight = total.unwrap_or(settings.max_in_flight);
        let name = variable::MAX_IN_FLIGHT_PER_SOURCE;
        let per_source = limit(&get, name, of_source, &mut warnings);
        settings.max_in_flight_per_source = per_source.unwrap_or(of_source);
        let of_namespace = total.unwrap_or(settings.max_in_flight_per_namespace);
        let name = variable::MAX_IN_FLIGHT_PER_NAMESPACE;
        let per_namespace = limit(&get, name, of_namespace, &mut warnings);
        settings.max_in_flight_per_namespace = per_namespace.unwrap_or(of_namespace);
        settings.service_accounts = get(variable::SERVICE_ACCOUNTS).map(|names| {
            let names = names.split(',').map(str::trim);
            names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        });
        settings.allowed_hosts = allowed_hosts(&get, &mut warnings);
        if let Some(value) = name_of(variable::START_DEADLINE) {
            match duration(value.trim()) {
                Ok(deadline) => settings.start_deadline = Some(deadline),
                Err(why) => warnings.push(format!(
                    "{}={value:?} is no duration, and is ignored: {why}",
                    variable::START_DEADLINE
                )),
            }
        }
        settings.cpu.read(
            &get,
            [variable::CPU_REQUEST, variable::CPU_LIMIT],
            "1m",
            &mut warnings,
        );
        settings.memory.read(
            &get,
            [variable::MEMORY_REQUEST, variable::MEMORY_LIMIT],
            LEAST_MEMORY,
            &mut warnings,
        );
        for name in variable::PROXY {
            let Some(value) = name_of(name) else { continue };
            // Who may read pods of any namespace with a claim would read the password.
            if value.contains('@') {
                warnings.push(format!(
                    "{name} holds a user or a password, and is not handed on to the pods; put the proxy into the \
                     secrets of the sources, under the key {}",
                    secret::PROXY
                ));
            } else {
                settings.environment.insert(name.to_owned(), value);
            }
        }
        for name in environment::ALL {
            if let Some(value) = name_of(name) {
                settings.environment.insert(name.to_owned(), value);
            }
        }
        for flag in MoverFlag::ALL {
            let Some(value) = name_of(flag.variable()) else {
                continue;
            };
            if let Err(why) = settings.mover.set(flag, &value) {
                warnings.push(format!("{}={value:?} is ignored: {why}", flag.variable()));
            }
        }
        settings.placement = Placement::from_environment(&get)?;
        Ok((settings, warnings))
    }

    /// How long the pod of a populated claim is kept after it ended in this phase; `None` for ever.
    #[must_use]
    pub fn keeps_pod_for(&self, world: &World, phase: PodPhase) -> Option<Duration> {
        const STANDALONE: Duration = Duration::from_hours(1);
        match self.keep_pods {
            KeepPods::Forever => None,
            // Until the pod is gone, the quota counts two claims for one volume.
            _ if world.is_short_of_quota => Some(Duration::ZERO),
            KeepPods::For(duration) => Some(duration),
            KeepPods::Failed => (phase != PodPhase::Failed).then_some(Duration::ZERO),
            KeepPods::Default => (!world.claim.is_of_forklift()).then_some(STANDALONE),
        }
    }
}

/// The hosts that the variable names, if it is set.
fn allowed_hosts(
    get: impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Option<AllowedHosts> {
    let hosts = get(variable::ALLOWED_HOSTS)?.parse();
    Some(hosts.unwrap_or_else(|why| {
        // Ignored, it would allow what the administrator has forbidden.
        warnings.push(format!(
            "{}: {why}; until then no host is allowed",
            variable::ALLOWED_HOSTS
        ));
        AllowedHosts::default()
    }))
}

/// The limit that a variable sets, if it is a whole number above 0.
fn limit(
    get: impl Fn(&str) -> Option<String>,
    name: &str,
    default: usize,
    warnings: &mut Vec<String>,
) -> Option<usize> {
    let value = get(name)?;
    let limit = value.trim().parse().ok().filter(|limit| *limit > 0);
    if limit.is_none() {
        warnings.push(format!(
            "{name}={value:?} is no whole number above 0; {default} is used"
        ));
    }
    limit
}

impl ContainerResources {
    fn new(request: &str, limit: &str) -> Self {
        Self {
            request: request.to_owned(),
            limit: limit.to_owned(),
        }
    }

    /// Replaces the values that are set and valid.
    fn read(
        &mut self,
        get: impl Fn(&str) -> Option<String>,
        [request, limit]: [&str; 2],
        least: &str,
        warnings: &mut Vec<String>,
    ) {
        let default = self.clone();
        for (name, value) in [(request, &mut self.request), (limit, &mut self.limit)] {
            let Some(given) = get(name) else { continue };
            let given = given.trim();
            if Quantity::parse(given) >= Quantity::parse(least) {
                given.clone_into(value);
            } else {
                warnings.push(format!(
                    "{name}={given:?} is no quantity of at least {least}; {value} is used"
                ));
            }
        }
        if Quantity::parse(&self.request) > Quantity::parse(&self.limit) {
            warnings.push(format!(
                "{request}={} is more than {limit}={}; {} and {} are used",
                self.request, self.limit, default.request, default.limit
            ));
            *self = default;
        }
    }
}

impl Retry {
    /// The delay before the pod that follows these attempts.
    #[must_use]
    pub fn pause(&self, attempts: &Attempts) -> Duration {
        let last = attempts.last_failure.as_ref();
        let disruptions = last.map_or(0, |last| last.disruptions);
        self.backoff.bound(attempts.recreations.max(disruptions))
    }
}

impl std::str::FromStr for KeepPods {
    type Err = String;

    /// `forever`, `failed`, or a whole number with the unit `s`, `m`, `h` or `d`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "forever" => Ok(Self::Forever),
            "failed" => Ok(Self::Failed),
            other => duration(other).map(Self::For),
        }
    }
}

/// A duration in whole numbers with units, the longest first: `90s`, `1h30m`, `7d`; `0` needs none.
///
/// # Errors
/// What the text should look like.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let wrong = || "give a duration such as 90s, 30m, 12h or 7d".to_owned();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut seconds = Some(0_u64);
    let mut units = UNITS.iter();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let unit = part.chars().next_back().ok_or_else(wrong)?;
        let number = part.strip_suffix(unit).unwrap_or_default();
        let (_, length) = units.find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        seconds = seconds
            .zip(number.checked_mul(*length))
            .and_then(|(sum, more)| sum.checked_add(more));
    }
    let seconds = seconds.filter(|_| !text.is_empty()).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}
