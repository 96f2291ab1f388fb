//! The disk of an image that is not copied as it is: out of ranges of its file, or out of a file that was downloaded.
//!
//! ```text
//! HttpSource --ranges--------------------------> DiskImage --+--> the engine --> target
//!     |  (--verify=full: read once before, to NullSink)      |                     ^
//!     |                                                      |                     |
//!     +--whole--> ScratchFile --------------------> DiskImage+                     |
//!     |             | gzip, xz, zstd, bzip2                  |                     |
//!     |             +--unpack--> ScratchFile --> DiskImage --+                     |
//!     |                              +-----------> raw ------+                     |
//!     +--whole--> the engine --> OnePass ------------------------------------------+
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use contract::{Exit, args::flag};
use formats::{Format, Info};
use mover::{Context, Failure, Target, Verify};
use transfer::{
    Access, Digest, Error, Kind, Source, Verification,
    sink::{NullSink, ScratchFile},
    source::{Changes, HttpSource},
};

use super::{Plan, must_fit, too_small, verification, warn};
use crate::{
    Form, Policy,
    disk_image::{Bound, Judge, not_compressed, unpack, wrapper},
    glance::{Image, ImageId},
    image_policy,
};

/// What the target gets.
pub(super) struct Disk {
    pub(super) source: Arc<dyn Source>,
    /// What the bytes of the disk are compared with.
    pub(super) verification: Verification,
    /// What the bytes of the image's file were compared with before.
    pub(super) verified: Option<Digest>,
    /// The source is the image's file, out of which the disk is read on its way to the target.
    pub(super) one_pass: Option<Box<dyn Judge>>,
}

/// How the disk gets out of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By ranges of the file.
    Ranges,
    /// Out of a file in the scratch folder.
    Scratch,
    /// While the file comes, from its first byte to its last.
    OnePass,
}

impl Disk {
    /// A disk that is the file.
    pub(super) fn verbatim(source: Arc<dyn Source>, verification: &Verification) -> Self {
        Self {
            source,
            verification: verification.clone(),
            verified: None,
            one_pass: None,
        }
    }

    /// A disk that was made of a file: no hash of its own is known.
    const fn of_file(source: Arc<dyn Source>, verified: Option<Digest>) -> Self {
        Self {
            source,
            verification: Verification::None,
            verified,
            one_pass: None,
        }
    }
}

impl Plan {
    /// Makes the disk of an image or of a compressed file, which fits the target. `None` in a check, when that would take
    /// the whole file.
    pub(super) async fn open_disk(
        &self,
        context: &Context,
        file: Arc<HttpSource>,
        target: &Target,
    ) -> Result<Option<Disk>, Failure> {
        let way = self.way(context.verify, file.access());
        // A check reads what can be read without the file.
        let is_readable = self.form == Form::Image && file.access() != Access::Ordered;
        match (way, self.scratch.as_deref()) {
            (Way::OnePass, _) => return self.one_pass(context, file, target),
            (Way::Scratch, Some(folder)) if !(context.check.is_some() && is_readable) => {
                return self.stage(context, folder, file, target).await;
            }
            _ => {}
        }
        let opened = self.open_image(context, Arc::clone(&file) as _).await;
        let source = match opened {
            Ok(source) => source,
            Err(failure) => {
                if !self.is_packed(context, &file, &failure).await? {
                    return Err(failure);
                }
                return match self.scratch.as_deref() {
                    Some(folder) => self.stage(context, folder, file, target).await,
                    None => self.one_pass(context, file, target),
                };
            }
        };
        self.must_fit(target, source.size())?;
        if let Some(folder) = self.scratch.as_deref().filter(|_| way == Way::Scratch) {
            create(context, folder, self.bytes).await?;
        }
        let verified = self.verify_file(context, file).await?;
        Ok(Some(Disk::of_file(source, verified)))
    }

    fn must_fit(&self, target: &Target, bytes: u64) -> Result<(), Failure> {
        must_fit(target, format_args!("disk in the image {}", self.id), bytes)
    }

    /// The file is downloaded first where it is wanted so, and there is no other way or it is read to its end anyway.
    fn way(&self, verify: Verify, access: Access) -> Way {
        let comes_once = access == Access::Ordered || self.form == Form::Compressed;
        match self.scratch {
            Some(_) if comes_once || verify == Verify::Full => Way::Scratch,
            None if comes_once => Way::OnePass,
            _ => Way::Ranges,
        }
    }

