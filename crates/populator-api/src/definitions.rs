//! The `CustomResourceDefinition` objects of both kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;

use crate::{OpenstackVolumePopulator, OvirtVolumePopulator};

/// A definition could not be serialised as YAML.
#[derive(Debug)]
pub struct YamlError(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for YamlError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("write a CustomResourceDefinition as YAML")
    }
}

impl std::error::Error for YamlError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// The definitions of both kinds.
#[must_use]
pub fn all() -> [CustomResourceDefinition; 2] {
    [OvirtVolumePopulator::crd(), OpenstackVolumePopulator::crd()].map(bounded)
}

/// Gives the texts of `transferNetwork`, whose type is Kubernetes' own, the form of names: they go into an
/// annotation that is a list.
fn bounded(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let versions = definition.spec.versions.iter_mut();
    let mut schemas: Vec<&mut JSONSchemaProps> = versions
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
        .collect();
    for field in ["spec", "transferNetwork"] {
        let fields = schemas.into_iter();
        schemas = fields
            .filter_map(|schema| schema.properties.as_mut()?.get_mut(field))
            .collect();
    }
    for schema in schemas {
        for (name, most, pattern) in [
            ("name", 253, "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"),
            ("namespace", 63, "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$"),
        ] {
            let field = schema.properties.as_mut().and_then(|all| all.get_mut(name));
            if let Some(field) = field {
                field.max_length = Some(most);
                field.pattern = Some(pattern.to_owned());
            }
        }
    }
    definition
}

/// One definition as a YAML document, as it is in `manifests/crds`.
pub fn to_yaml(definition: &CustomResourceDefinition) -> Result<String, YamlError> {
    // Through JSON, which omits fields that are not set and keeps one order.
    let value = serde_json::to_value(definition).map_err(|error| YamlError(error.into()))?;
    serde_saphyr::to_string(&value).map_err(|error| YamlError(error.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn version(definition: &CustomResourceDefinition) -> Value {
        serde_json::to_value(&definition.spec.versions[0]).unwrap()
    }

    #[test]
    fn names_are_forklifts() {
        let [ovirt, openstack] = all();
        for (definition, plural, short) in [
            (ovirt, "ovirtvolumepopulators", ["ovvp", "ovvps"]),
            (openstack, "openstackvolumepopulators", ["osvp", "osvps"]),
        ] {
            assert_eq!(definition.spec.group, crate::GROUP);
            assert_eq!(definition.spec.scope, "Namespaced");
            assert_eq!(definition.spec.versions.len(), 1);
            assert_eq!(definition.spec.versions[0].name, crate::VERSION);
            assert_eq!(definition.spec.names.plural, plural);
            assert_eq!(definition.spec.names.short_names.unwrap(), short);
        }
    }

    #[test]
    fn both_have_a_status_of_their_own_and_columns() {
        for definition in all() {
            let version = version(&definition);
            assert!(version["subresources"]["status"].is_object());
            let columns: Vec<&str> = version["additionalPrinterColumns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|column| column["name"].as_str().unwrap())
                .collect();
            assert_eq!(
                columns[..4],
                ["Progress", "Rate", "Ready", "Reason"],
                "{columns:?}"
            );
        }
    }

    #[test]
    fn the_source_is_required_and_immutable_and_the_way_to_it_is_not() {
        let openstack = ["imageId", "volumeId", "snapshotId"];
        for (definition, sources, is_required, way) in [
            (
                &all()[0],
                &["diskId"][..],
                true,
                ["engineUrl", "engineSecretName"],
            ),
            (&all()[1], &openstack, false, ["identityUrl", "secretName"]),
        ] {
            let version = version(definition);
            let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let required = spec["required"].as_array().unwrap();
            let rules_of =
                |field: &str| spec["properties"][field]["x-kubernetes-validations"].to_string();
            for source in sources {
                assert_eq!(required.contains(&Value::from(*source)), is_required);
                assert!(rules_of(source).contains("oldSelf"), "{}", rules_of(source));
                // A null would be a field that is there, and names nothing.
                assert_eq!(spec["properties"][source]["nullable"], Value::Null);
            }
            for field in way {
                assert!(required.contains(&Value::from(field)));
                assert!(rules_of(field).contains("message"), "{field}");
                assert!(!rules_of(field).contains("oldSelf"), "{field}");
            }
        }
    }

    /// A field that is added or taken away has no rule of its own that compares it with what was there.
    #[test]
    fn of_the_fields_for_a_disk_of_openstack_one_is_there_and_stays() {
        let version = version(&all()[1]);
        let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let rules = spec["x-kubernetes-validations"].as_array().unwrap();
        for field in ["imageId", "volumeId", "snapshotId"] {
            for words in [
                format!("(has(self.{field}) ? 1 : 0)"),
                format!("has(self.{field}) == has(oldSelf.{field})"),
            ] {
                let mut rules = rules.iter().map(|rule| rule["rule"].as_str().unwrap());
                assert!(rules.any(|rule| rule.contains(&words)), "{words}");
            }
        }
    }

    #[test]
    fn yaml_leaves_out_what_is_not_set() {
        for definition in all() {
            let yaml = to_yaml(&definition).unwrap();
            assert!(yaml.starts_with("apiVersion: apiextensions.k8s.io/v1\nkind: "));
            assert!(!yaml.contains(": null"), "{yaml}");
        }
    }
}
