//! Checks of the workspace that neither cargo nor clippy makes, and the files that are generated.
//!
//! `cargo run -p xtask -- check` prints every problem and fails when there is one; `-- crds` writes
//! `manifests/crds` and `docs/reference.md`, `-- notices` `THIRD-PARTY-NOTICES`; `-- version X.Y.Z YYYY-MM-DD` sets the version of a release,
//! `-- changelog X.Y.Z` prints what is new in it, if the tree has it; `-- dist FOLDER` writes man pages, completions and bills of
//! materials of the programs. Reading and writing the workspace happens here and
//! in `linked`; every rule is a function from values to problems.

mod arrows;
mod crds;
mod deny;
mod dist;
mod files;
mod linked;
mod man;
mod markdown;
mod notices;
mod reference;
mod sbom;
mod versions;

use std::{
    io::{self, ErrorKind, Write},
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail, ensure};

use files::File;

/// Those that images/Containerfile is built for.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
/// What Debian and container engines call them.
const ARCHITECTURES: [&str; PLATFORMS.len()] = ["amd64", "arm64"];

/// How a file answers that is not there, is no text, or is a link to a folder.
const NO_TEXT: [ErrorKind; 3] = [
    ErrorKind::InvalidData,
    ErrorKind::NotFound,
    ErrorKind::IsADirectory,
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let problems = match arguments.as_slice() {
        [command] if command == "check" => check(&root)?,
        [command] if command == "crds" => {
            write(&root, &crds::generate()?)?;
            write(&root, &[reference::generate()?])?;
            vec![]
        }
        [command] if command == "notices" => {
            write(&root, &[notices::generate(&linked::linked(&root)?)?])?;
            vec![]
        }
        [command, folder] if command == "dist" => {
            write(Path::new(folder), &dist::generate()?)?;
            write(Path::new(folder), &linked::bills(&root)?)?;
            vec![]
        }
        [command, version, date] if command == "version" => {
            write(&root, &versions::set(&read_files(&root)?, version, date)?)?;
            vec![]
        }
        [command, version] if command == "changelog" => {
            let files = read_files(&root)?;
            writeln!(io::stdout(), "{}", versions::notes(&files, version)?)?;
            vec![]
        }
        _ => bail!(
            "usage: cargo run -p xtask -- check | crds | notices | dist FOLDER | version X.Y.Z YYYY-MM-DD | changelog X.Y.Z"
        ),
    };
    for problem in &problems {
        writeln!(io::stderr(), "{problem}")?;
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = read_files(root)?;
    let metadata = output(
        root,
        "cargo",
        &["metadata", "--no-deps", "--format-version=1"],
    )?;
    let deny = files
        .iter()
        .find(|file| file.path == "deny.toml")
        .context("deny.toml is missing")?;

    let mut problems = arrows::problems(&arrows::parse(&metadata)?);
    let ours = root.canonicalize()?;
    problems.extend(deny::parse(&deny.text)?.problems(&built(root)?, &ours.to_string_lossy()));
    problems.extend(files::too_long(&files));
    problems.extend(files::ignored_tests(&files));
    problems.extend(files::missing_tests(&files));
    problems.extend(files::broken_links(&files, |path| root.join(path).exists()));
    problems.extend(crds::problems(&crds::generate()?, &files));
    problems.extend(crds::problems(&[reference::generate()?], &files));
    let notices = notices::generate(&linked::linked(root)?)?;
    problems.extend(notices::problem(&notices, &files));
    problems.extend(versions::problems(&files)?);
    Ok(problems)
}

/// What is built for the platforms of the images, with tests.
fn built(root: &Path) -> anyhow::Result<String> {
    let trees = PLATFORMS.map(|platform| {
        let target = format!("--target={platform}");
        let common = [
            "tree",
            "--workspace",
            "--edges=normal,build,dev",
            "--prefix=none",
        ];
        output(
            root,
            "cargo",
            &[&common[..], &[deny::FORMAT, &target]].concat(),
        )
    });
    Ok(trees
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .concat())
}

fn write(root: &Path, files: &[File]) -> anyhow::Result<()> {
    for File { path, text } in files {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("make {}", folder.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The files that git knows or would add, apart from those that are no text or are deleted, and links to folders.
fn read_files(root: &Path) -> anyhow::Result<Vec<File>> {
    let list = output(
        root,
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard"],
    )?;
    let mut files = Vec::new();
    for path in list.lines() {
        match std::fs::read_to_string(root.join(path)) {
            Ok(text) => {
                let path = path.to_owned();
                files.push(File { path, text });
            }
            Err(error) if NO_TEXT.contains(&error.kind()) => {}
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        }
    }
    Ok(files)
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .with_context(|| format!("run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of {program}"))
}
