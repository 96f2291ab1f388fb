//! What becomes of an image's bytes: by what its record says, and by how they begin.

use formats::{Format, Info};
use transfer::{Error, Kind};

use crate::glance::Image;

/// What to do with bytes that are not a raw disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Write the disk that they hold, and refuse those that hold none or cannot be read.
    Convert,
    /// Write them as they are, and warn: what Forklift's own populator does without a word.
    Forklift,
    /// Write them as they are, as the user asked.
    Verbatim,
}

/// What an image's file is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The bytes of the target, whatever they are.
    Verbatim,
    /// An image whose disk is read out of it.
    Image,
    /// A compressed file around a raw disk, or around such an image.
    Compressed,
}

impl Policy {
    /// `--verbatim` decides when it is given. Otherwise a controller that knows nothing of it gets
    /// what Forklift's controller expects, since it may convert the bytes afterwards.
    #[must_use]
    pub const fn of(verbatim: Option<bool>, started_by_controller: bool) -> Self {
        match (verbatim, started_by_controller) {
            (Some(true), _) => Self::Verbatim,
            (Some(false), _) | (None, false) => Self::Convert,
            (None, true) => Self::Forklift,
        }
    }

    /// Judges an image by its record. The text is a warning to give.
    ///
    /// # Errors
    /// [`Kind::Unusable`], naming the format and the way out.
    pub fn judge_record(self, image: &Image) -> Result<Option<String>, Error> {
        self.settle(objection_to_record(image, self == Self::Convert))
    }

    /// How the image's bytes become those of the target, by its record.
    #[must_use]
    pub fn form(self, image: &Image) -> Form {
        if self != Self::Convert || objection_to_record(image, true).is_some() {
            return Form::Verbatim;
        }
        if is_compressed(image) {
            Form::Compressed
        } else if is_convertible(image) {
            Form::Image
        } else {
            Form::Verbatim
        }
    }

    /// Judges an image by its first [`Format::HEAD`] bytes. The text is a warning to give.
    ///
    /// # Errors
    /// [`Kind::Unusable`], naming the format and the way out.
    pub fn judge_head(self, image: &Image, head: &[u8]) -> Result<Option<String>, Error> {
        let Some(format) = Format::of(head) else {
            return Ok(None);
        };
        if self == Self::Verbatim || !is_raw(image) {
            return Ok(None);
        }
        if !format.is_container() {
            return Ok(Some(format!(
                "the image is called raw, and its first bytes are those of {format}; they are copied as they are"
            )));
        }
        self.settle(Some(format!(
            "the image is called raw, but its first bytes are those of {format}"
        )))
    }

    fn settle(self, objection: Option<String>) -> Result<Option<String>, Error> {
        let Some(objection) = objection else {
            return Ok(None);
        };
        match self {
            Self::Convert => Err(Error::new(
                Kind::Unusable,
                format!(
                    "{objection}; its disk cannot be read. Convert the image (openstack image create, qemu-img convert), or write its bytes as they are with --verbatim"
                ),
            )),
            Self::Forklift => Ok(Some(format!(
                "{objection}; its bytes are written as they are, for a conversion afterwards"
            ))),
            Self::Verbatim => Ok(None),
        }
    }
}

/// The names that Glance has for formats whose disk can be read
/// (<https://docs.openstack.org/glance/latest/user/formats.html>).
const CONVERTIBLE: [&str; 5] = ["qcow2", "vmdk", "vdi", "vhd", "vhdx"];

/// Glance does not say how; Cinder uploads gzip so
/// (<https://docs.openstack.org/cinder/latest/admin/volume-upload-compression> and `cinder/image/accelerators/gzip.py`).
fn is_compressed(image: &Image) -> bool {
    image.container_format.as_deref() == Some("compressed")
}

fn is_convertible(image: &Image) -> bool {
    let format = image.disk_format.as_deref();
    format.is_some_and(|format| CONVERTIBLE.contains(&format))
}

fn objection_to_record(image: &Image, converts: bool) -> Option<String> {
    if let Some(container) = image
        .container_format
        .as_deref()
        .filter(|name| *name != "bare" && !(converts && *name == "compressed"))
    {
        return Some(format!(
            "the image's container_format is {container}, not bare"
        ));
    }
    if let Some(property) = image.encryption() {
        return Some(format!("the image is encrypted (property {property})"));
    }
    match image.disk_format.as_deref() {
        Some("raw") => None,
        Some(_) if converts && is_convertible(image) => None,
        Some(format) => Some(format!("the image's disk_format is {format}, not raw")),
        None => Some("the image states no disk_format".into()),
    }
}

/// Warns when the content is not what the record says; content decides.
pub(crate) fn compare(image: &Image, found: &Info) {
    let named = image.disk_format.as_deref().unwrap_or("none");
    if found.format.to_string() != named {
        tracing::warn!(
            "the image's disk_format is {named}, and its content is {}, which is believed",
            found.format
        );
    }
}

