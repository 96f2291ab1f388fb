//! What is linked into a program, as a bill of materials that scanners read: `CycloneDX` 1.5, as JSON.
//!
//! The form: <https://cyclonedx.org/docs/1.5/json/>. Names of packages: <https://github.com/package-url/purl-spec>.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use spdx::Expression;

use crate::files::File;

/// `name version` of a crate.
type Title = String;

/// Which crate is linked with which, and the programs that these are linked into.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    dependencies: BTreeMap<Title, BTreeSet<Title>>,
}

/// What a manifest says about a crate.
#[derive(Debug)]
pub(crate) struct Crate {
    /// As the manifest has it.
    pub(crate) licence: String,
    /// It comes from the registry, and is not one of ours.
    pub(crate) is_foreign: bool,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The SHA-256 of the crates of the registry, in `Cargo.lock`.
///
/// # Errors
/// It is no such file.
pub(crate) fn checksums(lock: &str) -> anyhow::Result<BTreeMap<Title, String>> {
    let lock: Lock = basic_toml::from_str(lock).context("Cargo.lock")?;
    let packages = lock.package.into_iter();
    Ok(packages
        .filter_map(|package| {
            let title = format!("{} {}", package.name, package.version);
            Some((title, package.checksum?))
        })
        .collect())
}

impl Graph {
    /// Reads the output of `cargo tree --prefix=depth --format={p}`.
    ///
    /// # Errors
    /// A line has another form.
    pub(crate) fn parse(tree: &str) -> anyhow::Result<Self> {
        let mut graph = Self::default();
        // The crates from a program down to the line before.
        let mut path: Vec<Title> = Vec::new();
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let wrong = || format!("cargo tree: {line:?}");
            let name = line.trim_start_matches(|digit: char| digit.is_ascii_digit());
            let depth: usize = line[..line.len() - name.len()]
                .parse()
                .with_context(wrong)?;
            let mut words = name.split(' ');
            let (name, version) = words.next().zip(words.next()).with_context(wrong)?;
            let version = version.strip_prefix('v').with_context(wrong)?;
            let title = format!("{name} {version}");
            path.truncate(depth);
            if let Some(parent) = path.last() {
                let of_parent = graph.dependencies.entry(parent.clone()).or_default();
                of_parent.insert(title.clone());
            }
            graph.dependencies.entry(title.clone()).or_default();
            path.push(title);
        }
        Ok(graph)
    }

    /// The crate and all that is linked with it.
    fn below(&self, root: &str) -> BTreeSet<&Title> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = vec![root];
        while let Some(title) = open.pop() {
            let Some((title, dependencies)) = self.dependencies.get_key_value(title) else {
                continue;
            };
            if found.insert(title) {
                open.extend(dependencies.iter().map(String::as_str));
            }
        }
        found
    }
}

/// The bill of one program, `sbom/PROGRAM-ARCHITECTURE.cdx.json`. It names no time and no random number, so that the same program
/// has the same bill.
///
/// # Errors
/// The program is not in the graph, or a crate lacks a licence or, if it is of the registry, a checksum.
pub(crate) fn generate(
    program: &str,
    architecture: &str,
    graph: &Graph,
    crates: &BTreeMap<Title, Crate>,
    checksums: &BTreeMap<Title, String>,
) -> anyhow::Result<File> {
    let root = graph
        .dependencies
        .keys()
        .find(|title| title.split(' ').next() == Some(program));
    let root = root.with_context(|| format!("cargo tree does not name {program}"))?;
    let (_, version) = root.split_once(' ').context("no version")?;
    let linked = graph.below(root);
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    for &title in &linked {
        let known = crates
            .get(title)
            .with_context(|| format!("{title}: cargo metadata does not know it"))?;
        if title != root {
            components.push(component(title, known, checksums)?);
        }
        let below = graph.dependencies.get(title).into_iter().flatten();
        let below: Vec<String> = below.map(|other| reference(other)).collect();
        dependencies.push(json!({"ref": reference(title), "dependsOn": below}));
    }
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference(root),
                "name": program,
                "version": version,
                "licenses": [{"expression": "Apache-2.0"}],
                "properties": [{"name": "architecture", "value": architecture}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    Ok(File {
        path: format!("sbom/{program}-{architecture}.cdx.json"),
        text: format!("{bill:#}\n"),
    })
}

fn component(
    title: &str,
    known: &Crate,
    checksums: &BTreeMap<Title, String>,
) -> anyhow::Result<Value> {
    let (name, version) = title.split_once(' ').context("no version")?;
    // Older crates write a slash for OR.
    let licence = known.licence.replace('/', " OR ");
    let licence = Expression::parse(&licence)
        .with_context(|| format!("{title}: {licence:?} is no SPDX expression"))?;
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(title),
        "name": name,
        "version": version,
        "licenses": [{"expression": licence.to_string()}],
    });
    // The name of one of ours may be another crate's in the registry.
    if known.is_foreign {
        let checksum = checksums
            .get(title)
            .with_context(|| format!("{title}: Cargo.lock has no checksum"))?;
        // In a package URL a plus is a blank.
        let version = version.replace('+', "%2B");
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    Ok(component)
}

