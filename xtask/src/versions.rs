//! The version of the workspace stands in `Cargo.toml`. Other files repeat it: the tags of our images, and the locks.

use anyhow::{Context, bail, ensure};

use crate::{files::File, notices::PROGRAMS};

const CHANGELOG: &str = "CHANGELOG.md";
const UNRELEASED: &str = "## [Unreleased]";
/// Beginnings of the paths of files whose readers take an image's tag from them.
const READ_BY_USERS: [&str; 4] = ["README.md", "chart/Chart.yaml", "docs/", "manifests/"];

/// The version in the text of the workspace's `Cargo.toml`.
pub(crate) fn of_workspace(manifest: &str) -> anyhow::Result<&str> {
    let (_, section) = manifest
        .split_once("[workspace.package]\n")
        .context("Cargo.toml: has no [workspace.package]")?;
    let line = section
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    line.and_then(|rest| rest.strip_suffix('"'))
        .context("Cargo.toml: [workspace.package] has no version")
}

/// Files that name another version than `Cargo.toml`.
pub(crate) fn problems(files: &[File]) -> anyhow::Result<Vec<String>> {
    let version = of_workspace(text(files, "Cargo.toml")?)?;
    let mut problems = Vec::new();
    let mut places = 0;
    for file in files.iter().filter(|file| is_read(&file.path)) {
        for (index, line) in file.text.lines().enumerate() {
            let number = index + 1;
            let (before, named) = tag(line).unwrap_or_default();
            places += usize::from(!before.is_empty());
            if !before.is_empty() && named != version {
                problems.push(format!(
                    "{}:{number}: names version {named}, Cargo.toml {version}; write {version}",
                    file.path
                ));
            }
        }
    }
    if places == 0 {
        problems
            .push("no file names the version of an image; mend xtask/src/versions.rs".to_owned());
    }
    if !text(files, CHANGELOG)?.contains(&format!("\n{UNRELEASED}\n")) {
        problems.push(format!(
            "{CHANGELOG}: has no section {UNRELEASED}; add it above the newest release"
        ));
    }
    Ok(problems)
}

/// The files that change when the workspace gets the version `new`, released on `date` (`YYYY-MM-DD`).
pub(crate) fn set(files: &[File], new: &str, date: &str) -> anyhow::Result<Vec<File>> {
    ensure!(
        is_version(new),
        "{new:?} is no version; write three numbers, such as 1.2.3"
    );
    let day = date.len() == 10 && date.chars().all(|c| c.is_ascii_digit() || c == '-');
    ensure!(day, "{date:?} is no date; write YYYY-MM-DD");
    let old = of_workspace(text(files, "Cargo.toml")?)?;
    let mut changed = Vec::new();
    for File { path, text } in files {
        let text_now = if path == "Cargo.toml" {
            text.replacen(
                &format!("version = \"{old}\""),
                &format!("version = \"{new}\""),
                1,
            )
        } else if path == CHANGELOG {
            release(text, new, date)?
        } else if path.ends_with("Cargo.lock") {
            lock(text, old, new)
        } else if is_read(path) {
            text.split_inclusive('\n')
                .map(|line| retag(line, new))
                .collect()
        } else {
            continue;
        };
        if text_now != *text {
            changed.push(File {
                path: path.clone(),
                text: text_now,
            });
        }
    }
    Ok(changed)
}

/// What the changelog says of the version that the workspace has.
pub(crate) fn notes<'a>(files: &'a [File], version: &str) -> anyhow::Result<&'a str> {
    let here = of_workspace(text(files, "Cargo.toml")?)?;
    ensure!(
        here == version,
        "Cargo.toml has the version {here}, not {version}; run: make version VERSION={version}"
    );
    let heading = format!("\n## [{version}] - ");
    let Some((_, rest)) = text(files, CHANGELOG)?.split_once(&heading) else {
        bail!("{CHANGELOG}: has no section of {version}; run: make version VERSION={version}");
    };
    let (_, section) = rest.split_once('\n').unwrap_or_default();
    let notes = section.split("\n## [").next().unwrap_or_default().trim();
    ensure!(
        !notes.is_empty(),
        "{CHANGELOG}: the section of {version} is empty"
    );
    Ok(notes)
}

fn text<'a>(files: &'a [File], path: &str) -> anyhow::Result<&'a str> {
    let file = files.iter().find(|file| file.path == path);
    Ok(&file.with_context(|| format!("{path} is missing"))?.text)
}

