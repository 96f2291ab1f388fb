//! What may be built, by the list in `deny.toml`: no banned crate, no licence that is not listed, no
//! source but the one registry.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee};

/// The list, in the form of cargo-deny. A part of that form which is not checked here is an error, so
/// that nothing stands in the list without effect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deny {
    bans: Bans,
    licenses: Licences,
    sources: Sources,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: Allow,
    deny: Vec<Ban>,
}

/// Of what is not asked about.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Allow {
    Allow,
}

/// Of what is not in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Refuse {
    Deny,
}

/// A crate that must not be built, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Licences {
    allow: Vec<String>,
    unused_allowed_license: Refuse,
}

/// Registries besides cargo's own, and repositories of git: none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Refuse,
    unknown_git: Refuse,
}

/// Reads `deny.toml`.
pub(crate) fn parse(toml: &str) -> anyhow::Result<Deny> {
    let deny: Deny = basic_toml::from_str(toml).context("deny.toml")?;
    // The only values that are accepted, as the checks below do what they say.
    let Allow::Allow = deny.bans.multiple_versions;
    let Refuse::Deny = deny.licenses.unused_allowed_license;
    let (Refuse::Deny, Refuse::Deny) = (&deny.sources.unknown_registry, &deny.sources.unknown_git);
    ensure!(!deny.bans.deny.is_empty(), "deny.toml: nothing is banned");
    for name in &deny.licenses.allow {
        Licensee::parse(name)
            .with_context(|| format!("deny.toml: [licenses] allow: {name:?} is no SPDX licence"))?;
    }
    Ok(deny)
}

/// Format of `cargo tree` for [`Deny::problems`], with `--prefix=none`.
pub(crate) const FORMAT: &str = "--format={p}\t{l}";

/// A crate that is really built. (`Cargo.lock` also lists optional ones.)
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Built<'a> {
    name: &'a str,
    version: &'a str,
    /// What cargo says about its source in parentheses: nothing for its own registry.
    source: &'a str,
    licence: &'a str,
}

/// A line `name vX.Y.Z (source)<tab>licence (*)`; `None` for one about features.
fn built(line: &str) -> Option<Built<'_>> {
    let (package, licence) = line.split_once('\t')?;
    let mut words = package.splitn(3, ' ');
    Some(Built {
        name: words.next()?,
        version: words.next()?,
        source: words.next().unwrap_or_default(),
        licence: licence.trim_end_matches("(*)").trim(),
    })
}

impl Deny {
    /// What is built and not allowed, in the output of `cargo tree` with [`FORMAT`]; `ours` is the
    /// folder of the workspace, as cargo prints it.
    pub(crate) fn problems(&self, tree: &str, ours: &str) -> Vec<String> {
        let all: BTreeSet<Built<'_>> = tree.lines().filter_map(built).collect();
        let mut problems = Vec::new();
        let mut unused: BTreeSet<&str> = self.licenses.allow.iter().map(String::as_str).collect();
        for built in &all {
            problems.extend(self.ban(built));
            problems.extend(foreign_source(built, ours));
            problems.extend(self.licence(built, &mut unused));
        }
        let unused = unused.into_iter();
        problems.extend(
            unused.map(|name| {
                format!("deny.toml: [licenses] allow: no crate needs {name}; remove it")
            }),
        );
        problems
    }

    fn ban(&self, built: &Built<'_>) -> Option<String> {
        let Ban { name, reason } = self.bans.deny.iter().find(|ban| ban.name == built.name)?;
        Some(format!(
            "{name} is built, and banned: {reason} (see `cargo tree -i {name}`)"
        ))
    }

    /// What is wrong with the licence; takes those that it needs out of `unused`.
    fn licence(&self, built: &Built<'_>, unused: &mut BTreeSet<&str>) -> Option<String> {
        let Built { name, licence, .. } = built;
        // Older crates write a slash for OR.
        let expression = match Expression::parse(&licence.replace('/', " OR ")) {
            Ok(expression) if !licence.is_empty() => expression,
            _ => return Some(format!("{name}: {licence:?} is no SPDX expression")),
        };
        let allows = |allowed: &str, needed: &LicenseReq| {
            Licensee::parse(allowed).is_ok_and(|allowed| allowed.satisfies(needed))
        };
        let allow = &self.licenses.allow;
        let is_allowed = |needed: &LicenseReq| allow.iter().any(|allowed| allows(allowed, needed));
        if !expression.evaluate(is_allowed) {
            return Some(format!(
                "{name}: deny.toml does not allow its licence {licence} (see `cargo tree -i {name}`)"
            ));
        }
        for requirement in expression.requirements() {
            unused.retain(|allowed| !allows(allowed, &requirement.req));
        }
        None
    }
}

