//! Unpacks one compressed cluster.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::{bulk::Decompressor, zstd_safe};

use crate::{Compression, Error, Format, Image, Info, Kind, bytes::Fields};

/// Bytes of a grain's marker: the first sector (8) and the packed length (4).
const MARKER: usize = 12;
/// Unit of a grain's marker, in bytes.
const SECTOR: u64 = 512;

/// Unpacks compressed clusters of one image, one at a time; reuses its memory, about 100 KiB.
///
/// The unpacked cluster is as large as the caller's buffer and never larger, whatever the packed bytes say.
pub struct Decoder {
    format: Format,
    method: Method,
    virtual_size: u64,
    cluster_size: u64,
}

enum Method {
    None,
    Deflate(Box<Decompress>),
    Zstd(Box<Decompressor<'static>>),
    VmdkGrain(Box<Decompress>),
}

impl Decoder {
    /// A decoder for the clusters of `image`.
    ///
    /// # Errors
    /// [`Kind::Limit`] when there is no memory for it.
    pub fn new(image: &Image) -> Result<Self, Error> {
        Self::of(image.info())
    }

    /// A decoder for the clusters of an image that is this.
    pub(crate) fn of(info: &Info) -> Result<Self, Error> {
        let method = match info.compression {
            None => Method::None,
            Some(Compression::Deflate) => Method::Deflate(Box::new(Decompress::new(false))),
            Some(Compression::VmdkGrain) => Method::VmdkGrain(Box::new(Decompress::new(true))),
            Some(Compression::Zstd) => {
                let decoder = Decompressor::new().map_err(|error| {
                    let problem = "there is no memory for its decoder";
                    Error::new(Kind::Limit, info.format, "compression", "zstd", problem)
                        .because(error)
                })?;
                Method::Zstd(Box::new(decoder))
            }
        };
        Ok(Self {
            format: info.format,
            method,
            virtual_size: info.virtual_size,
            cluster_size: info.cluster_size,
        })
    }

    /// Unpacks into `cluster`, which has [`Info::cluster_size`] bytes, the cluster that begins at byte `start` of the
    /// guest's disk; `packed` are the bytes that [`Content::Compressed`](crate::Content::Compressed) names.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when the bytes are no packed cluster, or one of another size or place: then `cluster` holds
    /// anything.
    pub fn decode(&mut self, start: u64, packed: &[u8], cluster: &mut [u8]) -> Result<(), Error> {
        if cluster.len() as u64 != self.cluster_size || !start.is_multiple_of(self.cluster_size) {
            let problem = "neither begins at a multiple of the cluster size, nor has it that size";
            let problem = format!("a cluster of {} bytes there {problem}", cluster.len());
            return Err(self.error(start, problem));
        }
        let needed = self
            .virtual_size
            .saturating_sub(start)
            .min(self.cluster_size);
        let unpacked = match &mut self.method {
            Method::None => Err("the image has no compressed clusters".into()),
            Method::Deflate(inflate) => run_inflate(inflate, false, packed, cluster),
            Method::Zstd(decoder) => unzstd(decoder, packed, cluster),
            Method::VmdkGrain(inflate) => grain(self.format, start, packed)
                .and_then(|packed| run_inflate(inflate, true, packed, cluster)),
        };
        let unpacked = unpacked.map_err(|problem| self.error(start, problem))?;
        // The last grain of a vmdk may end with the disk.
        let may_be_short = matches!(self.method, Method::VmdkGrain(_));
        let least = if may_be_short {
            needed
        } else {
            self.cluster_size
        };
        if (unpacked as u64) < least {
            let problem = format!("it has {unpacked} bytes when unpacked, in place of {least}");
            return Err(self.error(start, problem));
        }
        if let Some(rest) = cluster.get_mut(unpacked..) {
            rest.fill(0);
        }
        Ok(())
    }

