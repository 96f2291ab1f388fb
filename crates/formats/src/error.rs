//! Why an image cannot be read.

use std::{borrow::Cow, fmt};

use crate::{Format, ReadError};

/// Longest text of a file that is shown in an error, in characters.
const MOST_SHOWN: usize = 120;

/// What is wrong, as far as callers act on it; text is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The caller's [`ReadAt`](crate::ReadAt) failed; its error is the source of this one.
    Read,
    /// The file ends before what its tables name.
    Truncated,
    /// A field or a table contradicts another one, or the format.
    Corrupt,
    /// The image says of itself that it is damaged, or that its log was not replayed.
    Dirty,
    /// The rest of the disk is in a backing file or in a parent.
    Backing,
    /// The data is in another file, or in several.
    External,
    /// The data is encrypted.
    Encrypted,
    /// A version, a variant or a feature that is not supported.
    Unsupported,
    /// Two formats fit the same file.
    Ambiguous,
    /// More memory or output than the caller allows.
    Limit,
    /// It cannot be read in one pass: something comes after what it is needed for.
    Order,
}

impl Kind {
    /// What the owner of the image can do about it.
    const fn advice(self) -> &'static str {
        match self {
            Self::Read => "see the cause",
            Self::Truncated => "the upload may be incomplete: upload the image again",
            Self::Corrupt => "check the image (qemu-img check) and upload it again",
            Self::Dirty => {
                "let its own program or `qemu-img check -r all` repair it, and upload it again"
            }
            Self::Backing => {
                "make the image independent of it (qemu-img convert) and upload it again"
            }
            Self::External => "make one file of it (qemu-img convert) and upload that",
            Self::Encrypted => "decrypt it (qemu-img convert) before it is uploaded",
            Self::Unsupported => "convert it (qemu-img convert -O qcow2) and upload it again",
            Self::Ambiguous => {
                "convert it to raw or qcow2 with the format named (qemu-img convert -f)"
            }
            Self::Limit => "allow more, or unpack it before it is uploaded",
            Self::Order => "read it where ranges of it can be read",
        }
    }
}

/// An error: which field of which format, its value, what is wrong with it and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{format}: {field} is {value}: {problem}; {}", kind.advice())]
pub struct Error {
    kind: Kind,
    format: Format,
    field: Cow<'static, str>,
    value: String,
    problem: Cow<'static, str>,
    source: Option<ReadError>,
}

impl Error {
    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The format that the file was read as.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The field, table entry or part of the file.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    pub(crate) fn new(
        kind: Kind,
        format: Format,
        field: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        problem: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            kind,
            format,
            field: field.into(),
            value: value.to_string(),
            problem: problem.into(),
            source: None,
        }
    }

    pub(crate) fn because(mut self, source: impl Into<ReadError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Text of a file, fit to be shown: quoted, escaped and cut.
pub(crate) fn quoted(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String = text.chars().take(MOST_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_field_value_and_what_to_do() {
        let error = Error::new(
            Kind::Backing,
            Format::Qcow2,
            "backing file",
            quoted(b"base\n.img"),
            "the image holds only what differs from it",
        );
        assert_eq!(
            error.to_string(),
            "qcow2: backing file is \"base\\n.img\": the image holds only what differs from it; \
             make the image independent of it (qemu-img convert) and upload it again"
        );
        assert_eq!(error.field(), "backing file");
    }

    #[test]
    fn a_long_text_of_a_file_is_cut() {
        let shown = quoted(&[b'a'; 5000]);
        assert_eq!(shown.len(), MOST_SHOWN + 5);
    }
}
