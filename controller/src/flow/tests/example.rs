//! The example of `docs/fsm-engine.md`, word for word, and what the engine promises any machine.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use airlock_policy::name::RequestId;
use airlock_protocol::control::ErrorClass;
use futures::future::BoxFuture;
use tracing::instrument::WithSubscriber as _;

use super::{Host, Up};
use crate::fault::fault;
use crate::flow::engine::{About, Interceptor, Outcome, Registered};
use crate::flow::machine::State as _;
use crate::flow::step::StepFault;
use crate::store::{Ending, flow};

#[expect(unreachable_pub, reason = "the table's types are as public as any machine's")]
mod brew {
    // example: begin
    use serde::{Deserialize, Serialize};

    use crate::config::TimeSpan;
    use crate::flow::World;
    use crate::flow::machine::machine;
    use crate::flow::rules::{Rules, Settings};
    use crate::flow::step::{Machine, Step, StepFault, bug};

    machine! {
        machine "brew";
        states BrewState { Boil "boil", Pour "pour", Done "done", Failed "failed", Cancelled "cancelled" }
        events BrewEvent { Boiled "boiled", Poured "poured", Failed "failed", Cancelled "cancelled" }
        start Boil; end Done, Failed, Cancelled;

        Boil        on Boiled    => Pour;
        Pour        on Poured    => Done;
        Boil | Pour on Failed    => Failed;
        Boil | Pour on Cancelled => Cancelled;
    }

    #[derive(Debug, Deserialize, Serialize)]
    pub(super) struct BrewInput {
        pub(super) cups: u32,
    }

    #[derive(Clone, Debug, Default, Deserialize, Serialize)]
    #[serde(default)]
    pub(super) struct BrewData {
        boiled_cups: Option<u32>,
        poured_cups: Option<u32>,
    }

    #[derive(Debug)]
    pub(super) struct Brew;

    impl Machine for Brew {
        type State = BrewState;
        type Input = BrewInput;
        type Data = BrewData;
        const DEFINITION: u32 = 1;
        const JOINED: Option<(BrewEvent, BrewState)> = None;

        fn rules(_state: BrewState, settings: &Settings) -> Rules {
            settings.rules(3, TimeSpan::seconds(30)).giving_way()
        }

        async fn perform(
            _world: &World,
            state: BrewState,
            step: &mut Step<'_, Self>,
        ) -> Result<BrewEvent, StepFault> {
            match state {
                BrewState::Boil => {
                    // What is acted on outside is acted on by a call that may be repeated; what it
                    // came to is kept for the states that follow.
                    step.data.boiled_cups = Some(step.input.cups);
                    Ok(BrewEvent::Boiled)
                }
                BrewState::Pour => {
                    let cups = step.data.boiled_cups.ok_or_else(|| bug("nothing was boiled"))?;
                    step.data.poured_cups = Some(cups);
                    step.note = Some(format!("{cups} cups"));
                    // Written with the move, or not at all.
                    step.write(move |tx| {
                        let sql = "INSERT INTO meta VALUES ('brewed', ?1)";
                        Ok(tx.execute(sql, [cups.to_string()]).map(drop)?)
                    });
                    Ok(BrewEvent::Poured)
                }
                BrewState::Done | BrewState::Failed | BrewState::Cancelled => {
                    Err(bug("a brewing went on after its end"))
                }
            }
        }

        async fn clean_up(_world: &World, _state: BrewState, _step: &mut Step<'_, Self>) {}
    }
    // example: end
}

use brew::{Brew, BrewInput};

/// What befalls an attempt instead of its doing.
type Trouble = fn(&About) -> Option<Befallen>;

enum Befallen {
    Fails(StepFault),
    Panics,
    Hangs,
}

/// Troubles attempts, and remembers all of them.
struct Troubled(Trouble, Arc<Mutex<Vec<About>>>);

impl std::fmt::Debug for Troubled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Troubled")
    }
}

impl Interceptor for Troubled {
    fn around<'a>(
        &'a self,
        about: &'a About,
        attempt: BoxFuture<'a, Outcome>,
    ) -> BoxFuture<'a, Outcome> {
        self.1.lock().unwrap().push(about.clone());
        Box::pin(async move {
            match (self.0)(about) {
                None => attempt.await,
                Some(Befallen::Fails(fault)) => Err(fault),
                Some(Befallen::Panics) => panic!("the kettle burst"),
                Some(Befallen::Hangs) => std::future::pending().await,
            }
        })
    }
}

