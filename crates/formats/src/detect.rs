//! What a file is, by its first and last bytes.

use crate::{Error, Format, Kind, ReadAt, read_at::Input, vhd};

impl Format {
    /// The format that the first and the last bytes of the file give away.
    ///
    /// # Errors
    /// [`Kind::Ambiguous`] when the last bytes are a fixed VHD's and the first ones those of another image: one of two
    /// programs would see another disk. [`Kind::Read`].
    pub fn detect(file: &mut dyn ReadAt) -> Result<Self, Error> {
        let mut input = Input {
            file,
            format: Self::Raw,
        };
        let head = input.head()?;
        let format = Self::of(&head);
        let fixed_vhd = vhd::has_fixed_footer(&mut input)?;
        match format {
            Some(format) if fixed_vhd => Err(Error::new(
                Kind::Ambiguous,
                format,
                "signature",
                "there",
                "but the last 512 bytes are the footer of a fixed vhd, so that two programs would see two disks",
            )),
            Some(format) => Ok(format),
            None if fixed_vhd => Ok(Self::Vhd),
            None => Ok(Self::Raw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_else_is_raw() {
        for bytes in [&[][..], &[0; 5], &[0; 5000], b"\xeb\x63\x90\x10"] {
            let mut file = bytes;
            assert_eq!(Format::detect(&mut file).unwrap(), Format::Raw);
        }
    }
}
