//! The kinds of objects that tests touch, and their paths.

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// `v1`, or group and version.
    pub api: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// In paths.
    pub plural: &'static str,
}

/// Pods.
pub const PODS: Resource = core("Pod", "pods");
/// Claims.
pub const CLAIMS: Resource = core("PersistentVolumeClaim", "persistentvolumeclaims");
/// Volumes.
pub const VOLUMES: Resource = core("PersistentVolume", "persistentvolumes");
/// Secrets.
pub const SECRETS: Resource = core("Secret", "secrets");
/// Settings, and what else is no secret.
pub const CONFIG_MAPS: Resource = core("ConfigMap", "configmaps");
/// Events.
pub const EVENTS: Resource = core("Event", "events");
/// Nodes.
pub const NODES: Resource = core("Node", "nodes");
/// Namespaces.
pub const NAMESPACES: Resource = core("Namespace", "namespaces");
/// Quotas.
pub const QUOTAS: Resource = core("ResourceQuota", "resourcequotas");
/// Storage classes.
pub const CLASSES: Resource = Resource {
    api: "storage.k8s.io/v1",
    kind: "StorageClass",
    plural: "storageclasses",
};
/// How important pods are.
pub const PRIORITIES: Resource = Resource {
    api: "scheduling.k8s.io/v1",
    kind: "PriorityClass",
    plural: "priorityclasses",
};
/// Who has which role in a namespace.
pub const BINDINGS: Resource = Resource {
    api: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    plural: "rolebindings",
};
/// Questions about one's own rights.
pub const ACCESS_REVIEWS: Resource = Resource {
    api: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
};
/// Deployments.
pub const DEPLOYMENTS: Resource = Resource {
    api: "apps/v1",
    kind: "Deployment",
    plural: "deployments",
};
/// Leases.
pub const LEASES: Resource = Resource {
    api: "coordination.k8s.io/v1",
    kind: "Lease",
    plural: "leases",
};
/// Definitions of custom resources.
pub const DEFINITIONS: Resource = Resource {
    api: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
};
/// Permissions to refer to a namespace from another one.
pub const GRANTS: Resource = Resource {
    api: "gateway.networking.k8s.io/v1beta1",
    kind: "ReferenceGrant",
    plural: "referencegrants",
};
/// Disks of oVirt.
pub const OVIRT: Resource = Resource {
    api: "forklift.konveyor.io/v1beta1",
    kind: "OvirtVolumePopulator",
    plural: "ovirtvolumepopulators",
};
/// Images of OpenStack.
pub const OPENSTACK: Resource = Resource {
    api: "forklift.konveyor.io/v1beta1",
    kind: "OpenstackVolumePopulator",
    plural: "openstackvolumepopulators",
};

const fn core(kind: &'static str, plural: &'static str) -> Resource {
    Resource {
        api: "v1",
        kind,
        plural,
    }
}

impl Resource {
    /// Whether users who may edit a namespace create such objects there: those that a claim needs, and pods that use it.
    pub fn is_editors(&self) -> bool {
        [CLAIMS, SECRETS, CONFIG_MAPS, OVIRT, OPENSTACK, PODS].contains(self)
    }

    /// Path of all objects in the namespace; of all in the cluster where it is empty.
    pub fn list(&self, namespace: &str) -> String {
        let root = if self.api == "v1" { "/api" } else { "/apis" };
        let Self { api, plural, .. } = self;
        if namespace.is_empty() {
            format!("{root}/{api}/{plural}")
        } else {
            format!("{root}/{api}/namespaces/{namespace}/{plural}")
        }
    }

    /// Path of one object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        format!("{}/{name}", self.list(namespace))
    }
}
