//! Which crate of ours may depend on which.

use serde::Deserialize;

/// Every crate of the workspace, with the crates of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("backoff", &[]),
    ("contract", &[]),
    ("formats", &[]),
    ("net", &["backoff"]),
    ("populator-api", &[]),
    ("runtime", &[]),
    ("transfer", &["net", "backoff"]),
    ("mover", &["transfer", "net", "contract", "runtime"]),
    ("ovirt-populator", MOVERS),
    (
        "openstack-populator",
        &["formats", "mover", "transfer", "net", "contract", "runtime"],
    ),
    ("population", &["populator-api", "contract", "backoff"]),
    (
        "populator-controller",
        &[
            "population",
            "populator-api",
            "contract",
            "runtime",
            "backoff",
        ],
    ),
    ("testkit", &["contract"]),
    ("suite", &["testkit", "contract"]),
    ("e2e", &["populator-api", "suite", "testkit"]),
    (
        "xtask",
        &[
            "populator-api",
            "populator-controller",
            "ovirt-populator",
            "openstack-populator",
        ],
    ),
    ("floor", &[]),
];
const MOVERS: &[&str] = &["mover", "transfer", "net", "contract", "runtime"];
/// Crates that every test may use, and no product. The tests of a crate may also use the crate itself,
/// with a feature that products do not have.
const FOR_TESTS: &[&str] = &["testkit"];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal one, else `dev` or `build`.
    kind: Option<String>,
    /// Set for crates of the workspace.
    path: Option<String>,
}

/// The crates in the output of `cargo metadata --no-deps`.
pub(crate) fn parse(metadata: &str) -> serde_json::Result<Vec<Package>> {
    serde_json::from_str::<Metadata>(metadata).map(|metadata| metadata.packages)
}

/// Arrows that are not drawn in [`ARROWS`].
pub(crate) fn problems(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(problems_of).collect()
}

fn problems_of(package: &Package) -> Vec<String> {
    let name = &package.name;
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| known == name) else {
        return vec![format!(
            "{name}: the table in xtask/src/arrows.rs does not say what this crate may depend on"
        )];
    };
    let forbidden = |dependency: &&Dependency| {
        let of_tests = dependency.kind.as_deref() == Some("dev")
            && (dependency.name == *name || FOR_TESTS.contains(&dependency.name.as_str()));
        dependency.path.is_some() && !allowed.contains(&dependency.name.as_str()) && !of_tests
    };
    package
        .dependencies
        .iter()
        .filter(forbidden)
        .map(|dependency| {
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            format!("{name}: forbidden {kind} dependency on {}", dependency.name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_with(name: &str, dependency: &str, kind: &str, path: &str) -> Vec<String> {
        let metadata = format!(
            r#"{{"packages": [{{"name": "{name}", "version": "0.1.0", "dependencies":
                [{{"name": "{dependency}", "kind": {kind}, "path": {path}}}]}}]}}"#
        );
        problems(&parse(&metadata).unwrap())
    }

    const NORMAL: &str = "null";
    const DEV: &str = r#""dev""#;
    const OURS: &str = r#""/somewhere""#;

    #[test]
    fn drawn_arrows_and_foreign_crates_are_fine() {
        let none: [String; 0] = [];
        assert_eq!(problems_with("transfer", "net", NORMAL, OURS), none);
        assert_eq!(problems_with("transfer", "testkit", DEV, OURS), none);
        assert_eq!(problems_with("transfer", "transfer", DEV, OURS), none);
        assert_eq!(problems_with("contract", "serde", NORMAL, "null"), none);
        assert_eq!(problems_with("suite", "testkit", NORMAL, OURS), none);
        assert_eq!(
            problems_with("populator-controller", "contract", NORMAL, OURS),
            none
        );
    }

    #[test]
    fn other_arrows_are_named() {
        assert_eq!(
            problems_with("net", "transfer", NORMAL, OURS),
            ["net: forbidden normal dependency on transfer"]
        );
        assert_eq!(
            problems_with("contract", "mover", DEV, OURS),
            ["contract: forbidden dev dependency on mover"]
        );
        assert_eq!(
            problems_with("populator-controller", "transfer", NORMAL, OURS),
            ["populator-controller: forbidden normal dependency on transfer"]
        );
        assert_eq!(
            problems_with("populator-api", "contract", NORMAL, OURS).len(),
            1
        );
        assert_eq!(problems_with("mover", "testkit", NORMAL, OURS).len(), 1);
        assert_eq!(problems_with("testkit", "net", NORMAL, OURS).len(), 1);
        assert_eq!(
            problems_with("unheard-of", "serde", NORMAL, "null").len(),
            1
        );
    }
}