fn foreign_source(built: &Built<'_>, ours: &str) -> Option<String> {
    let source = built.source.replace("(proc-macro)", "");
    let source = source.trim();
    let is_ours = source.strip_prefix('(').is_some_and(|path| {
        path.strip_prefix(ours)
            .is_some_and(|rest| rest.starts_with(['/', ')']))
    });
    (!source.is_empty() && !is_ours).then(|| {
        format!(
            "{} {}: comes from {source}, and deny.toml allows the one registry alone",
            built.name, built.version
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
[bans]
multiple-versions = "allow"
deny = [
    # why
    { crate = "ring", reason = "one provider" },
]
[licenses]
allow = ["MIT", "ISC"]
unused-allowed-license = "deny"
[sources]
unknown-registry = "deny"
unknown-git = "deny"
"#;

    fn problems(tree: &str) -> Vec<String> {
        let tree = format!("a v1.0.0\tISC AND MIT\na feature \"b\"\n{tree}\n");
        parse(LIST).unwrap().problems(&tree, "/src")
    }

    #[test]
    fn what_would_have_no_effect_is_an_error() {
        parse(LIST).unwrap();
        for (old, new) in [
            (
                "multiple-versions = \"allow\"",
                "multiple-versions = \"deny\"",
            ),
            ("unknown-git = \"deny\"", "unknown-git = \"warn\""),
            ("\"MIT\", ", "\"Mitt\", "),
            ("reason", "because"),
            ("[sources]", "[advisories]\n[sources]"),
            ("{ crate = \"ring\", reason = \"one provider\" },", ""),
        ] {
            assert!(LIST.contains(old), "{old}");
            assert!(parse(&LIST.replace(old, new)).is_err(), "{new}");
        }
    }

    #[test]
    fn a_banned_crate_is_found_where_it_is_built() {
        assert_eq!(problems("string v1.0.0\tMIT (*)"), [""; 0]);
        assert_eq!(
            problems("ring v0.17.14\tMIT (*)"),
            ["ring is built, and banned: one provider (see `cargo tree -i ring`)"]
        );
    }

    #[test]
    fn each_licence_that_is_needed_must_be_allowed() {
        for fine in [
            "MIT",
            "MIT (*)",
            "GPL-3.0-only OR MIT",
            "GPL-3.0-only/MIT",
            "(GPL-3.0-only OR MIT) AND ISC",
        ] {
            assert_eq!(problems(&format!("x v1.0.0\t{fine}")), [""; 0], "{fine}");
        }
        for (bad, words) in [
            ("GPL-3.0-only", "does not allow its licence GPL-3.0-only"),
            ("MIT AND GPL-3.0-only", "does not allow"),
            ("Apache-2.0 WITH LLVM-exception", "does not allow"),
            ("", "no SPDX expression"),
            ("see LICENSE", "no SPDX expression"),
        ] {
            let problems = problems(&format!("x v1.0.0\t{bad}"));
            assert!(
                problems.len() == 1 && problems[0].contains(words),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_licence_that_no_crate_needs_leaves_the_list() {
        let deny = parse(LIST).unwrap();
        assert_eq!(
            deny.problems("a v1.0.0\tMIT\n", "/src"),
            ["deny.toml: [licenses] allow: no crate needs ISC; remove it"]
        );
    }

    #[test]
    fn crates_come_from_here_or_from_the_registry() {
        for fine in ["", " (proc-macro)", " (/src/crates/x)", " (/src)"] {
            assert_eq!(problems(&format!("x v1.0.0{fine}\tMIT")), [""; 0], "{fine}");
        }
        for bad in [
            "(https://example.org/x?rev=1#1)",
            "(registry `other`)",
            "(/srcs/x)",
            "(proc-macro) (https://example.org/x#1)",
        ] {
            let problems = problems(&format!("x v1.0.0 {bad}\tMIT"));
            assert_eq!(problems.len(), 1, "{bad}");
            assert!(
                problems[0].contains("the one registry alone"),
                "{problems:?}"
            );
        }
    }
}
