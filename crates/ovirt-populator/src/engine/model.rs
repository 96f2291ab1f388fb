//! What the engine says of disks and image transfers, parsed into types.
//!
//! In the engine's JSON every scalar is a string (`"active": "false"`); numbers and booleans are
//! accepted as well. Unknown keys are ignored and unknown words kept, so that a newer engine is
//! understood.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};
use transfer::source::Ticket;
use url::Url;

use super::{Error, Kind};

/// UUID of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskId(String);

impl DiskId {
    /// Its text, lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DiskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let groups = text.split('-').map(str::len);
        let hex = text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit());
        if !hex || !groups.eq([8, 4, 4, 4, 12]) {
            return Err(Error::new(
                Kind::Configuration,
                format!(
                    "{} is not the UUID of a disk (8-4-4-4-12 hexadecimal digits)",
                    net::quoted(text)
                ),
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// What the engine states of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its alias, for people.
    pub name: String,
    /// Virtual size in bytes.
    pub size: u64,
    /// Whether it is free, locked or illegal.
    pub status: DiskStatus,
    /// `image`, `lun`, `cinder` or `managed_block_storage`.
    pub storage_type: String,
    /// `data` for a virtual machine's disk; `DiskContentType` of the API has the other words.
    pub content_type: String,
}

impl Disk {
    /// Whether the engine can give this disk through imageio at all, and whether it is one.
    ///
    /// # Errors
    /// [`Kind::Unusable`]: an illegal disk, one that is not an image on a storage domain, one that holds
    /// what the engine keeps for itself, or one without data.
    pub fn ensure_transferable(&self) -> Result<(), Error> {
        let why = if self.storage_type != "image" {
            format!(
                "is of storage type {} and has no image that the engine could transfer; only disks of \
                 type \"image\" can be copied this way",
                net::quoted(&self.storage_type)
            )
        } else if let Some(what) = self.engines_own() {
            format!(
                "holds {what} (content type {}) and no disk of a virtual machine; check the id",
                self.content_type
            )
        } else if self.status == DiskStatus::Illegal {
            "is in status illegal; repair or remove it in oVirt first".to_owned()
        } else if self.size == 0 {
            "holds no data: its provisioned size is 0 bytes, and there is nothing to copy; check the id, \
             and look in oVirt for the disk that holds the virtual machine's data"
                .to_owned()
        } else {
            return Ok(());
        };
        let text = format!("the disk {} {why}", net::quoted(&self.name));
        Err(Error::new(Kind::Unusable, text))
    }

    /// What the engine keeps on this disk for itself. No virtual machine can have such a disk
    /// (`DiskOperationsValidator` of the engine, `AttachDiskToVm`), so the id is a mistake. An ISO
    /// image may be wanted, and the disk of the hosted engine's own machine is a disk.
    fn engines_own(&self) -> Option<&'static str> {
        match self.content_type.as_str() {
            "ovf_store" => Some("descriptions of virtual machines"),
            "memory_dump_volume" | "memory_metadata_volume" => Some("the memory of a snapshot"),
            "backup_scratch" => Some("the scratch data of a back-up"),
            "hosted_engine_configuration" | "hosted_engine_metadata" | "hosted_engine_sanlock" => {
                Some("the state of the hosted engine")
            }
            _ => None,
        }
    }
}

/// State of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskStatus {
    /// No operation holds it.
    Ok,
    /// An operation, such as an image transfer, holds it.
    Locked,
    /// An operation has failed and left it unusable.
    Illegal,
    /// A status that this version does not know.
    Other(String),
}

/// State of an image transfer (`ImageTransferPhase` of the engine, in lower case).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The engine does not know.
    Unknown,
    /// The ticket is being made.
    Initializing,
    /// Data can be read.
    Transferring,
    /// On the way back from a pause.
    Resuming,
    /// Paused by the engine.
    PausedSystem,
    /// Paused by a user.
    PausedUser,
    /// Cancelled by the engine.
    CancelledSystem,
    /// Cancelled by a client (older engines: `cancelled`).
    CancelledUser,
    /// Being ended after success.
    FinalizingSuccess,
    /// Being ended after a failure.
    FinalizingFailure,
    /// Being ended after a cancellation.
    FinalizingCleanup,
    /// Ended well; the disk is unlocked.
    FinishedSuccess,
    /// Ended; the disk is unlocked.
    FinishedFailure,
    /// Cancelled and tidied up.
    FinishedCleanup,
    /// A word that is new to us.
    Other(String),
}

