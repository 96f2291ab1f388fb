//! Crates that must not be built, from the list in `deny.toml`.

use anyhow::{Context, ensure};

/// A crate that must not be built, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    name: String,
    reason: String,
}

/// The entries of `deny = [...]` in the section `[bans]`, one for each line.
pub(crate) fn parse(toml: &str) -> anyhow::Result<Vec<Ban>> {
    let bans: Vec<Ban> = toml
        .lines()
        .skip_while(|line| line.trim() != "[bans]")
        .skip_while(|line| !line.starts_with("deny = ["))
        .skip(1)
        .take_while(|line| line.trim() != "]")
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|line| {
            let name = string_after(line, "crate = \"");
            let reason = string_after(line, "reason = \"");
            let (name, reason) = name.zip(reason).with_context(|| {
                format!("deny.toml: want {{ crate = \"...\", reason = \"...\" }}, not {line:?}")
            })?;
            Ok(Ban { name, reason })
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(!bans.is_empty(), "deny.toml: [bans] has no list \"deny\"");
    Ok(bans)
}

/// Banned crates in the output of `cargo tree --prefix=none --format={p}`, which has a line
/// `name vX.Y.Z` for each crate that is really built. (`Cargo.lock` also lists optional ones.)
pub(crate) fn problems(bans: &[Ban], built: &str) -> Vec<String> {
    let is_built = |ban: &&Ban| {
        let mut names = built.lines().filter_map(|line| line.split(' ').next());
        names.any(|name| name == ban.name)
    };
    bans.iter()
        .filter(is_built)
        .map(|ban| {
            let Ban { name, reason } = ban;
            format!("{name} is built, and banned: {reason} (see `cargo tree -i {name}`)")
        })
        .collect()
}

fn string_after(line: &str, start: &str) -> Option<String> {
    let (_, rest) = line.split_once(start)?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[bans]\nmultiple-versions = \"allow\"\ndeny = [\n    # why\n    \
                        { crate = \"ring\", reason = \"one provider\" },\n]\n[sources]\n";

    #[test]
    fn reads_the_list() {
        let ring = Ban {
            name: "ring".to_owned(),
            reason: "one provider".to_owned(),
        };
        assert_eq!(parse(LIST).unwrap(), [ring]);
        parse("[bans]\n").unwrap_err();
        parse("[bans]\ndeny = [\n    \"ring\",\n]\n").unwrap_err();
    }

    #[test]
    fn finds_what_is_built() {
        let bans = parse(LIST).unwrap();
        assert!(problems(&bans, "rustls v0.23.46\nstring v1.0.0 (*)\n").is_empty());
        assert_eq!(
            problems(&bans, "rustls v0.23.46\nring v0.17.14 (*)\n"),
            ["ring is built, and banned: one provider (see `cargo tree -i ring`)"]
        );
    }
}
