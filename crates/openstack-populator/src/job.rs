//! One run: prepare the source, check it, copy it.
//!
//! An image needs no release: what holds it are connections, which end with the source. What was made of a volume for
//! the copy is removed however that ends.

mod disk;

use std::{
    error, fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use contract::{
    Exit,
    args::{flag, secret},
};
use formats::Format;
use mover::{Context, Done, Failure, Secrets, Target, Verify};
use transfer::{
    Access, Error, Kind, Source, Verification,
    source::{Authorization, Changes, HttpSource},
};
use url::Url;

use self::disk::Disk;
use crate::{
    Form, Policy, SourceArguments,
    cinder::{Export, Mark, Place, Rest},
    cloud::Cloud,
    disk_image::{DiskImage, OnePass},
    glance::{Glance, Hash, Image, ImageId, stated_hash},
    image_policy,
    keystone::{Session, auth_url},
    source::Choice,
};

/// Copies the disk to the target, or checks that it could be, or removes what earlier runs left in the cloud.
///
/// # Errors
/// One per kind of [`Exit`] that names the source or the target.
pub async fn run(mut context: Context, arguments: SourceArguments) -> Result<Done, Failure> {
    let identity = identity_url(&arguments, &context.secrets)?;
    context.set_source(&identity)?;
    let migration = || arguments.migration(&context.owner_uid);
    let cleaned = arguments.cleanup.then(migration).transpose()?;
    let cloud = stoppable(&context, Cloud::open(&context, identity)).await?;
    if let Some(migration) = cleaned {
        let mark = Mark::new(&context.owner_uid, migration, None);
        let export = stoppable(&context, cloud.export(&context, mark)).await?;
        export.clean().await?;
        return Ok(Done::CleanedUp);
    }
    let place = match arguments.choice()? {
        Choice::Place(place) => place,
        Choice::Image(id) => {
            let image = stoppable(&context, cloud.image(&id)).await?;
            let snapshot = image.boot_snapshot().filter(|_| cloud.has_volumes());
            let Some(snapshot) = snapshot else {
                let plan = Plan::of(&context, &cloud, id, image, &arguments)?;
                let target = context.open_target().await?;
                return copy(&context, plan, target).await;
            };
            tracing::info!(image = %id, %snapshot, "the image holds no data, and names the snapshot that does");
            Place::Snapshot(snapshot)
        }
    };
    let mark = Mark::new(&context.owner_uid, migration()?, Some(place.clone()))
        .of_request(arguments.request_id.clone());
    let export = stoppable(&context, cloud.export(&context, mark)).await?;
    let bytes = stoppable(&context, export.look(&place)).await?;
    tracing::info!(bytes, "the cloud has the {place}");
    let target = context.open_target().await?;
    must_fit(&target, &place, bytes)?;
    if context.check.is_some() {
        tracing::info!("check: the {place} can be made an image; nothing was made");
        return Ok(Done::Checked);
    }
    tracing::info!(
        "what is made in the cloud for this copy has the name {}",
        export.name()
    );
    let result = copy_of_place(&context, &cloud, &export, &place, target, &arguments).await;
    tidied(&export, result).await
}

/// Removes what was made for the copy. What cannot be removed makes no failure of a copy that is complete.
async fn tidied(export: &Export, result: Result<Done, Failure>) -> Result<Done, Failure> {
    let name = export.name();
    match result {
        Ok(Done::Copied { verified }) => {
            tracing::info!("the copy is complete; removing what was made for it in the cloud");
            Ok(match export.clean_after_copy().await {
                Ok(()) => Done::Copied { verified },
                Err(Rest { left, why }) => Done::Untidy {
                    verified,
                    warning: format!(
                        "the disk is copied, and left in the cloud: {left} (name {name}); remove it with \
                         openstack-populator --{} and the arguments of the copy, or with openstack image delete, volume delete and \
                         volume snapshot delete: {why}",
                        flag::CLEANUP
                    ),
                },
            })
        }
        result => {
            if let Err(rest) = export.clean().await {
                tracing::warn!(
                    "what was made in the cloud for this copy could not be removed: {rest}; run this command with --{} to remove it \
                     (name {name}), unless another run of the same migration follows and does so",
                    flag::CLEANUP
                );
            }
            result
        }
    }
}

async fn copy_of_place(
    context: &Context,
    cloud: &Cloud,
    export: &Export,
    place: &Place,
    target: Target,
    arguments: &SourceArguments,
) -> Result<Done, Failure> {
    let made = export.image(place).await?;
    let id: ImageId = made.parse().map_err(|why: String| {
        Error::new(Kind::Protocol, format!("Cinder names an image: {why}"))
    })?;
    let record = stoppable(context, cloud.image(&id)).await;
    let image = record.map_err(|failure| match failure.exit() {
        Exit::SourceMissing => vanished(&id, failure).into(),
        _ => failure,
    })?;
    image.bytes().map_err(|error| vanished(&id, error))?;
    let plan = Plan {
        is_temporary: true,
        ..Plan::of(context, cloud, id, image, arguments)?
    };
    copy(context, plan, target).await
}

/// Copies an image, or checks that it could be.
async fn copy(context: &Context, plan: Plan, target: Target) -> Result<Done, Failure> {
    let is_verbatim = plan.form == Form::Verbatim;
    if is_verbatim {
        must_fit(&target, format_args!("image {}", plan.id), plan.bytes)?;
    }
    let file = plan.probe(context).await?;
    let access = file.access();
    let disk = if is_verbatim {
        Some(Disk::verbatim(Arc::clone(&file) as _, &plan.verification))
    } else {
        plan.open_disk(context, Arc::clone(&file), &target).await?
    };
    if context.check.is_some() {
        plan.log_summary(context.verify, &target, access)?;
        if let Some(disk) = disk {
            context.check_room(disk.source.as_ref(), &target)?;
        }
        return Ok(Done::Checked);
    }
    let Some(disk) = disk else {
        return Err(Failure::new(Exit::Internal, "there is no disk to copy"));
    };
    if is_verbatim {
        plan.check_head(context, file).await?;
    }
    let (source, verification) = (disk.source, disk.verification);
    // An image's own fault, as when it was opened: its data is there.
    let is_images = Arc::new(AtomicBool::new(!is_verbatim && disk.one_pass.is_none()));
    let copied = match disk.one_pass {
        None => context.copy(source, verification, &target).await,
        Some(judge) => {
            let (cancel, fault) = (context.cancel.clone(), Arc::clone(&is_images));
            let into = move |target, detect_zeroes| {
                OnePass::new(target, detect_zeroes, judge, cancel, fault)
            };
            context
                .copy_in_order(source, verification, &target, into)
                .await
        }
    };
    let report = copied.map_err(|error| match error.kind() {
        Kind::Unusable if is_images.load(Ordering::Relaxed) => error,
        _ => plan.explain(error),
    })?;
    context.close(target).await?;
    Ok(Done::Copied {
        verified: report.verified.or(disk.verified),
    })
}

/// The identity URL of the flag, or the one of the credentials.
fn identity_url(arguments: &SourceArguments, secrets: &Secrets) -> Result<Url, Failure> {
    let given = arguments.endpoint.as_deref();
    if let Some(url) = given.filter(|url| !url.trim().is_empty()) {
        return Ok(auth_url("--endpoint", url)?);
    }
    let url = secrets.text(secret::URL).ok_or_else(|| {
        Failure::new(
            Exit::Configuration,
            format!(
                "there is no identity service to ask: give --{}, a cloud with an auth_url (--{}), or the secret key {} ({})",
                flag::ENDPOINT,
                flag::OS_CLOUD,
                secret::URL,
                secrets.origin()
            ),
        )
    })?;
    Ok(auth_url(
        &format!("the identity URL of {},", secrets.origin()),
        url,
    )?)
}

/// What is known before the first byte.
#[derive(Debug)]
struct Plan {
    glance: Glance,
    id: ImageId,
    /// The image was made for this copy.
    is_temporary: bool,
    image: Image,
    bytes: u64,
    policy: Policy,
    form: Form,
    /// Of the image's file, as far as it is known before the file is looked at.
    verification: Verification,
    /// Where a file may be downloaded into.
    scratch: Option<PathBuf>,
    session: Arc<Session>,
    keystone: String,
}

impl Plan {
    /// Judges the image's record.
    fn of(
        context: &Context,
        cloud: &Cloud,
        id: ImageId,
        image: Image,
        arguments: &SourceArguments,
    ) -> Result<Self, Failure> {
        let bytes = image.bytes()?;
        tracing::info!(
            image = %id,
            bytes,
            disk_format = image.disk_format.as_deref().unwrap_or("none"),
            "{} has the image",
            cloud.glance
        );
        let policy = Policy::of(arguments.verbatim, context.started_by_controller);
        warn(policy.judge_record(&image)?);
        let form = policy.form(&image);
        let verification = match (form, context.verify) {
            (Form::Verbatim, _) | (_, Verify::Full) => verification(context.verify, &image)?,
            _ => Verification::None,
        };
        Ok(Self {
            glance: cloud.glance.clone(),
            id,
            is_temporary: false,
            image,
            bytes,
            policy,
            form,
            verification,
            scratch: arguments.scratch_dir.clone(),
            session: Arc::clone(&cloud.session),
            keystone: cloud.name.clone(),
        })
    }

    /// Asks for what the copy reads first: the first connection for data, and whether ranges are served. A
    /// check, and an image whose tables are read first, ask for one byte.
    async fn probe(&self, context: &Context) -> Result<Arc<HttpSource>, Failure> {
        let connector = context.connector()?;
        let url = self.glance.data_url(&self.id);
        let authorization: Arc<dyn Authorization> = Arc::clone(&self.session) as _;
        let (bytes, connections) = (self.bytes, context.connections);
        // Several nodes may give an unchanged image other marks; its hash decides then.
        let changes = match (self.form, &self.verification) {
            (Form::Verbatim, Verification::Stated(_)) => Changes::Verified,
            _ => Changes::Refused,
        };
        let is_check = context.check.is_some();
        let first = match self.form {
            Form::Verbatim => {
                transfer::first_range(bytes, &context.options(self.verification.clone()))
            }
            // Without ranges the answer is the whole file, which is read on.
            Form::Image | Form::Compressed => 1,
        };
        let source = context
            .retry("open the image's data", move || {
                let (connector, url) = (connector.clone(), url.clone());
                let authorization = Arc::clone(&authorization);
                if is_check {
                    return HttpSource::probe(
                        connector,
                        url,
                        authorization,
                        bytes,
                        connections,
                        changes,
                    );
                }
                HttpSource::open(
                    connector,
                    url,
                    authorization,
                    bytes,
                    connections,
                    changes,
                    first,
                )
            })
            .await
            .map_err(|error| self.explain(error))?;
        if source.access() == Access::Ordered {
            tracing::info!(
                "{} serves no ranges; the image is read as one stream",
                self.glance
            );
        }
        Ok(Arc::new(source))
    }

    /// A refusal of the data, in Glance's terms. Of a temporary image it says nothing of what the user named, and another
    /// run makes another image.
    fn explain(&self, error: Error) -> Error {
        let error = self.glance.explain(&self.id, error);
        match error.kind() {
            Kind::Missing | Kind::Unusable if self.is_temporary => vanished(&self.id, error),
            _ => error,
        }
    }

    /// Reads the tables of an image that is not raw.
    async fn open_image(
        &self,
        context: &Context,
        file: Arc<dyn Source>,
    ) -> Result<Arc<DiskImage>, Failure> {
        let cancel = context.cancel.clone();
        let disk = context
            .retry("read the image's tables", move || {
                DiskImage::open(Arc::clone(&file), &cancel)
            })
            .await
            .map_err(|error| match error.kind() {
                // The image's own fault: its data is there.
                Kind::Unusable => error,
                _ => self.explain(error),
            })?;
        let info = disk.info();
        let named = self.image.disk_format.as_deref().unwrap_or("none");
        if info.format == Format::Raw {
            return Err(Error::new(
                Kind::Unusable,
                format!(
                    "the image's disk_format is {named}, and its content is of no format that is known; upload it \
                     again with the right one, or write its bytes as they are with --verbatim"
                ),
            )
            .into());
        }
        image_policy::compare(&self.image, info);
        tracing::info!(
            format = %info.format,
            variant = info.variant,
            disk_bytes = disk.virtual_size(),
            data_bytes = disk.data(),
            "the disk is read out of the image while it is copied"
        );
        Ok(Arc::new(disk))
    }

    /// Reads the beginning before anything is written.
    async fn check_head(&self, context: &Context, source: Arc<HttpSource>) -> Result<(), Failure> {
        let length =
            usize::try_from(self.bytes).map_or(Format::HEAD, |bytes| bytes.min(Format::HEAD));
        if self.policy == Policy::Verbatim {
            return Ok(());
        }
        let head = context
            .retry("read the image's beginning", move || source.head(length))
            .await
            .map_err(|error| self.explain(error))?;
        warn(self.policy.judge_head(&self.image, &head)?);
        Ok(())
    }

    /// Logs the summary of a preflight.
    fn log_summary(&self, verify: Verify, target: &Target, access: Access) -> Result<(), Failure> {
        tracing::info!("check: {} accepts the credentials", self.keystone);
        tracing::info!(
            "check: {} has image {}: active, {} bytes, disk_format {}",
            self.glance,
            self.id,
            self.bytes,
            self.image.disk_format.as_deref().unwrap_or("none"),
        );
        match access {
            Access::Ranged { connections } => {
                tracing::info!("check: its data is served in ranges, on {connections} connections");
            }
            Access::Ordered => tracing::info!("check: its data is served as one stream only"),
        }
        let verification = if self.reads_all(verify, access) {
            self.of_file(verify)?
        } else {
            self.verification.clone()
        };
        match verification {
            Verification::Stated(digest) => {
                tracing::info!("check: its {} will be verified", digest.algorithm);
            }
            Verification::None | Verification::Asked(_) => {
                tracing::info!("check: no hash will be verified");
            }
        }
        let path = target.path().display();
        let (capacity, room) = (target.capacity(), target.room());
        if let Some(room) = room {
            tracing::info!(
                "check: the target {path} is a file, whose file system has room for {room} bytes"
            );
        } else if capacity == u64::MAX {
            tracing::info!("check: the target {path} is a file");
        } else {
            tracing::info!("check: the target {path} is a device of {capacity} bytes");
        }
        Ok(())
    }
}

/// The failure of a copy whose temporary image another process has deleted, such as a pod that was cut off with its node and
/// tidies up when that is back.
fn vanished(id: &ImageId, why: impl error::Error + Send + Sync + 'static) -> Error {
    let text = format!(
        "the temporary image {id}, or its data, vanished while it was needed, as when another run of the same migration tidies up; \
         start the copy again"
    );
    Error::with_source(Kind::Lost, text, why)
}

/// Whether the target holds so many bytes; `what` has them.
fn must_fit(target: &Target, what: impl fmt::Display, bytes: u64) -> Result<(), Failure> {
    if bytes <= target.capacity() {
        return Ok(());
    }
    let text = too_small(target.path(), target.capacity(), what, bytes);
    Err(Failure::new(Exit::TargetTooSmall, text))
}

fn too_small(target: &Path, capacity: u64, what: impl fmt::Display, bytes: u64) -> String {
    format!(
        "the {what} has {bytes} bytes, but {} holds only {capacity}; request a claim, or give another target, of at least {bytes} bytes",
        target.display()
    )
}

/// The hash is what the data passes anyway, so `auto` and `full` are the same here, except that
/// `full` does not go without.
fn verification(verify: Verify, image: &Image) -> Result<Verification, Failure> {
    if verify == Verify::Off {
        return Ok(Verification::None);
    }
    match stated_hash(image) {
        Hash::Stated(digest) => Ok(Verification::Stated(digest)),
        Hash::Weaker(digest, why) => {
            tracing::warn!("{why}; its MD5 is verified instead");
            Ok(Verification::Stated(digest))
        }
        Hash::None(why) if verify == Verify::Full => Err(Failure::new(
            Exit::SourceUnusable,
            format!("{why}, so that --verify=full cannot be kept; use --verify=auto or off"),
        )),
        Hash::None(why) => {
            tracing::warn!("{why}, so that the copy cannot be verified against a hash");
            Ok(Verification::None)
        }
    }
}

/// Fails when the run is asked to stop.
async fn stoppable<T>(
    context: &Context,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        () = context.stop.asked() => Err(Failure::new(
            Exit::Terminated,
            "stopped before the copy began; nothing was written",
        )),
    }
}

fn warn(text: Option<String>) {
    if let Some(text) = text {
        tracing::warn!("{text}");
    }
}