    fn error(&self, start: u64, problem: String) -> Error {
        let value = format!("at byte {start} of the disk");
        Error::new(
            Kind::Corrupt,
            self.format,
            "compressed cluster",
            value,
            problem,
        )
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("format", &self.format)
            .field("cluster_size", &self.cluster_size)
            .finish_non_exhaustive()
    }
}

/// The packed bytes of a vmdk's grain, behind its marker. Says what is wrong with it.
fn grain(format: Format, start: u64, packed: &[u8]) -> Result<&[u8], String> {
    let fields = Fields {
        format,
        name: "grain marker",
        bytes: packed,
    };
    let (Ok(sector), Ok(length)) = (fields.le64(0), fields.le32(8)) else {
        return Err("the file ends in its marker".into());
    };
    if sector.checked_mul(SECTOR) != Some(start) {
        return Err(format!(
            "its marker says that it is for sector {sector}: it is another one's"
        ));
    }
    usize::try_from(length)
        .ok()
        .and_then(|length| packed.get(MARKER..)?.get(..length))
        .ok_or_else(|| format!("its marker says {length} bytes, there are fewer"))
}

/// Inflates into `cluster`; how many bytes it had. More than fit are an error, as a stream is that ends early.
fn run_inflate(
    inflate: &mut Decompress,
    has_header: bool,
    packed: &[u8],
    cluster: &mut [u8],
) -> Result<usize, String> {
    inflate.reset(has_header);
    let status = inflate
        .decompress(packed, cluster, FlushDecompress::Finish)
        .map_err(|error| format!("deflate: {error}"))?;
    let unpacked = usize::try_from(inflate.total_out()).unwrap_or(usize::MAX);
    match status {
        Status::StreamEnd => Ok(unpacked),
        // QEMU's writer ends the stream; without its end there may be more than a cluster in it.
        Status::Ok | Status::BufError => Err(format!(
            "deflate: no end after {unpacked} bytes, of which a cluster has {}",
            cluster.len()
        )),
    }
}

/// Unpacks Zstandard frames into `cluster` until it is full; how many bytes they had.
///
/// Frame by frame into the cluster itself: the window is the cluster, and a frame that asks for a larger one gets no memory.
fn unzstd(
    decoder: &mut Decompressor<'static>,
    mut packed: &[u8],
    cluster: &mut [u8],
) -> Result<usize, String> {
    let mut unpacked = 0;
    while unpacked < cluster.len() {
        let length = zstd_safe::find_frame_compressed_size(packed)
            .map_err(|code| format!("zstd: {}", zstd_safe::get_error_name(code)))?;
        let frame = packed.get(..length).ok_or("zstd: a frame is cut")?;
        let rest = cluster.get_mut(unpacked..).unwrap_or_default();
        let more = decoder
            .decompress_to_buffer(frame, rest)
            .map_err(|error| format!("zstd: {error}"))?;
        packed = packed.get(length..).unwrap_or_default();
        if more == 0 {
            return Err(format!("zstd: an empty frame after {unpacked} bytes"));
        }
        unpacked = unpacked.saturating_add(more);
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression as Level, write::DeflateEncoder};

    use super::*;

    const CLUSTER: usize = 4096;

    fn decoder(method: Method) -> Decoder {
        Decoder {
            format: Format::Qcow2,
            method,
            virtual_size: 1 << 20,
            cluster_size: CLUSTER as u64,
        }
    }

    fn deflate() -> Decoder {
        decoder(Method::Deflate(Box::new(Decompress::new(false))))
    }

    fn zstd() -> Decoder {
        decoder(Method::Zstd(Box::new(Decompressor::new().unwrap())))
    }

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Level::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    #[test]
    fn a_cluster_is_followed_by_anything_and_has_its_exact_size() {
        let bytes: Vec<u8> = (0..=250).cycle().take(CLUSTER).collect();
        for (mut decoder, pack) in [
            (deflate(), deflated as fn(&[u8]) -> Vec<u8>),
            (zstd(), zstandard),
        ] {
            let mut cluster = vec![0; CLUSTER];
            let packed = [&pack(&bytes)[..], &[0xa5; 400]].concat();
            decoder
                .decode(CLUSTER as u64, &packed, &mut cluster)
                .unwrap();
            assert_eq!(cluster, bytes);
            let longer = [&bytes[..], &[1]].concat();
            for wrong in [&bytes[..CLUSTER - 1], &longer, &[]] {
                let packed = pack(wrong);
                let error = decoder.decode(0, &packed, &mut cluster).unwrap_err();
                assert_eq!(error.kind(), Kind::Corrupt, "{}", wrong.len());
            }
            for end in [0, 1, packed.len() / 4, packed.len() / 3] {
                assert!(
                    decoder.decode(0, &packed[..end], &mut cluster).is_err(),
                    "{end}"
                );
            }
            // An error leaves nothing behind.
            decoder.decode(0, &packed, &mut cluster).unwrap();
            assert_eq!(cluster, bytes);
        }
    }

    #[test]
    fn a_cluster_may_be_of_several_frames() {
        let (first, second) = (vec![1; 1000], vec![2; CLUSTER - 1000]);
        let packed = [zstandard(&first), zstandard(&second)].concat();
        let mut cluster = vec![0; CLUSTER];
        zstd().decode(0, &packed, &mut cluster).unwrap();
        assert_eq!(cluster, [first, second].concat());
    }

    #[test]
    fn an_image_without_compression_has_no_packed_clusters() {
        let mut cluster = vec![0; CLUSTER];
        assert!(
            decoder(Method::None)
                .decode(0, &[0; 9], &mut cluster)
                .is_err()
        );
    }
}