/// The name of a crate within the bill.
fn reference(title: &str) -> String {
    title.replace(' ', "@")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
0one v0.1.0 (/src/one)
1ours v0.1.0 (/src/ours)
2zstd-sys v2.0.16+zstd.1.5.7
1x2 v1.0.0

0two v0.1.0 (/src/two)
1ours v0.1.0 (/src/ours) (*)
1y v3.0.0
";

    fn bill(program: &str, lock: &str) -> anyhow::Result<Value> {
        let known = |licence: &str, is_foreign| Crate {
            licence: licence.to_owned(),
            is_foreign,
        };
        let crates = BTreeMap::from([
            ("one 0.1.0".to_owned(), known("Apache-2.0", false)),
            ("two 0.1.0".to_owned(), known("Apache-2.0", false)),
            ("ours 0.1.0".to_owned(), known("Apache-2.0", false)),
            (
                "zstd-sys 2.0.16+zstd.1.5.7".to_owned(),
                known("MIT/Apache-2.0", true),
            ),
            ("x2 1.0.0".to_owned(), known("MIT", true)),
            ("y 3.0.0".to_owned(), known("", true)),
        ]);
        let graph = Graph::parse(TREE)?;
        let file = generate(program, "amd64", &graph, &crates, &checksums(lock)?)?;
        assert_eq!(file.path, format!("sbom/{program}-amd64.cdx.json"));
        Ok(serde_json::from_str(&file.text)?)
    }

    const LOCK: &str = "
[[package]]
name = \"zstd-sys\"
version = \"2.0.16+zstd.1.5.7\"
checksum = \"aa\"
[[package]]
name = \"x2\"
version = \"1.0.0\"
checksum = \"bb\"
[[package]]
name = \"ours\"
version = \"0.1.0\"
";

    #[test]
    fn a_bill_has_what_is_linked_into_the_program_and_nothing_else() {
        let bill = bill("one", LOCK).unwrap();
        let components = bill["components"].as_array().unwrap();
        let names: Vec<_> = components
            .iter()
            .map(|component| &component["name"])
            .collect();
        assert_eq!(names, ["ours", "x2", "zstd-sys"]);
        assert_eq!(components[0].get("purl"), None);
        assert_eq!(
            components[2]["purl"],
            "pkg:cargo/zstd-sys@2.0.16%2Bzstd.1.5.7"
        );
        assert_eq!(components[2]["hashes"][0]["content"], "aa");
        assert_eq!(
            components[2]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(
            bill["dependencies"][0],
            json!({"ref": "one@0.1.0", "dependsOn": ["ours@0.1.0", "x2@1.0.0"]})
        );
        // Below a crate whose own were listed under the first program.
        assert_eq!(
            bill["dependencies"][1],
            json!({"ref": "ours@0.1.0", "dependsOn": ["zstd-sys@2.0.16+zstd.1.5.7"]})
        );
    }

    #[test]
    fn what_cannot_be_said_is_an_error() {
        for (program, lock, words) in [
            (
                "one",
                LOCK.replace("x2", "x3").as_str(),
                "x2 1.0.0: Cargo.lock has no checksum",
            ),
            ("two", LOCK, "y 3.0.0: \"\" is no SPDX expression"),
            ("three", LOCK, "cargo tree does not name three"),
        ] {
            let found =
                bill(program, lock).map_or_else(|error| error.to_string(), |_| String::new());
            assert_eq!(found, words, "{program}");
        }
        assert!(Graph::parse("one v1").is_err());
        assert!(Graph::parse("0one 1").is_err());
    }
}