    /// Whether each byte of the file is read, so that its hash can be verified.
    pub(super) fn reads_all(&self, verify: Verify, access: Access) -> bool {
        self.form != Form::Verbatim
            && (verify == Verify::Full || self.way(verify, access) != Way::Ranges)
    }

    /// What a file that is read to its end is compared with.
    pub(super) fn of_file(&self, verify: Verify) -> Result<Verification, Failure> {
        match verify {
            Verify::Full => Ok(self.verification.clone()),
            Verify::Auto | Verify::Off => verification(verify, &self.image),
        }
    }

    /// Whether a file that is no image is a compressed one.
    async fn is_packed(
        &self,
        context: &Context,
        file: &Arc<HttpSource>,
        failure: &Failure,
    ) -> Result<bool, Failure> {
        if failure.exit() != Exit::SourceUnusable || file.access() == Access::Ordered {
            return Ok(false);
        }
        let (file, cancel) = (Arc::clone(file), context.cancel.clone());
        let found = context
            .retry("read the image's beginning and end", move || {
                wrapper(&*file, &cancel)
            })
            .await
            .map_err(|error| self.explain(error))?;
        Ok(found.is_some())
    }

    /// Reads the whole file for nothing but its hash, if it is to be verified. No byte was written before.
    async fn verify_file(
        &self,
        context: &Context,
        file: Arc<HttpSource>,
    ) -> Result<Option<Digest>, Failure> {
        match context.verify {
            Verify::Full => {}
            Verify::Auto => {
                tracing::warn!(
                    "the hash that Glance states is of the image's file, and the copy does not read all of it, so that it is not \
                     verified; --verify=full reads the file once more for that"
                );
                return Ok(None);
            }
            Verify::Off => return Ok(None),
        }
        if context.check.is_some() {
            return Ok(None);
        }
        tracing::info!(
            "the image's file is read once to verify its hash, before anything is written"
        );
        let report = context
            .stage(
                "verifying the image's file",
                file,
                Arc::new(NullSink),
                self.verification.clone(),
            )
            .await
            .map_err(|error| self.explain(error))?;
        log_verified(report.verified.as_ref());
        Ok(report.verified)
    }

    /// Lets the disk be read out of the file while that comes.
    fn one_pass(
        &self,
        context: &Context,
        file: Arc<HttpSource>,
        target: &Target,
    ) -> Result<Option<Disk>, Failure> {
        if context.check.is_some() {
            tracing::info!(
                "check: the image would be read in one pass; what is in it is looked at then"
            );
            return Ok(None);
        }
        let verification = self.of_file(context.verify)?;
        if matches!(verification, Verification::Stated(_)) {
            file.set_changes(Changes::Verified);
        }
        tracing::info!(
            bytes = self.bytes,
            "the image is read in one pass; progress is in bytes of its file"
        );
        Ok(Some(Disk {
            source: file,
            verification,
            verified: None,
            one_pass: Some(Box::new(Record {
                policy: self.policy,
                form: self.form,
                image: self.image.clone(),
                id: self.id.clone(),
                bytes: self.bytes,
                target: target.path().to_owned(),
            })),
        }))
    }

    /// Downloads the file, unpacks it where it is compressed, and finds the disk in it.
    async fn stage(
        &self,
        context: &Context,
        folder: &Path,
        file: Arc<HttpSource>,
        target: &Target,
    ) -> Result<Option<Disk>, Failure> {
        let scratch = create(context, folder, self.bytes).await?;
        if context.check.is_some() {
            tracing::info!(
                "check: the image would be downloaded into {}, which has room for its file; what is in it is looked at then",
                folder.display()
            );
            return Ok(None);
        }
        tracing::info!(
            bytes = self.bytes,
            "the image is downloaded into a temporary file in {} first",
            folder.display()
        );
        let verification = self.of_file(context.verify)?;
        if matches!(verification, Verification::Stated(_)) {
            file.set_changes(Changes::Verified);
        }
        let report = context
            .stage(
                "downloading the image",
                file,
                Arc::clone(&scratch) as _,
                verification,
            )
            .await
            .map_err(|error| self.explain(error))?;
        log_verified(report.verified.as_ref());
        let scratch = self.unpacked(context, scratch, target).await?;
        let source = self.disk_in(context, scratch).await?;
        self.must_fit(target, source.size())?;
        Ok(Some(Disk::of_file(source, report.verified)))
    }