impl Phase {
    /// Whether the transfer is over and holds no lock any more.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        matches!(
            self,
            Self::FinishedSuccess | Self::FinishedFailure | Self::FinishedCleanup
        )
    }

    fn parse(word: &str) -> Self {
        match word {
            "unknown" => Self::Unknown,
            "initializing" => Self::Initializing,
            "transferring" => Self::Transferring,
            "resuming" => Self::Resuming,
            "paused_system" => Self::PausedSystem,
            "paused_user" => Self::PausedUser,
            "cancelled_system" => Self::CancelledSystem,
            "cancelled_user" | "cancelled" => Self::CancelledUser,
            "finalizing_success" => Self::FinalizingSuccess,
            "finalizing_failure" => Self::FinalizingFailure,
            "finalizing_cleanup" => Self::FinalizingCleanup,
            "finished_success" => Self::FinishedSuccess,
            "finished_failure" => Self::FinishedFailure,
            "finished_cleanup" => Self::FinishedCleanup,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Initializing => "initializing",
            Self::Transferring => "transferring",
            Self::Resuming => "resuming",
            Self::PausedSystem => "paused_system",
            Self::PausedUser => "paused_user",
            Self::CancelledSystem => "cancelled_system",
            Self::CancelledUser => "cancelled_user",
            Self::FinalizingSuccess => "finalizing_success",
            Self::FinalizingFailure => "finalizing_failure",
            Self::FinalizingCleanup => "finalizing_cleanup",
            Self::FinishedSuccess => "finished_success",
            Self::FinishedFailure => "finished_failure",
            Self::FinishedCleanup => "finished_cleanup",
            Self::Other(word) => word,
        })
    }
}

/// Id of an image transfer. Not a credential: only the ticket in its URLs is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TransferId(pub String);

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the engine states of an image transfer.
#[derive(Debug, Clone)]
pub struct ImageTransfer {
    /// Id of the transfer, which names it in paths.
    pub id: TransferId,
    /// Phase that the engine last reported.
    pub phase: Phase,
    /// Id of the disk, where the engine states it.
    pub disk: Option<String>,
    /// `download` or `upload`.
    pub direction: Option<String>,
    /// `raw` or `cow`.
    pub format: Option<String>,
    /// `cancel`, `pause` or `legacy`.
    pub timeout_policy: Option<String>,
    /// Seconds without a read after which the engine ends it.
    pub inactivity_timeout: Option<u64>,
    /// URL at the host's daemon; absent until the engine has made the ticket.
    pub transfer_url: Option<Ticket>,
    /// URL of the same ticket at the proxy on the engine's machine.
    pub proxy_url: Option<Ticket>,
}

/// A request for an image transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// Disk to download.
    pub disk: DiskId,
    /// Seconds without a read after which the engine ends it; never 0, which makes the daemon's
    /// connections unusable.
    pub inactivity_timeout: u64,
}

/// Parses the answer to a disk look-up.
pub(super) fn disk(body: &[u8]) -> Result<Disk, Error> {
    let wire: WireDisk = parse(body, "disk")?;
    // Engines before 4 leave it out for images.
    let storage_type = wire.storage_type.map_or("image".to_owned(), |word| word.0);
    let size = match number(wire.provisioned_size.as_ref(), "provisioned_size")? {
        Some(size) => size,
        // A LUN has its size elsewhere, and is refused by its type.
        None if storage_type != "image" => 0,
        None => {
            return Err(Error::new(
                Kind::Protocol,
                "the engine's description of the disk has no provisioned_size",
            ));
        }
    };
    Ok(Disk {
        name: wire.alias.or(wire.name).unwrap_or_default().0,
        size,
        status: match wire.status.unwrap_or_default().0.as_str() {
            "ok" | "" => DiskStatus::Ok,
            "locked" => DiskStatus::Locked,
            "illegal" => DiskStatus::Illegal,
            other => DiskStatus::Other(other.to_owned()),
        },
        storage_type,
        // Engines before 4.2 have no such word.
        content_type: wire.content_type.map_or("data".to_owned(), |word| word.0),
    })
}

