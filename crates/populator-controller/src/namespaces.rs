//! The namespaces that an installation serves.

use std::{collections::BTreeSet, str::FromStr};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject},
};
use populator_api::names::is_object_name;

/// All namespaces, or some.
///
/// Where it is some, every object with a namespace is read and watched in each of them, so that Roles in them suffice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces(Option<BTreeSet<String>>);

/// One of the namespaces that are served, or all of them at once: what one watch shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Option<String>);

impl Namespaces {
    /// One scope for all namespaces, or one for each.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        match &self.0 {
            None => vec![Scope::ALL],
            Some(names) => names.iter().cloned().map(Some).map(Scope).collect(),
        }
    }
}

impl FromStr for Namespaces {
    type Err = String;

    /// Names, with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
        // A label of DNS: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
        let is_name =
            |name: &String| name.len() <= 63 && !name.contains('.') && is_object_name(name);
        match names.iter().find(|name| !is_name(name)) {
            Some(name) => Err(format!(
                "{name:?} is no name of a namespace; give names with commas between them, such as team-a,team-b"
            )),
            None => Ok(Self(Some(names))),
        }
    }
}

impl Scope {
    /// All namespaces at once.
    pub const ALL: Self = Self(None);

    /// The one namespace; `None` for all.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Whether an object of that namespace is one of the scope.
    #[must_use]
    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace().is_none_or(|own| own == namespace)
    }

    /// Objects of one kind in the scope.
    pub(crate) fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.0 {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    /// The same of a kind that is known while the program runs.
    pub(crate) fn dynamic_api(
        &self,
        client: &Client,
        resource: &ApiResource,
    ) -> Api<DynamicObject> {
        match &self.0 {
            None => Api::all_with(client.clone(), resource),
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_a_list() {
        let scopes = |text: &str| -> Vec<Option<String>> {
            let namespaces: Namespaces = text.parse().unwrap();
            namespaces
                .scopes()
                .into_iter()
                .map(|scope| scope.0)
                .collect()
        };
        let two = [Some("a".to_owned()), Some("b".to_owned())];
        assert_eq!(scopes("b, a,b"), two);
        assert_eq!(Namespaces::default().scopes(), [Scope::ALL]);
        for text in ["", "a,", "A", "a.b", "a b", "-a", &"a".repeat(64)] {
            let error = text.parse::<Namespaces>().unwrap_err();
            assert!(error.contains("team-a,team-b"), "{error}");
        }
    }
}
