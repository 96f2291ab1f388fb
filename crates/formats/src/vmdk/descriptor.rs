//! The descriptor: a text that says what the disk is made of.

use super::header::Header;
use crate::{Error, Format, Kind, error::quoted, read_at::Input};

/// Most bytes of a descriptor that are read; usual are 1 to 10 KiB.
pub(super) const MOST: u64 = 20 << 10;
/// The parent's content id of a disk that has no parent.
const NO_PARENT: &str = "ffffffff";

/// The kinds of disks that are one sparse extent with the descriptor in it.
const SUPPORTED: [&str; 2] = ["monolithicSparse", "streamOptimized"];
/// How an extent's line begins.
const ACCESS: [&str; 3] = ["RW ", "RDONLY ", "NOACCESS "];

/// Reads the text at `offset`, of at most `size` bytes.
pub(super) fn read(input: &mut Input<'_>, offset: u64, size: u64) -> Result<String, Error> {
    let size = size.min(MOST).min(input.size().saturating_sub(offset));
    let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
    input.read("descriptor", offset, &mut bytes)?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Checks that the descriptor in a sparse extent says that the extent is the whole disk; returns the kind of disk.
pub(super) fn check(input: &mut Input<'_>, header: &Header) -> Result<&'static str, Error> {
    let (offset, size) = header.descriptor;
    let text = match offset {
        0 => String::new(),
        _ => read(input, offset, size)?,
    };
    if text.is_empty() {
        let problem = "the file is one of the extents of a disk in several files";
        return Err(error(Kind::External, "descriptor", "missing", problem));
    }
    let kind = value(&text, "createType").unwrap_or_default();
    let supported = SUPPORTED.into_iter().find(|name| *name == kind);
    let extents = extents(&text).count();
    let parent = value(&text, "parentCID").unwrap_or(NO_PARENT);
    match supported {
        Some(name) if extents == 1 && parent.eq_ignore_ascii_case(NO_PARENT) => Ok(name),
        _ => Err(refuse(&text)),
    }
}

/// The error for a disk that is not one sparse extent by itself.
pub(super) fn refuse(text: &str) -> Error {
    let parent = value(text, "parentCID").unwrap_or(NO_PARENT);
    if !parent.eq_ignore_ascii_case(NO_PARENT) {
        let name = value(text, "parentFileNameHint").unwrap_or("not named");
        let problem = "the disk holds only what differs from its parent, which is never followed";
        return error(Kind::Backing, "parent", quoted(name.as_bytes()), problem);
    }
    let kind = value(text, "createType").unwrap_or("not stated");
    if extents(text).next().is_none() {
        let problem = "the descriptor names no extent";
        return error(
            Kind::Corrupt,
            "createType",
            quoted(kind.as_bytes()),
            problem,
        );
    }
    let names: Vec<&str> = extents(text).collect();
    let count = names.len();
    let first = names.first().copied().unwrap_or_default();
    let value = format!(
        "{} with {count} extent(s), the first {}",
        quoted(kind.as_bytes()),
        quoted(first.as_bytes())
    );
    let problem =
        "the data is not in this file, or not in this file alone, and others are never followed";
    error(Kind::External, "createType", value, problem)
}

/// The value of a line `name=value` or `name="value"`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let is_it = key.trim().eq_ignore_ascii_case(name);
        is_it.then(|| value.trim().trim_matches('"'))
    })
}

/// The lines of extents.
fn extents(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| ACCESS.iter().any(|access| line.starts_with(access)))
}

fn error(
    kind: Kind,
    field: &'static str,
    value: impl std::fmt::Display,
    problem: &'static str,
) -> Error {
    Error::new(kind, Format::Vmdk, field, value, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: &str = "# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\n\n# Extent description\nRW 20480 FLAT \"disk-flat.vmdk\" 0\n";

    #[test]
    fn a_flat_disk_is_refused_with_its_type_and_file() {
        let error = refuse(FLAT);
        assert_eq!(error.kind(), Kind::External);
        let text = error.to_string();
        assert!(
            text.contains("monolithicFlat") && text.contains("disk-flat.vmdk"),
            "{text}"
        );
    }

    #[test]
    fn a_parent_is_refused_by_its_name() {
        let text = FLAT.replace(
            "parentCID=ffffffff",
            "parentCID=1\nparentFileNameHint=\"base.vmdk\"",
        );
        let error = refuse(&text);
        assert_eq!(error.kind(), Kind::Backing);
        assert!(error.to_string().contains("base.vmdk"), "{error}");
    }

    #[test]
    fn a_descriptor_without_extents_is_damaged() {
        assert_eq!(refuse("# Disk DescriptorFile\n").kind(), Kind::Corrupt);
    }
}
