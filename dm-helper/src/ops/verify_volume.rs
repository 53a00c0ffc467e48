//! `verify_volume`: reads a sealed volume again and compares it with what was written.
//!
//! As with an extraction, the privileged thread starts it and goes on with other work.

use std::time::Instant;

use airlock_policy::digest::{ChainId, TreeDigest};
use airlock_policy::errand::{Answer, Errand, Progress};
use airlock_policy::name::ThinId;
use airlock_policy::tree::{Difference, ShownPath};
use airlock_protocol::not_done::{NotDone, Refusal};
use airlock_protocol::reply::{VerifyProgress, VerifyState};
use airlock_protocol::request::VerifyVolume;
use tokio::sync::watch;

use crate::audit::{self, Asked, Verdict};
use crate::dm::Access;
use crate::helper::{Helper, unexpected};
use crate::long::Waits;
use crate::ops::Request as _;
use crate::permit::{Operation, Permit, refuse};
use crate::verification::{News, Verifying};

/// Verifications at the same time: each reads a whole volume.
const MOST: usize = 1;

impl Operation for VerifyVolume {
    type Reply = Verifying;

    /// Polls are not logged; the end of a verification is, when it comes.
    fn verdict(result: &Result<Verifying, NotDone>) -> Verdict {
        match result {
            Ok(Verifying::Begun(_)) => Verdict::Begun,
            Ok(Verifying::Joined(_)) => Verdict::Polled,
            Err(_) => result.into(),
        }
    }

    fn check(&self, helper: &Helper) -> Result<(), NotDone> {
        helper.require_pool()?;
        // a chain id names a volume, never a snapshot that a stranger wrote to.
        let Some(known) = helper.book().volume(self.volume) else {
            return refuse(Refusal::NoSuchVolume);
        };
        let Some((_thin, layer)) = helper.book().sealed(known.volume) else {
            return refuse(Refusal::NotSealed);
        };
        if layer.tree.is_none() {
            return refuse(Refusal::NoTree);
        }
        let joins = helper.verifications.of(self.volume, &self.request).is_some();
        let free = helper.verifications.running() < MOST;
        if joins || free { Ok(()) } else { refuse(Refusal::TooManyChecks) }
    }

    fn perform(permit: Permit<Self>, helper: &mut Helper) -> Result<Verifying, NotDone> {
        let asked = permit.into_request();
        if let Some(known) = helper.verifications.of(asked.volume, &asked.request) {
            return Ok(known);
        }
        match helper.book().sealed(asked.volume) {
            Some((thin, layer)) => begin(helper, &asked, thin, layer.tree),
            None => refuse(Refusal::NotSealed),
        }
    }
}

fn begin(
    helper: &mut Helper,
    asked: &VerifyVolume,
    thin: ThinId,
    tree: Option<TreeDigest>,
) -> Result<Verifying, NotDone> {
    let Some(tree) = tree else { return refuse(Refusal::NoTree) };
    let (device, _made) = helper.bring_up_thin(thin, Access::ReadOnly, false)?;
    let (tell, news) = watch::channel(Ok(VerifyState::Running(VerifyProgress::default())));
    let (volume, request) = (asked.volume, asked.request.clone());
    let subject = asked.subject();
    let (verb, peer, since) = (VerifyVolume::VERB, helper.peer, Instant::now());
    let line = Asked { verb, request: request.clone(), peer, subject, since };
    let time = helper.verification_time();
    let waiting = Waiting { volume, thin, tree, tell, line };
    let errand = Errand::Verify { device, tree };
    let begun = helper.begin_long((&request, &errand), (thin, time), waiting);
    if let Err(failure) = begun {
        helper.let_go(thin);
        return Err(failure);
    }
    helper.verifications.note(volume, request, news.clone());
    Ok(Verifying::Begun(news))
}

/// A verification that has not come to its end.
struct Waiting {
    volume: ChainId,
    thin: ThinId,
    tree: TreeDigest,
    tell: watch::Sender<News>,
    line: Asked,
}

impl Waits for Waiting {
    fn progress(&self, progress: Progress) {
        let (entries, bytes) = (progress.entries, progress.blob_bytes);
        drop(self.tell.send_replace(Ok(VerifyState::Running(VerifyProgress { entries, bytes }))));
    }

    fn late(&self) -> Box<dyn FnOnce(NotDone) + Send> {
        let tell = self.tell.clone();
        Box::new(move |late| drop(tell.send_replace(Err(late))))
    }

    fn end(self, helper: &mut Helper, answer: Answer) {
        let Self { volume, thin, tree, tell, line } = self;
        helper.serve(&line, 0);
        helper.let_go(thin);
        let result = judge(tree, answer);
        if let Ok(VerifyState::Differs { what, path }) = &result {
            log_difference(volume, *what, path);
        }
        line.answered(&(&result).into());
        drop(tell.send_replace(result));
    }
}

fn log_difference(volume: ChainId, what: Difference, path: &ShownPath) {
    audit::event("differs", &[("volume", &volume), ("what", &what.text()), ("path", path)]);
}

/// What a worker's answer means. It read what a stranger wrote: its word that all is well counts
/// only with the digest that the ledger has.
fn judge(tree: TreeDigest, answer: Answer) -> News {
    match answer {
        Answer::Verified { tree: found } if found == tree => Ok(VerifyState::Verified { tree }),
        Answer::Verified { .. } => {
            Ok(VerifyState::Differs { what: Difference::Unnamed, path: ShownPath::of(b"") })
        }
        Answer::Differs { what, path } => Ok(VerifyState::Differs { what, path }),
        Answer::Failed(failure) => Err(failure.into()),
        Answer::Done
        | Answer::Backing(_)
        | Answer::Progress(_)
        | Answer::Extracted(_)
        | Answer::Refused { .. } => Err(unexpected(&answer)),
    }
}

impl Helper {
    /// Takes a volume's device down again. Where that fails, the next verification or start finds it,
    /// and deletion takes it down.
    pub(crate) fn let_go(&mut self, thin: ThinId) {
        if let Err(why) = self.take_down(thin) {
            audit::event("still-mapped", &[("thin", &thin), ("why", &why)]);
        }
    }
}