const SYSTEM: &str = "airlock or its surroundings";

fn request() -> RequestId {
    "r1".to_owned().try_into().unwrap()
}

fn slow() -> StepFault {
    StepFault::again(fault(ErrorClass::Unavailable, "kettle.cold", "the kettle stays cold"))
}

/// A daemon that brews, with trouble, and what was attempted.
fn brewery(host: &Host, trouble: Trouble) -> (Up, Arc<Mutex<Vec<About>>>) {
    let seen = Arc::<Mutex<Vec<About>>>::default();
    let up = host.up_with_machines(
        vec![Registered::of::<Brew>()],
        vec![Arc::new(Troubled(trouble, Arc::clone(&seen)))],
    );
    (up, seen)
}

async fn brew(up: &Up, subject: &str) -> i64 {
    up.engine.begin::<Brew>(subject, &BrewInput { cups: 2 }, &request()).await.unwrap()
}

#[test]
fn the_page_shows_this_example() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fsm-engine.md");
    let page = std::fs::read_to_string(page).unwrap();
    let code = include_str!("example.rs");
    let code = code.split("// example: begin\n").nth(1).unwrap();
    let code = code.split("    // example: end").next().unwrap();
    let code: Vec<_> = code.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    assert!(page.contains(&code.join("\n")), "docs/fsm-engine.md shows another example");
}