/// Parses one image transfer.
pub(super) fn transfer(body: &[u8]) -> Result<ImageTransfer, Error> {
    parse::<WireTransfer>(body, "image transfer")?.try_into()
}

/// Parses the list of image transfers.
pub(super) fn transfers(body: &[u8]) -> Result<Vec<ImageTransfer>, Error> {
    // One that is not understood is another client's: ours are in the form that a POST gives.
    let listed = parse::<WireTransfers>(body, "list of image transfers")?.image_transfer;
    let understood = listed.into_iter().filter_map(|transfer| {
        let wire: WireTransfer = serde_json::from_value(transfer).ok()?;
        wire.try_into().ok()
    });
    Ok(understood.collect())
}

/// Any JSON scalar, as its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scalar(pub(super) String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or a boolean")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar(truth.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Deserialize)]
struct WireDisk {
    alias: Option<Scalar>,
    name: Option<Scalar>,
    provisioned_size: Option<Scalar>,
    status: Option<Scalar>,
    storage_type: Option<Scalar>,
    content_type: Option<Scalar>,
}

#[derive(Deserialize)]
struct WireTransfers {
    #[serde(default)]
    image_transfer: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct WireTransfer {
    id: Scalar,
    phase: Option<Scalar>,
    disk: Option<Reference>,
    image: Option<Reference>,
    direction: Option<Scalar>,
    format: Option<Scalar>,
    timeout_policy: Option<Scalar>,
    inactivity_timeout: Option<Scalar>,
    transfer_url: Option<Scalar>,
    proxy_url: Option<Scalar>,
}

#[derive(Deserialize)]
struct Reference {
    id: Option<Scalar>,
}

impl TryFrom<WireTransfer> for ImageTransfer {
    type Error = Error;

    fn try_from(wire: WireTransfer) -> Result<Self, Error> {
        let words = |scalar: Option<Scalar>| scalar.map(|scalar| scalar.0);
        let disk = wire.disk.and_then(|disk| disk.id);
        let image = wire.image.and_then(|image| image.id);
        Ok(Self {
            id: TransferId(wire.id.0),
            phase: Phase::parse(&wire.phase.unwrap_or_default().0),
            disk: words(disk.or(image)).map(|id| id.to_ascii_lowercase()),
            direction: words(wire.direction),
            format: words(wire.format),
            timeout_policy: words(wire.timeout_policy),
            inactivity_timeout: number(wire.inactivity_timeout.as_ref(), "inactivity_timeout")?,
            transfer_url: ticket(wire.transfer_url.as_ref(), "transfer_url", Ticket::new)?,
            proxy_url: ticket(wire.proxy_url.as_ref(), "proxy_url", Ticket::proxied)?,
        })
    }
}

fn parse<'de, T: Deserialize<'de>>(body: &'de [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| {
        // serde's text may quote the body, and with it a ticket: only the place is passed on.
        Error::new(
            Kind::Protocol,
            format!(
                "the engine's {what} is not the JSON expected (line {}, column {})",
                error.line(),
                error.column()
            ),
        )
    })
}

fn number(scalar: Option<&Scalar>, field: &str) -> Result<Option<u64>, Error> {
    let Some(Scalar(text)) = scalar else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| {
        Error::new(
            Kind::Protocol,
            format!(
                "the engine's {field} is {}, not a number of at most 64 bits",
                net::quoted(text)
            ),
        )
    })
}

fn ticket(
    scalar: Option<&Scalar>,
    field: &str,
    make: fn(Url) -> Ticket,
) -> Result<Option<Ticket>, Error> {
    let Some(Scalar(text)) = scalar.filter(|scalar| !scalar.0.is_empty()) else {
        return Ok(None);
    };
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => {
            Ok(Some(make(url)))
        }
        _ => Err(Error::new(
            Kind::Protocol,
            format!("the engine's {field} is not an http(s) URL"),
        )),
    }
}
