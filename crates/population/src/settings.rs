//! What the installation decides: images, resources, limits.

use std::{collections::BTreeMap, time::Duration};

use backoff::Backoff;

use crate::model::{Kind, Quantity};

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
    /// Limit of a pod's CPU, as a quantity.
    pub const CPU_LIMIT: &str = "POPULATOR_CONTAINER_LIMITS_CPU";
    /// Limit of a pod's memory, as a quantity.
    pub const MEMORY_LIMIT: &str = "POPULATOR_CONTAINER_LIMITS_MEMORY";
    /// Request of a pod's CPU, as a quantity.
    pub const CPU_REQUEST: &str = "POPULATOR_CONTAINER_REQUESTS_CPU";
    /// Request of a pod's memory, as a quantity.
    pub const MEMORY_REQUEST: &str = "POPULATOR_CONTAINER_REQUESTS_MEMORY";
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Image of each mover; a kind without one is not served.
    pub images: BTreeMap<Kind, String>,
    /// CPU request and limit of a pod.
    pub cpu: ContainerResources,
    /// Memory request and limit of a pod.
    pub memory: ContainerResources,
    /// Proxy variables for the pods.
    pub proxy: BTreeMap<String, String>,
    /// Limit on the claims that are served at a time.
    pub max_in_flight: usize,
    /// The same limit for the claims of one engine or identity service.
    pub max_in_flight_per_source: usize,
    /// Attempts after a transient failure.
    pub retry: Retry,
    /// A pod that has not started for this long is reported.
    pub stuck_after: Duration,
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
    /// The delay before each of them is the bound of this, without jitter: a plan has no chance.
    pub backoff: Backoff,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            images: BTreeMap::new(),
            cpu: ContainerResources::new("100m", "1000m"),
            memory: ContainerResources::new("512Mi", "1Gi"),
            proxy: BTreeMap::new(),
            max_in_flight: 20,
            // What an engine's hosts and a Glance serve at full speed; the rest would only share
            // it.
            max_in_flight_per_source: 10,
            retry: Retry {
                most: 3,
                backoff: Backoff::new(Duration::from_secs(10), Duration::from_mins(5)),
            },
            // The report follows within a minute, including the time to read the pod's events.
            stuck_after: Duration::from_secs(45),
        }
    }
}

impl Settings {
    /// The settings in an environment, and a warning for each value that is ignored. `get` returns
    /// the value of a variable.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> (Self, Vec<String>) {
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
        if let Some(value) = get(variable::MAX_IN_FLIGHT) {
            match value.trim().parse() {
                Ok(most) if most > 0 => settings.max_in_flight = most,
                _ => warnings.push(format!(
                    "{}={value:?} is no whole number above 0; {} is used",
                    variable::MAX_IN_FLIGHT,
                    settings.max_in_flight
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
        let proxies = variable::PROXY.into_iter();
        settings.proxy = proxies
            .filter_map(|name| Some((name.to_owned(), name_of(name)?)))
            .collect();
        (settings, warnings)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        Settings::from_environment(|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn a_kind_is_served_when_its_image_is_set_and_not_empty() {
        let (settings, warnings) = read(&[
            (variable::OVIRT_IMAGE, "registry.example.org/ovirt:1"),
            (variable::OPENSTACK_IMAGE, " "),
        ]);
        assert_eq!(settings.images.keys().collect::<Vec<_>>(), [&Kind::Ovirt]);
        assert_eq!(
            warnings,
            ["OPENSTACK_POPULATOR_IMAGE is not set: OpenstackVolumePopulator is not served"]
        );
    }

    #[test]
    fn forklifts_values_are_taken() {
        let (settings, warnings) = read(&[
            (variable::OVIRT_IMAGE, "a"),
            (variable::OPENSTACK_IMAGE, "b"),
            (variable::MAX_IN_FLIGHT, "7"),
            (variable::CPU_LIMIT, "2"),
            (variable::CPU_REQUEST, "250m"),
            (variable::MEMORY_LIMIT, "2Gi"),
            (variable::MEMORY_REQUEST, "1G"),
            ("no_proxy", ".cluster.local"),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(settings.max_in_flight, 7);
        assert_eq!(settings.cpu, ContainerResources::new("250m", "2"));
        assert_eq!(settings.memory, ContainerResources::new("1G", "2Gi"));
        assert_eq!(settings.proxy["no_proxy"], ".cluster.local");
    }

    #[test]
    fn nonsense_falls_back_with_a_warning_each() {
        for (name, value) in [
            (variable::MAX_IN_FLIGHT, "0"),
            (variable::MAX_IN_FLIGHT, "-1"),
            (variable::MAX_IN_FLIGHT, "many"),
            (variable::MAX_IN_FLIGHT, ""),
            (variable::CPU_LIMIT, ""),
            (variable::MEMORY_REQUEST, " "),
            (variable::CPU_LIMIT, "0"),
            (variable::CPU_LIMIT, "50m"),
            (variable::CPU_REQUEST, "2"),
            (variable::MEMORY_LIMIT, "512"),
            (variable::MEMORY_LIMIT, "1 GB"),
            (variable::MEMORY_REQUEST, "4Gi"),
        ] {
            let images = [
                (variable::OVIRT_IMAGE, "a"),
                (variable::OPENSTACK_IMAGE, "b"),
            ];
            let (settings, warnings) = read(&[images[0], images[1], (name, value)]);
            assert_eq!(warnings.len(), 1, "{name}={value}: {warnings:?}");
            assert!(warnings[0].contains(name), "{warnings:?}");
            let (expected, _) = read(&images);
            assert_eq!(settings, expected, "{name}={value}");
        }
    }

    #[test]
    fn a_kind_that_is_not_served_is_reported() {
        let (_, warnings) = read(&[
            (variable::OVIRT_IMAGE, "a"),
            (variable::OPENSTACK_IMAGE, "b"),
            (variable::XCOPY_IMAGE, "c"),
        ]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("does not serve VSphereXcopyVolumePopulator"));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Settings::default().retry.backoff;
        let pauses = [0, 1, 2, 3, 6, u32::MAX].map(|failures| backoff.bound(failures).as_secs());
        assert_eq!(pauses, [10, 10, 20, 40, 300, 300]);
    }
}