#[test]
fn the_example_keeps_the_rules_of_machines() {
    use brew::BrewEvent::{Boiled, Cancelled, Failed, Poured};
    crate::flow::machine::checks::check::<brew::BrewState>(
        &[Boiled, Poured, Failed, Cancelled],
        "boil: boiled>pour failed>failed cancelled>cancelled\n\
         pour: poured>done failed>failed cancelled>cancelled\n\
         done:\nfailed:\ncancelled:",
    );
    assert_eq!(brew::BrewState::MACHINE, "brew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_begun_twice_is_one_and_its_end_is_known_by_number_and_subject_for_ever() {
    let host = Host::new();
    let (up, _) = brewery(&host, |about| (about.subject == "hot").then_some(Befallen::Hangs));
    let boiling = brew(&up, "hot").await;
    assert_eq!(brew(&up, "hot").await, boiling);
    let good = brew(&up, "good").await;
    let ended = up.engine.wait(good).await.unwrap();
    assert_eq!((ended.state.as_str(), ended.fault), ("done", None));
    assert_eq!(up.engine.wait_for_subject::<Brew>("never").await.unwrap(), None);
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    drop(up);
    let (up, _) = brewery(&host, |_| Some(Befallen::Fails(StepFault::Abort(cold()))));
    up.engine.resume(true).await.unwrap();
    assert_eq!(brew(&up, "good").await.cmp(&good), std::cmp::Ordering::Greater);
    for ended in [
        up.engine.wait(boiling).await.unwrap(),
        up.engine.wait_for_subject::<Brew>("hot").await.unwrap().unwrap(),
    ] {
        assert_eq!((ended.flow, ended.state.as_str()), (boiling, "failed"));
        assert_eq!(ended.fault.unwrap().code, "kettle.cold");
    }
    // The next start tells the same of what ended before it.
    drop(up);
    let (up, _) = brewery(&host, |_| None);
    assert_eq!(up.engine.wait(boiling).await.unwrap().state, "failed");
    assert_eq!(up.engine.wait(good).await.unwrap().state, "done");
}

fn cold() -> airlock_protocol::control::Fault {
    fault(ErrorClass::Refused, "kettle.cold", "the kettle stays cold")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_knows_its_attempt_and_how_the_daemon_before_it_ended() {
    let host = Host::new();
    let (up, seen) = brewery(&host, |about| {
        if about.attempt == 1 { Some(Befallen::Fails(slow())) } else { Some(Befallen::Hangs) }
    });
    brew(&up, "x").await;
    for _ in 0..500 {
        if seen.lock().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    let attempts: Vec<_> =
        seen.lock().unwrap().iter().map(|about| (about.attempt, about.restarted)).collect();
    assert_eq!(attempts, [(1, None), (2, None)]);
    drop(up);
    let (up, seen) = brewery(&host, |_| None);
    up.engine.resume(true).await.unwrap();
    assert_eq!(up.engine.wait_for_subject::<Brew>("x").await.unwrap().unwrap().state, "done");
    let attempts: Vec<_> =
        seen.lock().unwrap().iter().map(|a| (a.state, a.attempt, a.restarted)).collect();
    assert_eq!(attempts, [("boil", 2, Some(Ending::Died)), ("pour", 1, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_steps_have_found_is_merged_and_never_replaced() {
    let host = Host::new();
    let (up, _) = brewery(&host, |about| (about.state == "pour").then_some(Befallen::Hangs));
    let id = brew(&up, "x").await;
    up.at("pour").await;
    assert!(up.engine.drain(Duration::from_secs(10)).await);
    // Another version has found more, and this one does not know of it.
    let store = up.engine.world().store.clone();
    let more = "UPDATE flows SET data = json_set(data, '$.sugar', 3)";
    store.write(move |tx| Ok(tx.execute(more, [])?)).await.unwrap();
    drop(up);
    let (up, _) = brewery(&host, |_| None);
    up.engine.resume(true).await.unwrap();
    assert_eq!(up.engine.wait(id).await.unwrap().state, "done");
    let data = up.engine.world().store.read(move |tx| Ok(flow::find(tx, id)?.data)).await.unwrap();
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    let expected = serde_json::json!({ "boiled_cups": 2, "poured_cups": 2, "sugar": 3 });
    assert_eq!(data, expected);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Brews until the end with this trouble; answers how that was and what was logged.
fn logged(trouble: Trouble) -> (String, String) {
    let log = Log::default();
    let made = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || made.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    // All on this thread, whose log it is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = runtime.block_on(
        async {
            let host = Host::new();
            let (up, _) = brewery(&host, trouble);
            let id = brew(&up, "x").await;
            up.engine.wait(id).await.unwrap().state
        }
        .with_current_subscriber(),
    );
    drop(guard);
    let text = log.0.lock().unwrap().clone();
    (state, String::from_utf8(text).unwrap())
}

#[test]
fn a_panic_is_a_failed_attempt_with_its_backtrace_in_the_log() {
    let (state, log) =
        logged(|about| (about.attempt == 1 && about.state == "boil").then_some(Befallen::Panics));
    assert_eq!(state, "done");
    assert!(log.contains("the kettle burst") && log.contains("a step panicked"), "{log}");
    let line = log.lines().find(|line| line.contains("a step panicked")).unwrap();
    assert!(line.contains("tests/example.rs:"), "no backtrace: {log}");
}

#[test]
fn an_error_that_comes_again_is_counted_and_every_line_of_a_step_has_its_ids() {
    let (state, log) = logged(|about| (about.state == "pour").then(|| Befallen::Fails(slow())));
    assert_eq!(state, "failed");
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    let told = warnings.iter().filter(|line| line.contains("again") && line.contains("kettle"));
    assert_eq!(told.count(), 1, "{warnings:#?}");
    assert!(warnings.iter().any(|line| line.contains("1 more times")), "{warnings:#?}");
    let line = log.lines().find(|line| line.contains("attempted")).unwrap();
    for id in ["flow=1", "machine=\"brew\"", "subject=\"x\"", "state=\"boil\"", "attempt=1"] {
        assert!(line.contains(id), "{id} is not in {line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_to_blame_is_told_with_the_class_that_the_exit_status_follows() {
    let host = Host::new();
    let (up, _) = brewery(&host, |about| {
        let of = |class| fault(class, "kettle.x", "no luck");
        Some(Befallen::Fails(match about.subject.as_str() {
            "abort" => StepFault::Abort(of(ErrorClass::Refused)),
            "system" => StepFault::Unrecoverable(of(ErrorClass::Internal)),
            _ => StepFault::again(of(ErrorClass::Unavailable)),
        }))
    });
    for (subject, blame, exit) in
        [("abort", "what was asked", 3), ("system", SYSTEM, 1), ("again", SYSTEM, 5)]
    {
        let id = brew(&up, subject).await;
        let fault = up.engine.wait(id).await.unwrap().fault.unwrap();
        assert!(fault.facts.contains(&("lies with".to_owned(), blame.to_owned())), "{fault:?}");
        assert_eq!(fault.class.exit(), exit);
    }
}
