//! The disk of an image that is not copied as it is: out of ranges of its file, or out of a file that was downloaded.
//!
//! ```text
//! HttpSource --ranges--------------------------> DiskImage --+--> the engine --> target
//!     |  (--verify=full: read once before, to NullSink)      |
//!     |                                                      |
//!     +--whole--> ScratchFile --------------------> DiskImage+
//!                   | gzip, xz, zstd, bzip2                  |
//!                   +--unpack--> ScratchFile --> DiskImage --+
//!                                    +-----------> raw ------+
//! ```

use std::{path::Path, sync::Arc};

use contract::{Exit, args::flag};
use formats::Format;
use mover::{Context, Failure, Target, Verify};
use transfer::{
    Access, Digest, Error, Kind, Source, Verification,
    sink::{NullSink, ScratchFile},
    source::{Changes, HttpSource},
};

use super::{Plan, must_fit, verification, warn};
use crate::{
    Form,
    disk_image::{Bound, unpack, wrapper},
    image_policy,
};

/// What the target gets.
pub(super) struct Disk {
    pub(super) source: Arc<dyn Source>,
    /// What the bytes of the disk are compared with.
    pub(super) verification: Verification,
    /// What the bytes of the image's file were compared with before.
    pub(super) verified: Option<Digest>,
}

impl Disk {
    /// A disk that is the file.
    pub(super) fn verbatim(source: Arc<dyn Source>, verification: &Verification) -> Self {
        Self {
            source,
            verification: verification.clone(),
            verified: None,
        }
    }

    /// A disk that was made of a file: no hash of its own is known.
    const fn of_file(source: Arc<dyn Source>, verified: Option<Digest>) -> Self {
        Self {
            source,
            verification: Verification::None,
            verified,
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
        let is_staged = self.is_staged(context.verify, file.access());
        // A check reads what can be read without the file.
        let is_readable = self.form == Form::Image && file.access() != Access::Ordered;
        if is_staged && !(context.check.is_some() && is_readable) {
            return self.stage(context, file, target).await;
        }
        let opened = self.open_image(context, Arc::clone(&file) as _).await;
        let source = match opened {
            Ok(source) => source,
            Err(failure) => {
                if !self.is_packed(context, &file, &failure).await? {
                    return Err(failure);
                }
                return self.stage(context, file, target).await;
            }
        };
        self.must_fit(target, source.size())?;
        if let Some(folder) = self.scratch.as_deref().filter(|_| is_staged) {
            create(context, folder, self.bytes).await?;
        }
        let verified = self.verify_file(context, file).await?;
        Ok(Some(Disk::of_file(source, verified)))
    }

    fn must_fit(&self, target: &Target, bytes: u64) -> Result<(), Failure> {
        must_fit(target, format_args!("disk in the image {}", self.id), bytes)
    }

    /// Whether the file is downloaded first: where there is no other way, or where it is read to its end anyway.
    fn is_staged(&self, verify: Verify, access: Access) -> bool {
        let is_asked_for = access == Access::Ordered || verify == Verify::Full;
        match self.form {
            Form::Verbatim => false,
            Form::Image => self.scratch.is_some() && is_asked_for,
            Form::Compressed => true,
        }
    }

    /// Whether each byte of the file is read, so that its hash can be verified.
    pub(super) fn reads_all(&self, verify: Verify, access: Access) -> bool {
        self.form != Form::Verbatim && (verify == Verify::Full || self.is_staged(verify, access))
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

    /// Downloads the file, unpacks it where it is compressed, and finds the disk in it.
    async fn stage(
        &self,
        context: &Context,
        file: Arc<HttpSource>,
        target: &Target,
    ) -> Result<Option<Disk>, Failure> {
        let Some(folder) = self.scratch.as_deref() else {
            return Err(needs_scratch());
        };
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
            return Err(Failure::new(
                Exit::SourceUnusable,
                "the image's container_format is compressed, and its content is none of gzip, xz, zstd and bzip2; upload \
                 it again with the right one, or write its bytes as they are with --verbatim",
            ));
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

fn needs_scratch() -> Failure {
    Failure::new(
        Exit::SourceUnusable,
        format!(
            "the image's file is compressed as a whole, and has to be unpacked first: give a folder with room for both forms \
             (--{}), unpack it before it is uploaded, or write its bytes as they are with --verbatim",
            flag::SCRATCH_DIR
        ),
    )
}

fn log_verified(digest: Option<&Digest>) {
    if let Some(digest) = digest {
        tracing::info!(
            "the image's file has the {} that Glance states",
            digest.algorithm
        );
    }
}