    /// The file, unpacked if it is a compressed one.
    async fn unpacked(
        &self,
        context: &Context,
        packed: Arc<ScratchFile>,
        target: &Target,
    ) -> Result<Arc<ScratchFile>, Failure> {
        let format = match self.form {
            Form::Compressed => {
                Format::of(&packed.head(Format::HEAD)?).filter(|format| format.is_wrapper())
            }
            // The end counts too: a guest decides how a fixed vhd begins.
            Form::Verbatim | Form::Image => wrapper(&*packed, &context.cancel)?,
        };
        let Some(format) = format else {
            if self.form != Form::Compressed {
                return Ok(packed);
            }
            return Err(not_compressed().into());
        };
        let into = create(context, packed.folder(), 0).await?;
        let judge = self.judge(target.capacity(), into.free()?);
        tracing::info!(%format, "the image is unpacked into another temporary file");
        let (cancel, goal) = (context.cancel.clone(), Arc::clone(&into));
        let bytes = context
            .counted("unpacking the image", move |count| {
                unpack(&*packed, format, &goal, judge, count, &cancel)
            })
            .await??;
        tracing::info!(bytes, "the image is unpacked");
        Ok(into)
    }

    /// Judges a file by its record and its first bytes while it is unpacked, and says how large it may become: where
    /// it can be the disk as it is, not larger than the target.
    fn judge(
        &self,
        target: u64,
        folder: u64,
    ) -> impl Fn(&[u8]) -> Result<Bound, Error> + Send + use<> {
        let (policy, image) = (self.policy, self.image.clone());
        move |head| {
            warn(policy.judge_head(&image, head)?);
            let is_disk = image_policy::is_raw(&image) || Format::of(head).is_none();
            Ok(if is_disk && target != u64::MAX {
                Bound::Target(target)
            } else {
                Bound::Folder(folder)
            })
        }
    }

    /// The disk in a file that is here, and that was judged if it was unpacked.
    async fn disk_in(
        &self,
        context: &Context,
        file: Arc<ScratchFile>,
    ) -> Result<Arc<dyn Source>, Failure> {
        if !image_policy::is_raw(&self.image) {
            return Ok(self.open_image(context, file).await?);
        }
        Ok(file)
    }
}

/// A temporary file for so many bytes.
async fn create(context: &Context, folder: &Path, bytes: u64) -> Result<Arc<ScratchFile>, Failure> {
    let folder = folder.to_owned();
    let made = context.blocking(move || {
        let scratch = ScratchFile::create(&folder)?;
        scratch.check_free(bytes)?;
        Ok::<_, Error>(Arc::new(scratch))
    });
    Ok(made.await?.map_err(|error| {
        let kind: Kind = error.kind();
        Error::with_source(kind, format!("--{}", flag::SCRATCH_DIR), error)
    })?)
}

/// An image's record, which what is found in its file is compared with.
struct Record {
    policy: Policy,
    form: Form,
    image: Image,
    id: ImageId,
    bytes: u64,
    target: PathBuf,
}

impl Judge for Record {
    fn size(&self) -> u64 {
        self.bytes
    }

    fn is_compressed(&self) -> bool {
        self.form == Form::Compressed
    }

    fn is_raw(&self) -> bool {
        image_policy::is_raw(&self.image)
    }

    fn head(&self, head: &[u8]) -> Result<(), Error> {
        warn(self.policy.judge_head(&self.image, head)?);
        Ok(())
    }

    fn image(&self, info: &Info, capacity: u64) -> Result<(), Error> {
        image_policy::compare(&self.image, info);
        let bytes = info.virtual_size;
        if bytes > capacity {
            let what = format_args!("disk in the image {}", self.id);
            let text = too_small(&self.target, capacity, what, bytes);
            return Err(Error::new(Kind::TargetTooSmall, text));
        }
        tracing::info!(
            format = %info.format,
            variant = info.variant,
            disk_bytes = bytes,
            "the disk is read out of the image while it is downloaded"
        );
        Ok(())
    }
}

fn log_verified(digest: Option<&Digest>) {
    if let Some(digest) = digest {
        tracing::info!(
            "the image's file has the {} that Glance states",
            digest.algorithm
        );
    }
}
