//! Reads which crates are linked into the programs, their notices and their checksums, from cargo and its registry.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;
use serde::Deserialize;

use crate::{
    ARCHITECTURES, PLATFORMS,
    files::File,
    notices::{Linked, PROGRAMS, may_be_notice},
    output,
    sbom::{self, Crate, Graph},
};

/// Folders of a crate that are not linked.
const NOT_LINKED: [&str; 4] = ["benches", "examples", "fuzz", "tests"];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    manifest_path: String,
    /// None for a crate of ours.
    source: Option<String>,
}

/// Foreign crates in any of [`PROGRAMS`], on any of [`PLATFORMS`]. Macros run in the compiler and leave nothing of themselves.
pub(crate) fn linked(root: &Path) -> anyhow::Result<Vec<Linked>> {
    let mut names = BTreeSet::new();
    for platform in PLATFORMS {
        names.extend(tree(root, platform, "none")?.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').take(2).collect();
            words.join(" ")
        }));
    }
    let packages = packages(root)?.into_iter().filter(|package| {
        package.source.is_some()
            && names.contains(&format!("{} v{}", package.name, package.version))
    });
    packages.map(read).collect()
}

/// The bill of materials of each of [`PROGRAMS`], for each of [`PLATFORMS`].
pub(crate) fn bills(root: &Path) -> anyhow::Result<Vec<File>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("read Cargo.lock")?;
    let checksums = sbom::checksums(&lock)?;
    let crates: BTreeMap<String, Crate> = packages(root)?
        .into_iter()
        .map(|package| {
            let known = Crate {
                licence: package.license.unwrap_or_default(),
                is_foreign: package.source.is_some(),
            };
            (format!("{} {}", package.name, package.version), known)
        })
        .collect();
    let mut bills = Vec::new();
    for (platform, architecture) in PLATFORMS.into_iter().zip(ARCHITECTURES) {
        let graph = Graph::parse(&tree(root, platform, "depth")?)?;
        for program in PROGRAMS {
            let bill = sbom::generate(program, architecture, &graph, &crates, &checksums);
            bills.push(bill.with_context(|| format!("the bill of materials of {program}"))?);
        }
    }
    Ok(bills)
}

/// What the manifests of all crates say that may be built for any of [`PLATFORMS`].
fn packages(root: &Path) -> anyhow::Result<Vec<Package>> {
    let mut arguments = vec!["metadata", "--locked", "--format-version=1"];
    arguments.extend(
        PLATFORMS
            .iter()
            .flat_map(|name| ["--filter-platform", name]),
    );
    let metadata = output(root, "cargo", &arguments)?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("output of cargo metadata")?;
    Ok(metadata.packages)
}

/// What is linked into the programs, which are built together: a line `name vX.Y.Z (folder) (*)` for each, after the prefix.
fn tree(root: &Path, platform: &str, prefix: &str) -> anyhow::Result<String> {
    let (target, prefix) = (format!("--target={platform}"), format!("--prefix={prefix}"));
    let mut arguments = vec![
        "tree",
        "--locked",
        "--edges=normal,no-proc-macro",
        "--format={p}",
        &target,
        &prefix,
    ];
    arguments.extend(PROGRAMS.iter().flat_map(|program| ["-p", program]));
    output(root, "cargo", &arguments)
}

fn read(package: Package) -> anyhow::Result<Linked> {
    let folder = Path::new(&package.manifest_path)
        .parent()
        .with_context(|| format!("{}: has no folder", package.manifest_path))?;
    let mut files = Vec::new();
    collect(folder, "", &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Linked {
        name: package.name,
        version: package.version,
        licence: package.license.unwrap_or_default(),
        authors: package.authors,
        files,
    })
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> anyhow::Result<()> {
    let context = || format!("read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() && !NOT_LINKED.contains(&name.as_str()) {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && may_be_notice(&name) {
            let bytes = fs::read(entry.path())
                .with_context(|| format!("read {}", entry.path().display()))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            files.push(File { path, text });
        }
    }
    Ok(())
}
