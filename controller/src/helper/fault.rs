//! What the helper's answers mean to people: class, words and the next command.

use airlock_protocol::control::{ErrorClass, Fault};
use airlock_protocol::not_done::{NotDone, Refusal};

use super::HelperFault;
use crate::fault::{Explain as _, fault};

impl HelperFault {
    /// The fault as people are told it; `what` is what was being done, as a clause that follows
    /// "failed to".
    pub fn fault(&self, what: &str) -> Fault {
        let message = format!("failed to {what}");
        match self {
            Self::Down { .. } | Self::Lost { .. } => {
                fault(ErrorClass::Unavailable, "helper.down", "the helper does not answer")
                    .fact("while", what)
                    .because(self)
                    .next("systemctl start airlock-dm-helper")
                    .next("journalctl -u airlock-dm-helper")
            }
            Self::Late { .. } => fault(ErrorClass::Unavailable, "helper.late", message)
                .because(self)
                .next("journalctl -u airlock-dm-helper"),
            Self::Protocol { .. } => fault(ErrorClass::Unavailable, "helper.protocol", message)
                .because(self)
                .next("systemctl restart airlock-dm-helper airlock"),
            Self::NotDone { source, .. } => not_done(source, message).because(self),
        }
    }
}

fn not_done(not_done: &NotDone, message: String) -> Fault {
    match not_done {
        NotDone::Failed(_) => fault(ErrorClass::Unavailable, "helper.failed", message)
            .next("journalctl -u airlock-dm-helper"),
        NotDone::Late(_) => fault(ErrorClass::Timeout, "device.late", message)
            .next("airlock doctor")
            .next("journalctl -u airlock-dm-helper"),
        NotDone::Stopping => fault(ErrorClass::Unavailable, "helper.stopping", message)
            .next("systemctl start airlock-dm-helper"),
        NotDone::Refused(refusal) => {
            let mut refused = fault(class(*refusal), refusal.code(), message);
            if let Refusal::Layer { rule, entry } = refusal {
                refused = refused.fact("rule", rule.to_string());
                if let Some(entry) = entry {
                    refused = refused.fact("entry", format!("number {entry}"));
                }
            }
            if let Refusal::Layout(rule) = refusal {
                refused = refused.fact("rule", rule.to_string());
            }
            remedies(*refusal).iter().fold(refused, |refused, command| refused.next(*command))
        }
    }
}

/// What kind of error a refusal is.
fn class(refusal: Refusal) -> ErrorClass {
    match refusal {
        Refusal::ProtocolVersion
        | Refusal::PoolDown
        | Refusal::PoolAbsent
        | Refusal::PoolUnhealthy
        | Refusal::PoolFull
        | Refusal::TooManyVolumes
        | Refusal::TooMuchVirtual
        | Refusal::TooFast { .. }
        | Refusal::TooManyLayers => ErrorClass::Unavailable,
        Refusal::LateDevice | Refusal::Quarantined => ErrorClass::Timeout,
        Refusal::PoolConflict
        | Refusal::OtherParent
        | Refusal::ParentNotSealed
        | Refusal::VolumeSealed
        | Refusal::NotFilled
        | Refusal::NotSealed
        | Refusal::NoTree
        | Refusal::OtherLayer
        | Refusal::OtherSnapshot
        | Refusal::HandedOut
        | Refusal::Mounted
        | Refusal::NotGrown => ErrorClass::Conflict,
        Refusal::NoSuchVolume | Refusal::NoSuchSnapshot | Refusal::BlobAbsent => {
            ErrorClass::NotFound
        }
        Refusal::Mapped | Refusal::Held | Refusal::HasChildren | Refusal::TooManyChecks => {
            ErrorClass::Busy
        }
        Refusal::VolumeFull
        | Refusal::BlobDigest
        | Refusal::LayerDigest
        | Refusal::ChainDigest
        | Refusal::PoolLimit
        | Refusal::PoolDevices
        | Refusal::SnapshotSize
        | Refusal::Layer { .. }
        | Refusal::Layout(_) => ErrorClass::Refused,
    }
}

/// What helps against a refusal.
fn remedies(refusal: Refusal) -> &'static [&'static str] {
    match refusal {
        Refusal::ProtocolVersion => &["systemctl restart airlock-dm-helper airlock"],
        Refusal::PoolAbsent | Refusal::PoolDevices => &["airlock pool setup"],
        Refusal::PoolDown | Refusal::PoolConflict | Refusal::PoolUnhealthy => {
            &["airlock pool status", "airlock doctor"]
        }
        Refusal::PoolLimit => &["airlock pool status"],
        Refusal::PoolFull => {
            &["airlock pool status", "airlock pool extend --data SIZE", "airlock rm IMAGE"]
        }
        Refusal::TooManyVolumes | Refusal::TooMuchVirtual => {
            &["airlock images", "airlock rm IMAGE"]
        }
        Refusal::NoSuchVolume | Refusal::BlobAbsent | Refusal::BlobDigest => {
            &["airlock pull SOURCE"]
        }
        Refusal::Held
        | Refusal::Mapped
        | Refusal::NoSuchSnapshot
        | Refusal::OtherSnapshot
        | Refusal::HandedOut
        | Refusal::Mounted
        | Refusal::NotGrown => &["airlock snapshots"],
        Refusal::HasChildren => &["airlock images"],
        Refusal::NoTree => &["airlock rm IMAGE", "airlock pull SOURCE"],
        Refusal::LateDevice | Refusal::Quarantined => {
            &["airlock doctor", "journalctl -u airlock-dm-helper"]
        }
        Refusal::VolumeFull
        | Refusal::TooManyLayers
        | Refusal::TooFast { .. }
        | Refusal::TooManyChecks
        | Refusal::OtherParent
        | Refusal::ParentNotSealed
        | Refusal::VolumeSealed
        | Refusal::NotFilled
        | Refusal::NotSealed
        | Refusal::OtherLayer
        | Refusal::SnapshotSize
        | Refusal::LayerDigest
        | Refusal::ChainDigest
        | Refusal::Layer { .. }
        | Refusal::Layout(_) => &[],
    }
}
