//! What is done while a process ends: each phase with its work, what an operator does afterwards, and
//! what must be there then.

use std::path::Path;

use airlock_crash_points::{Page, Point};
use airlock_policy::digest::Digest;
use airlock_tests::helper_client::Client;
use serde_json::{Value, json};

use super::state::{Kept, left_behind, newest_run};
use super::until_done;
use crate::machine::{Ended, sh};
use crate::survey::controller;

const SOURCE: &str = "s3://images/crash/crash.tar";
const IMAGE: &str = "crash:crash";

/// A part of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// The services start, and the pool is made.
    Setup,
    /// A pull and an activation.
    Run,
    /// A deactivation and a removal.
    Remove,
    /// A snapshot is grown, mounted on the host, and taken away.
    Mount,
    /// A sealed volume is read again.
    Verify,
    /// The ledger grows until it is written anew.
    Compact,
}

impl Phase {
    pub(super) const ALL: [Self; 6] =
        [Self::Setup, Self::Run, Self::Remove, Self::Mount, Self::Verify, Self::Compact];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Run => "run",
            Self::Remove => "remove",
            Self::Mount => "mount",
            Self::Verify => "verify",
            Self::Compact => "compact",
        }
    }

    /// Whether a point is tried in this phase: while the ledger grows, only what no other phase does.
    pub(super) fn tries(self, point: Point) -> bool {
        self != Self::Compact || [Point::LedgerAnew, Point::LedgersExchanged].contains(&point)
    }

    /// Brings about what the work begins with.
    pub(super) fn prepare(self) {
        match self {
            Self::Setup => {
                sh("systemctl stop airlock.socket airlock.service airlock-dm-helper.socket airlock-dm-helper.service").ok();
                if Path::new("/var/lib/airlock-helper/data.img").exists() {
                    sh("/usr/libexec/airlock/airlock-dm-helper pool destroy --force").ok();
                }
                sh("find /var/lib/airlock -mindepth 1 -delete").ok();
            }
            Self::Remove => drop(sh(&format!("airlock run {SOURCE} --name web")).ok()),
            Self::Mount => Kept::activate(),
            Self::Run | Self::Verify | Self::Compact => {}
        }
    }

    /// Does the work. Whatever ends meanwhile, this comes to an end too.
    pub(super) fn act(self) -> Ended {
        match self {
            Self::Setup => sh(
                "systemctl start airlock-dm-helper.socket airlock.socket airlock.service; airlock pool setup",
            ),
            Self::Run => sh(&format!("airlock run {SOURCE} --name web")),
            Self::Remove => sh(&format!("airlock deactivate web; airlock rm {IMAGE}")),
            Self::Mount => sh(
                "airlock activate small:small --name mounted --mount --size 96MiB && airlock deactivate mounted",
            ),
            Self::Verify => sh("airlock verify small:small"),
            Self::Compact => churn(),
        }
    }

    /// What an operator does when all processes are there again; says how it went on.
    pub(super) fn finish(self, told: &Ended) -> Result<String, String> {
        let first = match told.code {
            Some(0) => "it went on by itself".to_owned(),
            _ => format!(
                "it said {:?}",
                told.err.lines().find(|line| line.contains('✗')).unwrap_or(&told.err)
            ),
        };
        match self {
            Self::Setup => drop(until_done("pool setup")?),
            Self::Run => {
                // Once it is on record a run comes to its end, whoever was killed.
                if let Some((id, state)) = newest_run(SOURCE)
                    && state != "done"
                {
                    return Err(format!("{first}; run {id} ended as {state}"));
                }
                until_done(&format!("run {SOURCE} --name web"))?;
                until_done(&format!("verify {IMAGE}"))?;
            }
            Self::Remove => {
                until_done("deactivate web --if-exists")?;
                until_done(&format!("rm {IMAGE} --if-exists"))?;
            }
            Self::Mount => {
                until_done("activate small:small --name mounted --mount --size 96MiB")?;
                until_done("deactivate mounted")?;
            }
            // Nobody asks again: what is left must go by itself.
            Self::Verify | Self::Compact => {}
        }
        Ok(first)
    }

    /// What is there and should not be, once the work is done.
    pub(super) fn left(self, kept: Option<&Kept>) -> Vec<String> {
        match self {
            Self::Setup => left_behind(None, false),
            Self::Run => left_behind(kept, true),
            Self::Remove | Self::Mount | Self::Verify | Self::Compact => left_behind(kept, false),
        }
    }

    /// Takes away what the work has brought about.
    pub(super) fn undo(self) {
        if self == Self::Run {
            sh(&format!("airlock deactivate web && airlock rm {IMAGE}")).ok();
        }
    }
}

/// Makes volumes and deletes them, as the daemon would, until the ledger is written anew.
fn churn() -> Ended {
    let talk = || -> std::io::Result<()> {
        let mut client = Client::connect(controller())?;
        for number in 0..400_u32 {
            let volume = Digest::of(&number.to_le_bytes()).to_string();
            let made = client.ask("CreateVolume", json!({"volume": volume, "parent": null}))?;
            require_ok(&made)?;
            let gone = client.ask("DeleteVolume", json!({"target": {"volume": volume}}))?;
            require_ok(&gone)?;
            if Page::of_this_process().is_some_and(|page| page.passed(Point::LedgersExchanged) > 0)
            {
                break;
            }
        }
        Ok(())
    };
    match talk() {
        Ok(()) => Ended { out: String::new(), err: String::new(), code: Some(0) },
        Err(error) => Ended { out: String::new(), err: error.to_string(), code: Some(1) },
    }
}

fn require_ok(answer: &Value) -> std::io::Result<()> {
    if answer.get("Ok").is_some() { Ok(()) } else { Err(std::io::Error::other(answer.to_string())) }
}