fn is_read(path: &str) -> bool {
    READ_BY_USERS
        .iter()
        .any(|beginning| path.starts_with(beginning))
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    numbers.len() == 3
        && numbers
            .iter()
            .all(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// The line up to the version of one of our images or of the chart, and the version.
fn tag(line: &str) -> Option<(&str, &str)> {
    let images = PROGRAMS.iter().map(|program| format!("{program}:"));
    let fields = ["newTag: ", "appVersion: ", "version: "].map(str::to_owned);
    images.chain(fields).find_map(|before| {
        let start = line.find(&before)? + before.len();
        let rest = &line[start..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        is_version(&rest[..end]).then(|| (&line[..start], &rest[..end]))
    })
}

fn retag(line: &str, new: &str) -> String {
    match tag(line) {
        Some((before, old)) => format!("{before}{new}{}", &line[before.len() + old.len()..]),
        None => line.to_owned(),
    }
}

/// Only crates of the workspace have no source.
fn lock(text: &str, old: &str, new: &str) -> String {
    let packages = text.split_inclusive("\n\n").map(|package| {
        if package.contains("\nsource = ") {
            return package.to_owned();
        }
        let (old, new) = (
            format!("\nversion = \"{old}\"\n"),
            format!("\nversion = \"{new}\"\n"),
        );
        package.replacen(&old, &new, 1)
    });
    packages.collect()
}

fn release(changelog: &str, version: &str, date: &str) -> anyhow::Result<String> {
    ensure!(
        !changelog.contains(&format!("\n## [{version}]")),
        "{CHANGELOG}: has a section of {version} already; a version is released once"
    );
    let dated = format!("\n{UNRELEASED}\n\n## [{version}] - {date}\n");
    Ok(changelog.replacen(&format!("\n{UNRELEASED}\n"), &dated, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"net\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"x\"\nversion = \"0.1.0\"\nsource = \"r\"\n";

    fn tree() -> Vec<File> {
        [
            ("Cargo.toml", "[workspace.package]\nversion = \"0.1.0\"\nedition = \"2024\"\nx = { version = \"0.1.0\" }\n"),
            ("Cargo.lock", LOCK),
            ("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.0.9] - 2026-01-01\n\n- old\n"),
            ("docs/a.md", "r/ovirt-populator:0.1.0`, Kubernetes 1.30, other:0.0.1\n"),
            ("manifests/k.yaml", "  newTag: 0.1.0\nkind: x\n"),
            ("tests/k.yaml", "  newTag: 0.0.1\n"),
        ]
        .map(|(path, text)| File { path: path.to_owned(), text: text.to_owned() })
        .into()
    }

    #[test]
    fn another_version_is_found_where_users_read_it() {
        assert_eq!(problems(&tree()).unwrap(), [""; 0]);
        let mut files = tree();
        files[3].text = "text\nr/ovirt-populator:0.0.9".to_owned();
        files[4].text = "newTag: 0.2.0".to_owned();
        assert_eq!(
            problems(&files).unwrap(),
            [
                "docs/a.md:2: names version 0.0.9, Cargo.toml 0.1.0; write 0.1.0",
                "manifests/k.yaml:1: names version 0.2.0, Cargo.toml 0.1.0; write 0.1.0"
            ]
        );
    }

    #[test]
    fn a_rule_that_finds_nothing_and_a_changelog_without_a_place_are_problems() {
        let mut files = tree();
        files.truncate(3);
        files[2].text = "# Changelog\n".to_owned();
        assert_eq!(problems(&files).unwrap().len(), 2);
        assert!(problems(&files[1..]).is_err());
    }

    #[test]
    fn a_new_version_is_set_everywhere() {
        let mut files = tree();
        for new in set(&files, "1.2.30", "2026-12-01").unwrap() {
            files
                .iter_mut()
                .find(|file| file.path == new.path)
                .unwrap()
                .text = new.text;
        }
        assert_eq!(problems(&files).unwrap(), [""; 0]);
        let texts: Vec<&str> = files.iter().map(|file| file.text.as_str()).collect();
        assert!(
            texts[0].contains("version = \"1.2.30\"\nedition")
                && texts[0].contains("x = { version = \"0.1.0\"")
        );
        assert_eq!(texts[1], LOCK.replacen("0.1.0", "1.2.30", 1));
        assert!(texts[2].contains("## [Unreleased]\n\n## [1.2.30] - 2026-12-01\n\n- new\n"));
        assert_eq!(
            texts[3],
            "r/ovirt-populator:1.2.30`, Kubernetes 1.30, other:0.0.1\n"
        );
        assert_eq!(texts[5], "  newTag: 0.0.1\n");
        assert_eq!(notes(&files, "1.2.30").unwrap(), "- new");
        assert!(notes(&files, "0.0.9").is_err(), "not this tree's");
    }

    #[test]
    fn what_is_no_version_or_no_date_and_a_second_release_are_refused() {
        for (version, date) in [
            ("1.2", "2026-12-01"),
            ("v1.2.3", "2026-12-01"),
            ("1.2.3", "today"),
            ("0.0.9", "2026-12-01"),
        ] {
            assert!(set(&tree(), version, date).is_err(), "{version} {date}");
        }
        assert!(notes(&tree(), "0.1.0").is_err());
    }
}
