//! The service catalog, and the image endpoint in it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::Deserialize;
use serde_json::Value;
use transfer::{Error, Kind};
use url::Url;

use crate::path;

/// Which of a service's endpoints to use: the secret's `availability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Availability {
    /// Endpoints for every client; also when the key is empty.
    #[default]
    Public,
    /// Endpoints inside the cloud.
    Internal,
    /// Endpoints for administrators.
    Admin,
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Availability {
    type Err = Error;

    fn from_str(value: &str) -> Result<Self, Error> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "public" => Ok(Self::Public),
            "internal" => Ok(Self::Internal),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::new(
                Kind::Configuration,
                format!(
                    "the secret's availability must be public (also when empty), internal or admin, not {}",
                    net::quoted(value)
                ),
            )),
        }
    }
}

/// What a token's answer says of the services. What an entry holds beside or in place of what is
/// looked for does not matter: other services' entries may have any form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Vec<Value>")]
pub struct Catalog(Vec<Service>);

#[derive(Debug, Clone)]
struct Service {
    kind: Option<String>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Clone)]
struct Endpoint {
    interface: Option<String>,
    region_id: Option<String>,
    /// The older name of `region_id`; both are sent.
    region: Option<String>,
    url: Option<String>,
}

/// What to do when several regions have the service and none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManyRegions {
    /// Refuse, unless all of them have one URL.
    Refuse,
    /// Take the first with a warning, as Forklift's client library does.
    TakeFirst,
}

impl From<Vec<Value>> for Catalog {
    fn from(services: Vec<Value>) -> Self {
        let endpoint = |value: &Value| Endpoint {
            interface: text(value, "interface"),
            region_id: text(value, "region_id"),
            region: text(value, "region"),
            url: text(value, "url"),
        };
        let service = |value: &Value| Service {
            kind: text(value, "type"),
            endpoints: value
                .get("endpoints")
                .and_then(Value::as_array)
                .map(|endpoints| endpoints.iter().map(endpoint).collect())
                .unwrap_or_default(),
        };
        Self(services.iter().map(service).collect())
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

impl Catalog {
    /// The base URL of the Image API v2 (it ends in `/v2`) in `region`, or in the only region there
    /// is; `many` decides where there are several. Of several endpoints that fit, the first.
    ///
    /// # Errors
    /// [`Kind::Configuration`], naming what the catalog does have; [`Kind::Protocol`] when the
    /// endpoint is no HTTP URL.
    pub fn image_url(
        &self,
        region: Option<&str>,
        availability: Availability,
        many: ManyRegions,
    ) -> Result<Url, Error> {
        self.url_of(&IMAGE, region, availability, many)
    }

    /// The base URL of the Block Storage API v3, by the same rules. It ends in `/v3` or in the project
    /// behind it, as the catalog states it: Cinder wants the project below microversion 3.67.
    ///
    /// # Errors
    /// Those of [`Self::image_url`].
    pub fn volume_url(
        &self,
        region: Option<&str>,
        availability: Availability,
        many: ManyRegions,
    ) -> Result<Url, Error> {
        self.url_of(&VOLUME, region, availability, many)
    }

    fn url_of(
        &self,
        wanted: &Wanted,
        region: Option<&str>,
        availability: Availability,
        many: ManyRegions,
    ) -> Result<Url, Error> {
        let name = wanted.name;
        let all: Vec<&Endpoint> = self
            .0
            .iter()
            .filter(|service| {
                let kind = service.kind.as_deref();
                kind.is_some_and(|kind| wanted.types.contains(&kind))
            })
            .flat_map(|service| &service.endpoints)
            .collect();
        if all.is_empty() {
            let services: Vec<&str> = self.0.iter().filter_map(|s| s.kind.as_deref()).collect();
            return Err(wrong(format!(
                "the catalog lists no {name} service ({})",
                list("services", services)
            )));
        }

        let here: Vec<&Endpoint> = match region {
            None => all.clone(),
            Some(region) => all
                .iter()
                .copied()
                .filter(|endpoint| endpoint.is_in(region))
                .collect(),
        };
        if here.is_empty() {
            return Err(wrong(format!(
                "the catalog has no {name} service in the secret's regionName {} ({})",
                net::quoted(region.unwrap_or_default()),
                list(
                    "regions",
                    all.iter().filter_map(|endpoint| endpoint.region())
                )
            )));
        }

        let interface = availability.to_string();
        let fit: Vec<&Endpoint> = here
            .iter()
            .copied()
            .filter(|endpoint| endpoint.interface.as_deref() == Some(&interface))
            .collect();
        let Some(first) = fit.first() else {
            return Err(wrong(format!(
                "the {name} service has no endpoint of the secret's availability {interface} ({})",
                list(
                    "there are",
                    here.iter()
                        .filter_map(|endpoint| endpoint.interface.as_deref())
                )
            )));
        };
        let url = base_url(wanted, first.url.as_deref().unwrap_or_default())?;
        let regions: BTreeSet<&str> = fit
            .iter()
            .filter_map(|endpoint| endpoint.region())
            .collect();
        let is_same = |endpoint: &&Endpoint| {
            let other = base_url(wanted, endpoint.url.as_deref().unwrap_or_default());
            other.is_ok_and(|other| other == url)
        };
        if region.is_none() && regions.len() > 1 && !fit.iter().all(is_same) {
            let listed = list("regions", regions);
            if many == ManyRegions::Refuse {
                return Err(wrong(format!(
                    "the {name} service is in several regions; name one in the secret's regionName ({listed})"
                )));
            }
            tracing::warn!(
                "the {name} service is in several regions ({listed}) and the secret has no regionName; \
                 the first is taken, {}",
                first.region().unwrap_or("which has no name")
            );
        }
        Ok(url)
    }
}

impl Endpoint {
    fn region(&self) -> Option<&str> {
        self.region_id
            .as_deref()
            .or(self.region.as_deref())
            .filter(|region| !region.is_empty())
    }

    fn is_in(&self, region: &str) -> bool {
        self.region_id.as_deref() == Some(region) || self.region.as_deref() == Some(region)
    }
}

/// A service as the catalog names it.
struct Wanted {
    /// For messages.
    name: &'static str,
    /// Its types, of which a catalog lists one or more.
    types: &'static [&'static str],
    /// The version of its API, put in place of one that the endpoint states.
    version: &'static str,
    /// Whether a project behind the version stays.
    keeps_project: bool,
}

const IMAGE: Wanted = Wanted {
    name: "image",
    types: &["image"],
    version: "v2",
    keeps_project: false,
};
/// The official type, and those that Cinder had before it and clouds still list. `volume` alone was version 1.
const VOLUME: Wanted = Wanted {
    name: "volume",
    types: &["block-storage", "volumev3", "block-store"],
    version: "v3",
    keeps_project: true,
};

/// The URL of the service's API for an endpoint with or without a version at its end.
fn base_url(wanted: &Wanted, endpoint: &str) -> Result<Url, Error> {
    let name = wanted.name;
    let refused = || {
        Error::new(
            Kind::Protocol,
            format!("the catalog's endpoint of the {name} service is not an HTTP URL"),
        )
    };
    let mut url = Url::parse(endpoint.trim()).map_err(|_| refused())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(refused());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::new(
            Kind::Protocol,
            format!(
                "the catalog's endpoint of the {name} service holds a user name or a password; have it corrected"
            ),
        ));
    }
    // Some clouds end it in the project, as of old: `/v2/<project>`.
    let project = path::cut_project(&mut url);
    path::cut_version(&mut url);
    let url = path::join(&url, wanted.version);
    Ok(match project {
        Some(project) if wanted.keeps_project => path::join(&url, &project),
        _ => url,
    })
}

