//! Reasons: the state of a claim in one word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Reason of the condition `Progressing` while no claim is on its way.
pub const NONE_PROGRESSING: &str = "NoneProgressing";
/// Reason of the condition `Failed` while no claim has failed.
pub const NONE_FAILED: &str = "NoneFailed";

/// Reasons of claims, and so of conditions: a closed list, for people and for alerts.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No claim refers to the resource.
    NoClaim,
    /// The populator resource that the claim refers to does not exist, or is being deleted.
    ResourceMissing,
    /// The claim's storage class does not exist, or there is none and no default.
    StorageClassMissing,
    /// The storage class waits for a consumer.
    WaitingForConsumer,
    /// The claim waits for a slot: the source, or the whole controller, serves as many claims as
    /// its limit allows.
    Throttled,
    /// The claim holds the disk that the resource named before, and not the one that it names now.
    SourceChanged,
    /// An object that is in the way is being deleted.
    Clearing,
    /// The claim is being deleted.
    Terminating,

    /// The temporary claim has no volume yet.
    Provisioning,
    /// The pod has not started yet.
    PodPending,
    /// The pod has not started for so long that the user or an administrator should look for the
    /// cause.
    PodStuck,
    /// Bytes are moving.
    Copying,
    /// The last attempt failed in a way that may pass; it is retried.
    Retrying,
    /// The pod's node does not answer.
    NodeLost,
    /// The volume is being bound to the claim.
    Rebinding,

    /// The claim is populated and bound.
    Populated,

    /// The claim cannot be populated, since it asks for a volume by name or by a selector.
    ClaimUnsupported,
    /// The storage class has no provisioner that creates empty volumes on request.
    StorageClassUnsupported,
    /// The controller does not serve this kind.
    KindUnsupported,
    /// The claim refers to another namespace, and nothing there grants it.
    ReferenceNotGranted,
    /// The populator resource cannot be read.
    ResourceInvalid,
    /// An object with the name of the pod or the temporary claim belongs to another owner.
    NameTaken,
    /// Another controller or an administrator bound the claim, or the populated volume.
    BoundElsewhere,
    /// The volume disappeared.
    VolumeLost,
    /// The volume can be reached only from a node that no longer exists.
    NodeGone,

    /// A secret key or a setting is missing or malformed.
    InvalidConfiguration,
    /// The source refuses the credentials.
    CredentialsRefused,
    /// The credentials do not permit this disk or image.
    PermissionDenied,
    /// The disk or the image does not exist.
    SourceMissing,
    /// The disk or the image cannot be copied as it is.
    SourceUnusable,
    /// The source answered outside its protocol, or changed while it was read.
    SourceProtocolError,
    /// The bytes arrived, but their hash is not the one that the source states.
    HashMismatch,
    /// The certificate of the source is not trusted.
    CertificateNotTrusted,
    /// The volume is smaller than the disk.
    VolumeTooSmall,
    /// The volume may not be opened or written.
    VolumeDenied,
    /// The volume's file system is full.
    VolumeFull,
    /// Writing to the volume failed.
    VolumeIoError,
    /// The copy has not started within the time that the installation sets.
    StartDeadlineExceeded,
    /// Every attempt failed in a way that may pass, and there are no more attempts.
    RetriesExhausted,
}

/// What a [`Reason`] means for the claim. The class decides the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonClass {
    /// Nothing happens until the user or an administrator acts.
    Failed,
    /// Nothing is wrong, and the controller waits for something else to happen first.
    Waiting,
    /// Work is under way.
    Progressing,
    /// The claim is populated and bound.
    Done,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 39] = [
        Self::NoClaim,
        Self::ResourceMissing,
        Self::StorageClassMissing,
        Self::WaitingForConsumer,
        Self::Throttled,
        Self::SourceChanged,
        Self::Clearing,
        Self::Terminating,
        Self::Provisioning,
        Self::PodPending,
        Self::PodStuck,
        Self::Copying,
        Self::Retrying,
        Self::NodeLost,
        Self::Rebinding,
        Self::Populated,
        Self::ClaimUnsupported,
        Self::StorageClassUnsupported,
        Self::KindUnsupported,
        Self::ReferenceNotGranted,
        Self::ResourceInvalid,
        Self::NameTaken,
        Self::BoundElsewhere,
        Self::VolumeLost,
        Self::NodeGone,
        Self::InvalidConfiguration,
        Self::CredentialsRefused,
        Self::PermissionDenied,
        Self::SourceMissing,
        Self::SourceUnusable,
        Self::SourceProtocolError,
        Self::HashMismatch,
        Self::CertificateNotTrusted,
        Self::VolumeTooSmall,
        Self::VolumeDenied,
        Self::VolumeFull,
        Self::VolumeIoError,
        Self::StartDeadlineExceeded,
        Self::RetriesExhausted,
    ];

    /// The class of the reason.
    #[must_use]
    pub const fn class(self) -> ReasonClass {
        match self {
            Self::NoClaim
            | Self::ResourceMissing
            | Self::StorageClassMissing
            | Self::WaitingForConsumer
            | Self::Throttled
            | Self::SourceChanged
            | Self::Clearing
            | Self::Terminating => ReasonClass::Waiting,
            Self::Provisioning
            | Self::PodPending
            | Self::PodStuck
            | Self::Copying
            | Self::Retrying
            | Self::NodeLost
            | Self::Rebinding => ReasonClass::Progressing,
            Self::Populated => ReasonClass::Done,
            Self::ClaimUnsupported
            | Self::StorageClassUnsupported
            | Self::KindUnsupported
            | Self::ReferenceNotGranted
            | Self::ResourceInvalid
            | Self::NameTaken
            | Self::BoundElsewhere
            | Self::VolumeLost
            | Self::NodeGone
            | Self::InvalidConfiguration
            | Self::CredentialsRefused
            | Self::PermissionDenied
            | Self::SourceMissing
            | Self::SourceUnusable
            | Self::SourceProtocolError
            | Self::HashMismatch
            | Self::CertificateNotTrusted
            | Self::VolumeTooSmall
            | Self::VolumeDenied
            | Self::VolumeFull
            | Self::VolumeIoError
            | Self::StartDeadlineExceeded
            | Self::RetriesExhausted => ReasonClass::Failed,
        }
    }
}

/// The word that the API uses, as serde writes it.
impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_those_of_the_api_and_valid_reasons() {
        for reason in Reason::ALL {
            let word = reason.to_string();
            assert_eq!(serde_json::to_value(reason).unwrap(), word);
            assert!(word.chars().all(|c| c.is_ascii_alphabetic()), "{word}");
        }
    }

    #[test]
    fn the_list_is_complete() {
        let all: BTreeSet<Reason> = Reason::ALL.into_iter().collect();
        assert_eq!(all.len(), Reason::ALL.len());
        assert_eq!(all.first(), Some(&Reason::NoClaim));
        // The last variant; with none twice, its number says that none is missing.
        assert_eq!(Reason::RetriesExhausted as usize + 1, Reason::ALL.len());
    }
}
