//! What becomes of the broker when its launcher goes, lies or is late.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use airlock_dm_helper::errands::Errands;
use airlock_policy::errand::{Answer, Envelope, Failure, MESSAGE, Stage};
use airlock_protocol::not_done::NotDone;
use airlock_protocol::reply::Outcome;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use super::client::request;
use super::rig::{Host, image};

fn link() -> (OwnedFd, Receiver<()>) {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
    let (tell, gone) = channel();
    drop(Errands::start(theirs, move || tell.send(()).unwrap()).unwrap());
    (ours, gone)
}

fn is_gone(gone: &Receiver<()>) -> bool {
    gone.recv_timeout(Duration::from_millis(300)).is_ok()
}

#[test]
fn a_launcher_that_goes_or_speaks_nonsense_ends_the_broker() {
    let (ours, gone) = link();
    drop(ours);
    assert!(is_gone(&gone), "it hung up");
    let envelope = Envelope { number: 1, request: request() };
    let good = Answer::Done.encode(&envelope);
    let longer = [&good[..], &[0]].concat();
    let nonsense = [0xff; MESSAGE];
    for message in [&good[..100], &longer, &nonsense] {
        let (ours, gone) = link();
        send(&ours, message, SendFlags::NOSIGNAL).unwrap();
        assert!(is_gone(&gone), "{} bytes", message.len());
    }
}

#[test]
fn an_answer_that_nobody_waits_for_is_no_harm() {
    let (ours, gone) = link();
    let envelope = Envelope { number: 99, request: request() };
    for answer in [Answer::Done, Answer::Failed(Failure { stage: Stage::Write, errno: 5 })] {
        send(&ours, &answer.encode(&envelope), SendFlags::NOSIGNAL).unwrap();
    }
    assert!(!is_gone(&gone));
}

#[tokio::test]
async fn a_device_without_its_link_does_not_stay() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    broker.snapshot("web", &[1], false).await.unwrap();
    let failure = Failure { stage: Stage::NodeLink, errno: 30 };
    host.launcher.0.lock().unwrap().publish = Some(failure);
    assert_eq!(broker.map("web").await, Err(NotDone::from(failure)));
    assert_eq!(host.sim.0.lock().unwrap().devices.len(), 1, "only the pool");
    host.launcher.0.lock().unwrap().publish = None;
    assert_eq!(broker.map("web").await.unwrap().outcome, Outcome::Done);
    // A stranger may have written to it from now on, and the ledger says so.
    let name = "web".parse().unwrap();
    drop(broker);
    assert!(host.ledger().book().snapshot(&name).unwrap().handed_out);
}

#[expect(clippy::disallowed_methods, reason = "the rule is for the product")]
#[test]
fn started_by_anybody_else_the_program_says_what_is_wrong() {
    for (arguments, words) in [
        (&["--help"][..], "--controller-uid N"),
        (&["--controller-uid", "x"], "--controller-uid N"),
        (&["--controller-uid", "1"], "descriptor 3"),
    ] {
        let program = env!("CARGO_BIN_EXE_airlock-dm-broker");
        let output = Command::new(program).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(words), "{text}");
    }
}