fn list<'a>(what: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names: BTreeSet<&str> = names.into_iter().collect();
    if names.is_empty() {
        return format!("{what}: none");
    }
    format!(
        "{what}: {}",
        names.into_iter().collect::<Vec<_>>().join(", ")
    )
}

fn wrong(text: String) -> Error {
    Error::new(Kind::Configuration, text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn endpoint(interface: &str, region: &str, url: &str) -> Value {
        json!({"id": "e", "interface": interface, "region": region, "region_id": region, "url": url})
    }

    fn catalog(endpoints: &[Value]) -> Catalog {
        serde_json::from_value(json!([
            {"type": "identity", "name": "keystone", "endpoints": [endpoint("public", "Other", "https://ks/v3")]},
            {"type": "image", "name": "glance", "id": "s", "endpoints": endpoints},
            {"type": "compute", "name": "nova", "endpoints": []},
        ]))
        .unwrap()
    }

    #[test]
    fn the_endpoint_is_the_one_asked_for() {
        let catalog = catalog(&[
            endpoint("admin", "One", "http://admin.one:9292"),
            endpoint("public", "One", "http://public.one:9292"),
            endpoint("public", "One", "http://second.one:9292"),
            endpoint("internal", "One", "http://internal.one:9292"),
            endpoint("public", "Two", "http://public.two:9292"),
        ]);
        for (region, availability, expected) in [
            (
                Some("One"),
                Availability::Public,
                "http://public.one:9292/v2",
            ),
            (
                Some("One"),
                Availability::Internal,
                "http://internal.one:9292/v2",
            ),
            (Some("One"), Availability::Admin, "http://admin.one:9292/v2"),
            (
                Some("Two"),
                Availability::Public,
                "http://public.two:9292/v2",
            ),
            // Only one region has it.
            (None, Availability::Internal, "http://internal.one:9292/v2"),
        ] {
            let url = catalog
                .image_url(region, availability, ManyRegions::Refuse)
                .unwrap();
            assert_eq!(url.as_str(), expected);
        }
        for (region, availability, needles) in [
            (None, Availability::Public, &["regionName", "One, Two"][..]),
            (
                Some("one"),
                Availability::Public,
                &["regionName", "\"one\"", "One, Two"],
            ),
            (
                Some("Two"),
                Availability::Internal,
                &["availability internal", "public"],
            ),
        ] {
            let error = catalog
                .image_url(region, availability, ManyRegions::Refuse)
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
            for needle in needles {
                assert!(error.to_string().contains(needle), "{error}");
            }
        }
    }

    #[test]
    fn any_form_of_the_endpoint_gives_version_2() {
        for (stated, expected) in [
            ("http://glance:9292", "http://glance:9292/v2"),
            ("http://glance:9292/", "http://glance:9292/v2"),
            ("http://glance:9292/v2", "http://glance:9292/v2"),
            ("http://glance:9292/v2/", "http://glance:9292/v2"),
            ("http://glance:9292/v1", "http://glance:9292/v2"),
            ("http://glance:9292/v2.0/", "http://glance:9292/v2"),
            (
                "https://glance/v2/0123456789abcdef0123456789abcdef",
                "https://glance/v2",
            ),
            ("https://glance/v2/123456/", "https://glance/v2"),
            ("https://cloud/image", "https://cloud/image/v2"),
            ("https://cloud/image/", "https://cloud/image/v2"),
            ("https://cloud/image/v2", "https://cloud/image/v2"),
            ("https://cloud/image//v2//", "https://cloud/image/v2"),
            ("https://cloud/vault", "https://cloud/vault/v2"),
            ("https://[fd00::1]:9292/", "https://[fd00::1]:9292/v2"),
        ] {
            let catalog = catalog(&[endpoint("public", "One", stated)]);
            let url = catalog
                .image_url(None, Availability::Public, ManyRegions::Refuse)
                .unwrap();
            assert_eq!(url.as_str(), expected, "{stated}");
        }
        for stated in [
            "",
            "glance:9292",
            "/v2",
            "file:///etc/passwd",
            "https://joe:hunter2@glance",
            "https://joe@glance/v2",
        ] {
            let catalog = catalog(&[endpoint("public", "One", stated)]);
            let error = catalog
                .image_url(None, Availability::Public, ManyRegions::Refuse)
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Protocol, "{stated}");
            assert!(!error.chain().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn quirks_of_catalogs() {
        // Old clouds send `region` alone; entries without a region, an interface or a URL happen.
        let old = catalog(&[
            json!({"interface": "public", "url": null, "region": "Two"}),
            json!({"url": "http://nowhere"}),
            json!({"interface": "public", "region": "One", "url": "http://glance"}),
        ]);
        let url = old
            .image_url(Some("One"), Availability::Public, ManyRegions::Refuse)
            .unwrap();
        assert_eq!(url.as_str(), "http://glance/v2");

        let nameless =
            catalog(&[json!({"interface": "public", "region_id": null, "url": "http://glance"})]);
        let url = nameless
            .image_url(None, Availability::Public, ManyRegions::Refuse)
            .unwrap();
        assert_eq!(url.as_str(), "http://glance/v2");

        let empty = catalog(&[])
            .image_url(None, Availability::Public, ManyRegions::Refuse)
            .unwrap_err();
        assert!(
            empty.to_string().contains("compute, identity, image"),
            "{empty}"
        );
        let nothing = Catalog::default()
            .image_url(None, Availability::Public, ManyRegions::Refuse)
            .unwrap_err();
        assert!(nothing.to_string().contains("none"), "{nothing}");
    }

    #[test]
    fn entries_of_no_interest_may_hold_anything() {
        let good = json!({"type": "image", "endpoints": [endpoint("public", "One", "http://glance"), null, 7]});
        for other in [
            json!({"type": "dns", "endpoints": null}),
            json!({"type": 7, "endpoints": "none"}),
            json!({"endpoints": [{"interface": 1, "url": []}]}),
            json!(null),
            json!("rubbish"),
            json!([]),
        ] {
            let catalog: Catalog = serde_json::from_value(json!([other, good])).unwrap();
            let url = catalog.image_url(None, Availability::Public, ManyRegions::Refuse);
            assert_eq!(url.unwrap().as_str(), "http://glance/v2", "{other}");
        }
    }

    #[test]
    fn regions_of_one_url_need_no_choice_and_others_are_taken_only_by_a_drop_in() {
        let two = |first, second| {
            catalog(&[
                endpoint("public", "One", first),
                endpoint("public", "Two", second),
            ])
        };
        for (first, second, refused) in [
            ("http://glance:9292", "http://glance:9292/v2/", false),
            ("http://one:9292", "http://two:9292", true),
        ] {
            let catalog = two(first, second);
            let url = |many| catalog.image_url(None, Availability::Public, many);
            assert_eq!(url(ManyRegions::Refuse).is_err(), refused);
            let taken = url(ManyRegions::TakeFirst).unwrap();
            assert_eq!(taken.as_str(), format!("{first}/v2"));
        }
    }

    #[test]
    fn availability_is_one_of_three() {
        for (value, expected) in [
            ("", Availability::Public),
            ("public", Availability::Public),
            ("internal\n", Availability::Internal),
            ("Admin", Availability::Admin),
        ] {
            assert_eq!(value.parse::<Availability>().unwrap(), expected);
        }
        let error = "publicURL".parse::<Availability>().unwrap_err();
        assert!(error.to_string().contains("publicURL") && error.to_string().contains("internal"));
    }
}
