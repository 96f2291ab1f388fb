//! Rules for single files.

use std::collections::HashSet;

/// Above this a file does too much.
const MOST_LINES: usize = 600;
/// The documents that name the tests behind what they claim.
const CLAIMS: [&str; 2] = ["docs/compared.md", "SECURITY.md"];
/// Attributes that keep a test from running; in pieces, so that this file has none of them.
const IGNORE: &str = concat!("#[", "ignore");
const CONDITION: &str = concat!("#[cfg_", "attr(");
const CODE: &[&str] = &[".rs", ".sh", ".py", ".go"];

/// A text file and its path from the root of the repository.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Code of more than [`MOST_LINES`].
pub(crate) fn too_long(files: &[File]) -> Vec<String> {
    let code = |file: &&File| {
        CODE.iter().any(|ending| file.path.ends_with(ending)) || file.text.starts_with("#!")
    };
    files
        .iter()
        .filter(code)
        .map(|file| (&file.path, file.text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines, more than {MOST_LINES}; split it"))
        .collect()
}

/// Tests that are never run.
pub(crate) fn ignored_tests(files: &[File]) -> Vec<String> {
    lines(files, ".rs")
        .filter(|(_, _, line)| {
            let code = line.split("//").next().unwrap_or_default();
            let conditional = code.contains(CONDITION) && code.contains(", ignore");
            code.contains(IGNORE) || conditional
        })
        .map(|(path, number, _)| format!("{path}:{number}: an ignored test; run it or delete it"))
        .collect()
}

/// Names of tests in [`CLAIMS`] that no function has.
pub(crate) fn missing_tests(files: &[File]) -> Vec<String> {
    let functions: HashSet<&str> = lines(files, ".rs")
        .filter_map(|(_, _, line)| line.split_once("fn ")?.1.split(['(', '<']).next())
        .collect();
    CLAIMS
        .into_iter()
        .flat_map(|document| lines(files, document))
        .flat_map(|(path, number, line)| {
            let quoted = line.split('`').skip(1).step_by(2);
            quoted.map(move |name| (path, number, name))
        })
        .filter(|(_, _, name)| is_test(name) && !functions.contains(name))
        .map(|(path, number, name)| format!("{path}:{number}: no such test: {name}"))
        .collect()
}

/// Whether a quoted word can only be the name of a test: three words at least, joined by `_`.
fn is_test(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.chars().all(plain) && word.matches('_').count() > 1
}

/// Links in Markdown to files that do not exist. `exists` takes a path from the root.
pub(crate) fn broken_links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    let mut in_code = false;
    for (path, number, line) in lines(files, ".md") {
        // Blocks of code do not go on in the next file.
        in_code = in_code && number > 1;
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in links(line) {
            let resolved = resolve(path, target);
            if !resolved.as_ref().is_some_and(|resolved| exists(resolved)) {
                problems.push(format!("{path}:{number}: no such file: {target}"));
            }
        }
    }
    problems
}

fn lines<'a>(
    files: &'a [File],
    ending: &'a str,
) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
    files
        .iter()
        .filter(move |file| file.path.ends_with(ending))
        .flat_map(|file| {
            let numbered = file.text.lines().enumerate();
            numbered.map(|(index, line)| (file.path.as_str(), index + 1, line))
        })
}

/// Targets of the line's inline links that are files: neither URLs nor places of the same page.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next())
        .filter(|target| !target.is_empty() && !target.contains(':'))
}

/// The target of a link as a path from the root; `None` when it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_code_is_measured() {
        let long = "x\n".repeat(601);
        let script = format!("#!/bin/sh\n{long}");
        let files = [
            file("a.rs", &long),
            file("b.md", &long),
            file("run", &script),
            file("c.rs", &"x\n".repeat(600)),
        ];
        assert_eq!(
            too_long(&files),
            [
                "a.rs: 601 lines, more than 600; split it",
                "run: 602 lines, more than 600; split it"
            ]
        );
    }

    #[test]
    fn ignored_tests_are_found_with_and_without_a_reason() {
        let text = [
            "#[test]",
            "_IGNORE]",
            "    _IGNORE = \"slow\"]",
            "// _IGNORE]",
            "#[test] _IGNORE] fn slow() {}",
            "_CONDITION miri, ignore)]",
        ]
        .join("\n");
        let text = text
            .replace("_IGNORE", IGNORE)
            .replace("_CONDITION", CONDITION);
        let lines: Vec<_> = ignored_tests(&[file("a.rs", &text)])
            .iter()
            .filter_map(|problem| problem.split(':').nth(1).map(str::to_owned))
            .collect();
        assert_eq!(lines, ["2", "3", "5", "6"]);
    }

    #[test]
    fn tests_that_are_named_exist() {
        let page =
            "| row | `a_test_of_this` and `a_test_of_that`, `a/path_of_a/file` | `one_word` |";
        let code = "#[test]\nfn a_test_of_this() {}\n";
        let files =
            ["docs/compared.md", "SECURITY.md", "docs/other.md"].map(|path| file(path, page));
        let files = files.into_iter().chain([file("a.rs", code)]);
        assert_eq!(
            missing_tests(&files.collect::<Vec<_>>()),
            [
                "docs/compared.md:1: no such test: a_test_of_that",
                "SECURITY.md:1: no such test: a_test_of_that",
            ]
        );
    }

    #[test]
    fn links_are_resolved_from_their_page() {
        let page = "[a](b.md) [c](../README.md#top) [d](https://x.y/z) [e](#here)\n```\n[f](no.md)\n```\n[g](missing.md)\n[h](../../out.md)";
        let known = |path: &str| ["docs/b.md", "README.md"].contains(&path);
        assert_eq!(
            broken_links(&[file("docs/a.md", page)], known),
            [
                "docs/a.md:5: no such file: missing.md",
                "docs/a.md:6: no such file: ../../out.md"
            ]
        );
    }
}
