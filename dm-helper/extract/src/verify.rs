//! Reads a sealed volume again and says whether it is what was written: the first entry
//! that differs, or the digest of all (VOL-6).

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};

use airlock_policy::errand::{Answer, Failure, Progress, Stage};
use airlock_policy::told::chain;
use airlock_policy::tree::{Difference, ShownPath};
use airlock_policy::worker::{DEVICE, VERIFY, VerifyOrder};
use airlock_sys::inherited;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::content::Contents;
use crate::extract::NotReported;
use crate::log;
use crate::manifest::{self, Entry, Record};
use crate::mount::{self, Access};
use crate::report::Reports;
use crate::sandbox::{NotConfined, confine_verification};
use crate::tree::{self, Visit};
use crate::volume::DIRECTORY;

/// Does the whole job. What goes wrong in it is reported; an error is that it could not be.
pub(crate) fn run(order: &VerifyOrder) -> Result<(), NotReported> {
    let [reports, user_namespace, manifest] = VERIFY;
    let device = inherited::take(DEVICE)?;
    let mut reports = Reports::new(inherited::take(reports)?, order.envelope.clone());
    let user_namespace = inherited::take(user_namespace)?;
    let manifest = order.manifest.then(|| inherited::take(manifest)).transpose()?;
    let mount = match mount::detached(user_namespace.as_fd(), Access::ReadOnly) {
        Ok(mount) => mount,
        Err(failure) => return Ok(reports.end(&Answer::Failed(failure))?),
    };
    drop(device);
    reports.begun()?;
    if let Err(error) = confine_verification(order, &mount, user_namespace) {
        log(&format!("failed to {}", chain(&error)));
        reports.end(&failed(Stage::WorkerSandbox, NotConfined::errno(&error)))?;
        return Ok(());
    }
    // Not one byte of the volume was read before this line.
    let manifest = manifest.and_then(|manifest| believed(File::from(manifest), order));
    let answer = match verify(&mount, manifest, &mut reports) {
        Ok(answer) => answer,
        Err(End::Differs(what, path)) => Answer::Differs { what, path: ShownPath::of(&path) },
        Err(End::Volume(errno)) => failed(Stage::TreeRead, errno.raw_os_error()),
        Err(End::Report(error)) => return Err(error.into()),
    };
    Ok(reports.end(&answer)?)
}

/// The manifest, from its beginning, if it is what it was.
fn believed(mut file: File, order: &VerifyOrder) -> Option<BufReader<File>> {
    let is_whole = manifest::contents(&file, order.tree).is_ok_and(|contents| contents.is_some());
    if is_whole && file.rewind().is_ok() {
        return Some(BufReader::new(file));
    }
    log("the manifest of the volume is damaged: only its digest is compared");
    None
}

fn verify(
    mount: &OwnedFd,
    manifest: Option<BufReader<File>>,
    reports: &mut Reports,
) -> Result<Answer, End> {
    let root = rustix::fs::openat(mount, c".", DIRECTORY, Mode::empty())?;
    let mut compare = Compare { manifest, reports, progress: Progress::default() };
    // Nothing is known: every file is read.
    let tree = tree::walk(&root, Contents::default(), &mut compare)?;
    Ok(Answer::Verified { tree })
}

/// What a verification ends with before its end.
enum End {
    Differs(Difference, Vec<u8>),
    Volume(Errno),
    Report(io::Error),
}

impl From<Errno> for End {
    fn from(errno: Errno) -> Self {
        Self::Volume(errno)
    }
}

struct Compare<'r> {
    manifest: Option<BufReader<File>>,
    reports: &'r mut Reports,
    progress: Progress,
}

impl Compare<'_> {
    fn report(&mut self) -> Result<(), End> {
        let progress = self.progress;
        self.reports.progress(|| progress).map_err(End::Report)
    }
}

impl Visit for Compare<'_> {
    type End = End;

    fn record(&mut self, path: &[u8], now: &Record) -> Result<(), End> {
        self.progress.entries = self.progress.entries.saturating_add(1);
        self.report()?;
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        // It was read to its end a moment ago: what it does not say now, it never said.
        let was = Record::read(manifest).ok().flatten();
        let differs = |what: Difference, path: &[u8]| Err(End::Differs(what, path.to_vec()));
        match (now, was) {
            (Record::Up, Some(Record::Up)) => Ok(()),
            (Record::Up, Some(Record::Entry(was))) => {
                differs(Difference::Missing, &joined(path, &was.name))
            }
            (Record::Entry(now), Some(Record::Entry(was))) if now.name == was.name => {
                now.difference(&was).map_or(Ok(()), |what| differs(what, path))
            }
            (Record::Entry(now), Some(Record::Entry(was))) if now.name > was.name => {
                differs(Difference::Missing, &joined(parent(path, now), &was.name))
            }
            (Record::Entry(_) | Record::Up, _) => differs(Difference::Added, path),
        }
    }

    fn read(&mut self, bytes: u64) -> Result<(), End> {
        self.progress.blob_bytes = self.progress.blob_bytes.saturating_add(bytes);
        self.report()
    }
}

/// The path of the directory that an entry is in.
fn parent<'p>(path: &'p [u8], entry: &Entry) -> &'p [u8] {
    let end = path.len().saturating_sub(entry.name.len()).saturating_sub(1);
    path.get(..end).unwrap_or_default()
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

const fn failed(stage: Stage, errno: i32) -> Answer {
    Answer::Failed(Failure { stage, errno })
}
