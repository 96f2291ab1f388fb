//! What an image is, as its header says.

use crate::Format;

/// How compressed clusters are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Raw deflate (RFC 1951): qcow2's `zlib`.
    Deflate,
    /// Zstandard: qcow2's `zstd`.
    Zstd,
    /// Deflate in the zlib format (RFC 1950) behind a marker: vmdk's stream-optimized grains.
    VmdkGrain,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The format, by content.
    pub format: Format,
    /// The kind of image within the format, by its name there: `dynamic`, `streamOptimized`, ...
    pub variant: &'static str,
    /// Version of the format that the file states.
    pub version: u32,
    /// Size of the guest's disk in bytes.
    pub virtual_size: u64,
    /// Unit of the tables in bytes: cluster, grain or block. A compressed extent is one of these.
    pub cluster_size: u64,
    /// How compressed clusters are packed; `None` where there can be none.
    pub compression: Option<Compression>,
    /// What else is remarkable, for logs.
    pub features: Vec<&'static str>,
}
