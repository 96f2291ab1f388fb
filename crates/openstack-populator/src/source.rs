//! The source's arguments.

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
};

use clap::{ArgGroup, Args};
use contract::{Exit, args::flag};
use mover::Failure;

use crate::{
    cinder::{MarkId, Place, PlaceId},
    glance::ImageId,
};

/// Which disk, and how it is taken.
#[derive(Debug, Clone, Args)]
#[command(
    next_help_heading = "Source",
    group = ArgGroup::new("disk").required(true).args(["image_id", "volume_id", "snapshot_id"])
)]
pub struct SourceArguments {
    /// Identity (Keystone) URL, with or without /v3; without it, the one of the credentials
    #[arg(long = flag::ENDPOINT, value_name = "URL")]
    pub endpoint: Option<String>,

    /// Log in as this cloud of clouds.yaml says
    #[arg(long = flag::OS_CLOUD, value_name = "NAME")]
    pub os_cloud: Option<String>,

    /// UUID of the Glance image
    #[arg(long = flag::IMAGE_ID, value_name = "UUID")]
    pub image_id: Option<ImageId>,

    /// UUID of the Cinder volume; it is copied by way of a temporary image, of a snapshot when it is in use
    #[arg(long = flag::VOLUME_ID, value_name = "UUID")]
    pub volume_id: Option<PlaceId>,

    /// UUID of the snapshot of a Cinder volume; it is copied by way of a temporary volume and image
    #[arg(long = flag::SNAPSHOT_ID, value_name = "UUID")]
    pub snapshot_id: Option<PlaceId>,

    /// What marks the temporary objects, beside the claim's UID: a run with the same one takes them over or
    /// removes them. The disk's UUID when a controller gives the claim's UID, else a random number
    #[arg(long = flag::MIGRATION_ID, value_name = "ID")]
    pub migration_id: Option<MarkId>,

    /// Which request of the migration this run serves: it takes over what runs with the same one made, and removes
    /// what others made, since it may hold an old state of the disk
    #[arg(long = flag::REQUEST_ID, value_name = "ID")]
    pub request_id: Option<MarkId>,

    /// Remove the temporary objects that earlier runs of the same migration left in the cloud, and copy nothing
    #[arg(long = flag::CLEANUP)]
    pub cleanup: bool,

    /// Write the image's bytes as they are, whatever their format; without it, the disk of a qcow2, vmdk,
    /// vdi, vhd or vhdx image is written, and any other image that is not raw is refused, except when a
    /// controller that does not pass this flag started the process
    #[arg(long = flag::VERBATIM, value_name = "true|false", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub verbatim: Option<bool>,

    /// Download an image into a temporary file in this folder first: one that is not raw, in a store without ranges, or
    /// one that is compressed as a whole; without this flag they are read in one pass. With --verify=full, any that is
    /// not raw
    #[arg(long = flag::SCRATCH_DIR, value_name = "DIR")]
    pub scratch_dir: Option<PathBuf>,
}

/// The one disk that the arguments name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// An image of Glance.
    Image(ImageId),
    /// An object of Cinder.
    Place(Place),
}

impl SourceArguments {
    /// The disk.
    ///
    /// # Errors
    /// [`Exit::Usage`] unless exactly one is named; the parser sees to that.
    pub(crate) fn choice(&self) -> Result<Choice, Failure> {
        match (&self.image_id, &self.volume_id, &self.snapshot_id) {
            (Some(id), None, None) => Ok(Choice::Image(id.clone())),
            (None, Some(id), None) => Ok(Choice::Place(Place::Volume(id.clone()))),
            (None, None, Some(id)) => Ok(Choice::Place(Place::Snapshot(id.clone()))),
            _ => Err(usage(format!(
                "exactly one of --{}, --{} and --{} is needed",
                flag::IMAGE_ID,
                flag::VOLUME_ID,
                flag::SNAPSHOT_ID
            ))),
        }
    }

    /// What marks the temporary objects. Every attempt for a claim has the claim's UID and the disk in common.
    ///
    /// # Errors
    /// [`Exit::Usage`] when a run without either is to remove what others have made.
    pub(crate) fn migration(&self, claim: &str) -> Result<MarkId, Failure> {
        if let Some(id) = &self.migration_id {
            return Ok(id.clone());
        }
        let text = if !claim.is_empty() {
            match self.choice()? {
                Choice::Image(id) => id.to_string(),
                Choice::Place(Place::Volume(id) | Place::Snapshot(id)) => id.to_string(),
            }
        } else if self.cleanup {
            return Err(usage(format!(
                "--{} needs --{}, which the log of the run that is to be cleaned up names at the end of the objects' name, or --{}",
                flag::CLEANUP,
                flag::MIGRATION_ID,
                flag::OWNER_UID
            )));
        } else {
            let random = || RandomState::new().hash_one(());
            format!("{:016x}{:016x}", random(), random())
        };
        text.parse().map_err(|why| {
            usage(format!(
                "the disk's id cannot mark a migration ({why}); give one by --{}",
                flag::MIGRATION_ID
            ))
        })
    }
}

fn usage(text: String) -> Failure {
    Failure::new(Exit::Usage, text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        source: SourceArguments,
    }

    const ID: &str = "9df0a5f6-5a70-4bd7-8e5d-2e2a2e7b1c11";

    fn parse(flags: &[&str]) -> Result<SourceArguments, clap::Error> {
        let all = [&["x", "--endpoint=http://k"], flags].concat();
        Cli::try_parse_from(all).map(|cli| cli.source)
    }

    #[test]
    fn exactly_one_disk_is_named() {
        let [image, volume, snapshot] =
            ["image", "volume", "snapshot"].map(|what| format!("--{what}-id={ID}"));
        for one in [&image, &volume, &snapshot] {
            assert!(parse(&[one]).unwrap().choice().is_ok());
        }
        for several in [vec![], vec![&*image, &volume], vec![&volume, &snapshot]] {
            let error = parse(&several).unwrap_err().to_string();
            assert!(
                error.contains("--volume-id") || error.contains("--image-id"),
                "{error}"
            );
        }
    }

    #[test]
    fn all_attempts_for_a_claim_have_one_migration_and_others_have_their_own() {
        let volume = format!("--volume-id={ID}");
        let arguments = parse(&[&volume]).unwrap();
        assert_eq!(arguments.migration("u-1").unwrap().to_string(), ID);
        assert_ne!(
            arguments.migration("").unwrap(),
            arguments.migration("").unwrap()
        );
        let named = parse(&[&volume, "--migration-id=m"]).unwrap();
        assert_eq!(
            named.migration("").unwrap(),
            named.migration("u-1").unwrap()
        );
        let cleaner = parse(&[&volume, "--cleanup"]).unwrap();
        assert!(cleaner.migration("u-1").is_ok());
        let failure = cleaner.migration("").unwrap_err();
        assert!(failure.message().contains("--migration-id"), "{failure}");
    }
}
