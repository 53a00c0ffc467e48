//! A launcher that answers each errand at once, as it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use airlock_policy::digest::{BlobDigest, Digest, TreeDigest};
use airlock_policy::errand::{
    Answer, Backing, BlockDevice, Envelope, Errand, Extracted, Failure, LEDGER, MESSAGE,
    NEW_LEDGER, Progress, Stage,
};
use airlock_policy::helper_config::PoolPart;
use airlock_policy::layout::LayoutFacts;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use super::client::layer;

/// The pool's devices: 1000 data blocks of 128 KiB.
pub(crate) const BACKING: Backing = Backing {
    data: BlockDevice { major: 7, minor: 0, sectors: 256_000 },
    metadata: BlockDevice { major: 7, minor: 1, sectors: 32_768 },
    fresh: true,
};

pub(crate) const LAYOUT: LayoutFacts =
    LayoutFacts { directories: 0b11, root_mode: 0o755, writable_directories: 0 };

/// The digest of every tree.
pub(crate) const TREE: TreeDigest = TreeDigest(Digest::from_bytes([7; 32]));

/// What the launcher does and has done.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Whether the pool's files exist.
    pub(crate) files: bool,
    /// Every errand, in order.
    pub(crate) seen: Vec<Errand>,
    /// What an extraction is answered with instead of what the blob says.
    pub(crate) extract: Option<Answer>,
    /// What a verification is answered with instead of what was asked for.
    pub(crate) verify: Option<Answer>,
    /// What the publishing of a link is answered with.
    pub(crate) publish: Option<Failure>,
    /// What mounting and unmounting are answered with.
    pub(crate) attach: Option<Failure>,
    /// What growing a filesystem is answered with.
    pub(crate) grow: Option<Failure>,
    /// What is mounted.
    pub(crate) mounts: BTreeSet<String>,
    /// Whether extractions wait until they are told to end.
    pub(crate) hold: bool,
    /// Whether they wait before they have even begun.
    pub(crate) mount_hangs: bool,
    /// Those that wait.
    pub(crate) held: Vec<(OwnedFd, Envelope)>,
    /// The links that there are, by the snapshot's name.
    pub(crate) links: BTreeMap<String, u32>,
    /// Where the ledger is.
    pub(crate) folder: Option<PathBuf>,
    /// The sizes that the backing files have.
    pub(crate) backing: Option<Backing>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Launcher(pub(crate) Arc<Mutex<State>>);

impl Launcher {
    /// Starts to serve one broker; returns the broker's end of the link.
    pub(crate) fn link(&self) -> OwnedFd {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        let state = Arc::clone(&self.0);
        thread::spawn(move || serve(&ours, &state));
        theirs
    }

    /// Ends the extractions that wait, as workers that were killed.
    pub(crate) fn end_held(&self) {
        let failed = Answer::Failed(Failure { stage: Stage::WorkerLate, errno: 0 });
        for (link, envelope) in self.0.lock().unwrap().held.drain(..) {
            assert!(reply(&link, &envelope, &failed));
        }
    }

    pub(crate) fn seen(&self) -> Vec<Errand> {
        self.0.lock().unwrap().seen.clone()
    }
}

fn serve(link: &OwnedFd, state: &Mutex<State>) {
    let mut buffer = [0; MESSAGE];
    while let Ok((_, MESSAGE)) = recv(link, &mut buffer[..], RecvFlags::empty()) {
        let (envelope, errand) = Errand::decode(&buffer).unwrap();
        if state.lock().unwrap().hold && matches!(errand, Errand::Extract { .. }) {
            state.lock().unwrap().held.push((link.try_clone().unwrap(), envelope.clone()));
        }
        let answers = answers(state, &errand);
        state.lock().unwrap().seen.push(errand);
        if !answers.iter().all(|answer| reply(link, &envelope, answer)) {
            return;
        }
    }
}

fn reply(link: &OwnedFd, envelope: &Envelope, answer: &Answer) -> bool {
    send(link, &answer.encode(envelope), SendFlags::NOSIGNAL).is_ok()
}

fn answers(state: &Mutex<State>, errand: &Errand) -> Vec<Answer> {
    let mut state = state.lock().unwrap();
    match errand {
        Errand::OpenPool { create } => {
            let fresh = !state.files && *create;
            state.files |= create;
            vec![Answer::Backing(Backing { fresh, ..state.backing.unwrap_or(BACKING) })]
        }
        Errand::GrowPool { part, bytes } => {
            let mut backing = Backing { fresh: false, ..state.backing.unwrap_or(BACKING) };
            let device = match part {
                PoolPart::Data => &mut backing.data,
                PoolPart::Metadata => &mut backing.metadata,
            };
            device.sectors = device.sectors.max(bytes / 512);
            state.backing = Some(backing);
            vec![Answer::Backing(backing)]
        }
        Errand::Extract { .. } | Errand::Verify { .. } if state.hold => {
            let begun = Answer::Progress(Progress::default());
            if state.mount_hangs { vec![] } else { vec![begun] }
        }
        Errand::Extract { blob, .. } => extraction(*blob, state.extract.clone()),
        Errand::Publish { .. } if state.publish.is_some() => {
            state.publish.map(Answer::Failed).into_iter().collect()
        }
        Errand::Publish { device, name } => {
            state.links.insert(name.to_string(), device.minor);
            vec![Answer::Done]
        }
        Errand::Unpublish { name } => {
            state.links.remove(name.as_str());
            vec![Answer::Done]
        }
        Errand::Mount { .. } | Errand::Unmount { .. } if state.attach.is_some() => {
            state.attach.map(Answer::Failed).into_iter().collect()
        }
        Errand::Mount { name, .. } => {
            state.mounts.insert(name.to_string());
            vec![Answer::Done]
        }
        Errand::Unmount { name, .. } => {
            state.mounts.remove(name.as_str());
            vec![Answer::Done]
        }
        Errand::Grow { .. } => vec![state.grow.map_or(Answer::Done, Answer::Failed)],
        Errand::Verify { tree, .. } => {
            let progress = Progress { blob_bytes: 5, tar_bytes: 0, entries: 3 };
            let last = state.verify.clone().unwrap_or(Answer::Verified { tree: *tree });
            vec![Answer::Progress(progress), last]
        }
        Errand::ExchangeLedger => exchange(state.folder.as_ref().unwrap()),
        Errand::CheckPool
        | Errand::Format { .. }
        | Errand::Cancel { .. }
        | Errand::Forget { .. } => vec![Answer::Done],
    }
}

/// The launcher's own way with the two files.
fn exchange(folder: &Path) -> Vec<Answer> {
    let (new, ledger) = (folder.join(NEW_LEDGER), folder.join(LEDGER));
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, new, rustix::fs::CWD, ledger, flags).unwrap();
    vec![Answer::Done]
}

/// Progress, and what the blob says, or something else.
fn extraction(blob: BlobDigest, instead: Option<Answer>) -> Vec<Answer> {
    let progress = Progress { blob_bytes: 5, tar_bytes: 10, entries: 3 };
    let (blob, diff_id) = (0..=u8::MAX).map(layer).find(|(known, _)| *known == blob).unwrap();
    let extracted =
        Extracted { blob, diff_id, progress, file_bytes: 7, layout: LAYOUT, tree: TREE };
    vec![Answer::Progress(progress), instead.unwrap_or(Answer::Extracted(extracted))]
}