/// Whether the disk in the image is raw, as its record says.
pub(crate) fn is_raw(image: &Image) -> bool {
    image.disk_format.as_deref() == Some("raw")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn image(record: Value) -> Image {
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn the_flag_decides_and_the_starter_otherwise() {
        for (verbatim, by_controller, policy) in [
            (None, false, Policy::Convert),
            (None, true, Policy::Forklift),
            (Some(true), false, Policy::Verbatim),
            (Some(true), true, Policy::Verbatim),
            (Some(false), false, Policy::Convert),
            (Some(false), true, Policy::Convert),
        ] {
            assert_eq!(Policy::of(verbatim, by_controller), policy);
        }
    }

    #[test]
    fn records() {
        for (record, objection) in [
            (
                json!({"disk_format": "raw", "container_format": "bare"}),
                None,
            ),
            (
                json!({"disk_format": "raw", "container_format": null, "os_hidden": true}),
                None,
            ),
            (
                json!({"disk_format": "qcow2", "container_format": "bare"}),
                Some("disk_format is qcow2"),
            ),
            (
                json!({"disk_format": "iso", "container_format": "bare"}),
                Some("disk_format is iso"),
            ),
            (
                json!({"disk_format": null, "container_format": "bare"}),
                Some("no disk_format"),
            ),
            (
                json!({"disk_format": "vmdk", "container_format": "ova"}),
                Some("container_format is ova"),
            ),
            (
                json!({"disk_format": "raw", "container_format": "docker"}),
                Some("container_format is docker"),
            ),
            (
                json!({"disk_format": "raw", "os_encrypt_key_id": "k"}),
                Some("os_encrypt_key_id"),
            ),
        ] {
            let image = image(record);
            assert_eq!(Policy::Verbatim.judge_record(&image).unwrap(), None);
            let refusal = Policy::Convert.judge_record(&image);
            for policy in [Policy::Forklift, Policy::Verbatim] {
                assert_eq!(policy.form(&image), Form::Verbatim);
            }
            if objection == Some("disk_format is qcow2") {
                assert_eq!(Policy::Convert.form(&image), Form::Image);
                assert_eq!(refusal.unwrap(), None);
                continue;
            }
            assert_eq!(Policy::Convert.form(&image), Form::Verbatim);
            let warning = Policy::Forklift.judge_record(&image).unwrap();
            let Some(objection) = objection else {
                assert_eq!((refusal.unwrap(), warning), (None, None), "{image:?}");
                continue;
            };
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.kind(), Kind::Unusable);
            let text = refusal.to_string();
            assert!(
                text.contains(objection) && text.contains("--verbatim"),
                "{text}"
            );
            assert!(warning.unwrap().contains(objection));
        }
    }

    #[test]
    fn compressed_files_around_disks_that_can_be_read() {
        let iso = image(json!({"disk_format": "iso", "container_format": "compressed"}));
        assert_eq!(Policy::Convert.form(&iso), Form::Verbatim);
        let refusal = Policy::Convert.judge_record(&iso).unwrap_err().to_string();
        assert!(refusal.contains("disk_format is iso"), "{refusal}");
        for format in ["raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx"] {
            let image = image(json!({"disk_format": format, "container_format": "compressed"}));
            assert_eq!(Policy::Convert.form(&image), Form::Compressed);
            assert_eq!(Policy::Convert.judge_record(&image).unwrap(), None);
            assert_eq!(Policy::Verbatim.form(&image), Form::Verbatim);
            let warning = Policy::Forklift.judge_record(&image).unwrap().unwrap();
            assert!(
                warning.contains("container_format is compressed"),
                "{warning}"
            );
        }
    }

    #[test]
    fn a_raw_image_that_is_really_something_else() {
        let raw = image(json!({"disk_format": "raw"}));
        let qcow2 = b"QFI\xfb\0\0\0\x03";
        let refusal = Policy::Convert.judge_head(&raw, qcow2).unwrap_err();
        assert_eq!(refusal.kind(), Kind::Unusable);
        assert!(refusal.to_string().contains("qcow2"), "{refusal}");
        let warning = Policy::Forklift.judge_head(&raw, qcow2).unwrap().unwrap();
        assert!(warning.contains("qcow2"), "{warning}");
        assert_eq!(Policy::Verbatim.judge_head(&raw, qcow2).unwrap(), None);

        // What is called qcow2 has been warned of already.
        let honest = image(json!({"disk_format": "qcow2"}));
        assert_eq!(Policy::Forklift.judge_head(&honest, qcow2).unwrap(), None);
    }

    #[test]
    fn what_a_guest_may_have_written_is_only_remarked() {
        let raw = image(json!({"disk_format": "raw"}));
        let warning = Policy::Convert
            .judge_head(&raw, b"LUKS\xba\xbe\0\x02")
            .unwrap()
            .unwrap();
        assert!(warning.contains("luks"), "{warning}");
        assert_eq!(Policy::Convert.judge_head(&raw, &[0; 1024]).unwrap(), None);
        assert_eq!(Policy::Convert.judge_head(&raw, b"").unwrap(), None);
    }
}
