//! The daemon's client: one function per verb of the control socket, each with a deadline.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use airlock_policy::name::{RequestId, SnapshotName};
use airlock_protocol::control::{
    Ask, ControlClient, DaemonInfo, Extend, Fault, HealthLine, Hello, ImageView, ListImages,
    ListRuns, ListSnapshots, Listing, MachinesView, Named, OneSnapshot, PoolView, Repair,
    RepairLine, Retry, RunId, RunView, ShowRun, SnapshotView, Submit, SubmitAll, VerifyView, Watch,
    When, Work,
};
use airlock_protocol::{PROTOCOL, wire};
use tarpc::client::RpcError;
use tarpc::context::Context;
use tokio::net::UnixStream;

use super::failure::{Failure, NoAnswer};
use super::moment;

/// How long a question may take.
const QUESTION: Duration = Duration::from_secs(10);
/// How long a change may take: it waits for the helper, which may be away for a moment and whose pool may
/// have to be brought up, and perhaps behind other changes. Longer than the daemon itself waits: its
/// answer says more than that there was none.
const CHANGE: Duration = Duration::from_mins(2);
/// How long the pool may take: it is checked, or made and formatted.
const POOL: Duration = Duration::from_mins(15);
/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
enum Patience {
    /// As long as `--timeout` says, else this long.
    AsAsked(Duration),
    /// This long: what `--timeout` limits is the waiting as a whole.
    Fixed(Duration),
}

/// How many pages of a list are read at most: a daemon that never ends a list is not obeyed.
const PAGES: usize = 10_000;

/// A connection to the daemon, for one command.
#[derive(Debug)]
pub(crate) struct Client {
    control: RefCell<ControlClient>,
    socket: PathBuf,
    limit: Option<Duration>,
    /// The id of this command, in every log.
    pub(crate) request: RequestId,
    /// Who answers.
    pub(crate) daemon: DaemonInfo,
}

/// Declares a verb: its name, the question it asks, its answer and its deadline.
macro_rules! verbs {
    ($($(#[$doc:meta])* $verb:ident($($name:ident: $Type:ty),*) -> $Answer:ty
        = |$client:ident| $question:expr, $limit:expr;)+) => {
        $(
            $(#[$doc])*
            pub(crate) async fn $verb(&self, $($name: $Type),*) -> Result<$Answer, NoAnswer> {
                let $client = self;
                let question = $question;
                self.call(stringify!($verb), $limit, async |control: ControlClient, context| {
                    control.$verb(context, question).await
                })
                .await
            }
        )+
    };
}

impl Client {
    /// Connects, and makes sure that both speak the same protocol.
    pub(crate) async fn connect(socket: &Path, limit: Option<Duration>) -> Result<Self, NoAnswer> {
        let (control, daemon) = connect(socket, limit).await?;
        Ok(Self {
            control: RefCell::new(control),
            socket: socket.to_owned(),
            limit,
            request: new_request()?,
            daemon,
        })
    }

    /// Asks the daemon who it is, and of which helper it knows, whatever protocol it speaks.
    pub(crate) async fn hello(socket: &Path, limit: Duration) -> Result<DaemonInfo, NoAnswer> {
        Ok(hello(socket, Some(limit), true).await?.1)
    }

    /// Connects anew, after the daemon went away.
    pub(crate) async fn reconnect(&self) -> Result<(), NoAnswer> {
        let (control, _) = connect(&self.socket, self.limit).await?;
        self.control.replace(control);
        Ok(())
    }

    /// An error with this command's id.
    pub(crate) fn failed(&self, error: NoAnswer) -> Failure {
        Failure { request: Some(self.request.clone()), ..error.into() }
    }

    verbs! {
        /// Starts work.
        submit(work: Work, when: When) -> RunView
            = |c| Submit { request: c.request.clone(), work, when }, Patience::AsAsked(CHANGE);
        /// Starts several works under a parent.
        submit_all(works: Vec<Work>, when: When) -> RunView
            = |c| SubmitAll { request: c.request.clone(), works, when },
            Patience::AsAsked(CHANGE);
        /// Waits for news of a run.
        watch(run: RunId, seen: u64) -> RunView = |_c| Watch { run, seen }, Patience::Fixed(QUESTION);
        /// A run with all its steps.
        show_run(run: RunId) -> RunView = |_c| ShowRun { run }, Patience::AsAsked(QUESTION);
        /// Cancels a run.
        cancel(run: RunId) -> RunView = |_c| ShowRun { run }, Patience::AsAsked(QUESTION);
        /// Begins a run that failed or was cancelled again.
        retry(run: RunId) -> RunView
            = |c| Retry { request: c.request.clone(), run }, Patience::AsAsked(CHANGE);
        /// What holds for each state of each machine, and how busy it is.
        machines() -> MachinesView = |c| c.ask(), Patience::AsAsked(QUESTION);
        /// One image.
        image(image: String) -> ImageView
            = |c| Named { request: c.request.clone(), image }, Patience::AsAsked(QUESTION);
        /// One snapshot.
        show_snapshot(name: SnapshotName) -> SnapshotView
            = |c| OneSnapshot { request: c.request.clone(), name }, Patience::AsAsked(QUESTION);
        /// Deletes a snapshot.
        deactivate(name: SnapshotName) -> SnapshotView
            = |c| OneSnapshot { request: c.request.clone(), name }, Patience::AsAsked(CHANGE);
        /// Removes an image.
        remove(image: String) -> ImageView
            = |c| Named { request: c.request.clone(), image }, Patience::AsAsked(CHANGE);
        /// Has an image's volume read again, or says what that came to.
        verify(image: String) -> VerifyView
            = |c| Named { request: c.request.clone(), image }, Patience::AsAsked(CHANGE);
        /// Brings the pool up.
        pool_setup() -> PoolView = |c| c.ask(), Patience::AsAsked(POOL);
        /// Makes the pool's files larger.
        pool_extend(data_bytes: Option<u64>, metadata_bytes: Option<u64>) -> PoolView
            = |c| Extend { request: c.request.clone(), data_bytes, metadata_bytes },
            Patience::AsAsked(POOL);
        /// How the pool is.
        pool_status() -> PoolView = |c| c.ask(), Patience::AsAsked(QUESTION);
        /// What is well and what is not.
        health() -> Listing<HealthLine> = |c| c.ask(), Patience::AsAsked(QUESTION);
        /// Mends the records, or says what there is to mend.
        repair(dry_run: bool) -> Listing<RepairLine>
            = |c| Repair { request: c.request.clone(), dry_run }, Patience::AsAsked(wire::MAX_DEADLINE);
    }

    /// Every image that is asked for.
    pub(crate) async fn images(&self, asked: ListImages) -> Result<Vec<ImageView>, NoAnswer> {
        self.pages("images", async |control, context, after| {
            control.images(context, ListImages { after, ..asked.clone() }).await
        })
        .await
    }

    /// Every snapshot that is asked for.
    pub(crate) async fn snapshots(
        &self,
        asked: ListSnapshots,
    ) -> Result<Vec<SnapshotView>, NoAnswer> {
        self.pages("snapshots", async |control, context, after| {
            control.snapshots(context, ListSnapshots { after, ..asked.clone() }).await
        })
        .await
    }

    /// Every run that is asked for.
    pub(crate) async fn runs(&self, asked: ListRuns) -> Result<Vec<RunView>, NoAnswer> {
        self.pages("runs", async |control, context, after| {
            control.runs(context, ListRuns { after, ..asked.clone() }).await
        })
        .await
    }

    fn ask(&self) -> Ask {
        Ask { request: self.request.clone() }
    }

    async fn pages<T>(
        &self,
        call: &'static str,
        page: impl AsyncFn(ControlClient, Context, Option<String>) -> Answer<Listing<T>>,
    ) -> Result<Vec<T>, NoAnswer> {
        let (mut items, mut after) = (Vec::new(), None);
        for _ in 0..PAGES {
            let asked = after.clone();
            let listing = self
                .call(call, Patience::AsAsked(QUESTION), async |control, context| {
                    page(control, context, asked).await
                })
                .await?;
            items.extend(listing.items);
            if listing.next.is_none() {
                break;
            }
            after = listing.next;
        }
        Ok(items)
    }

    async fn call<T>(
        &self,
        call: &'static str,
        patience: Patience,
        ask: impl AsyncFnOnce(ControlClient, Context) -> Answer<T>,
    ) -> Result<T, NoAnswer> {
        let control = self.control.borrow().clone();
        let limit = match patience {
            Patience::AsAsked(limit) => self.limit.unwrap_or(limit).min(wire::MAX_DEADLINE),
            Patience::Fixed(limit) => limit,
        };
        answer(call, limit, ask(control, until(limit))).await
    }
}

type Answer<T> = Result<Result<T, Fault>, RpcError>;

async fn connect(
    socket: &Path,
    limit: Option<Duration>,
) -> Result<(ControlClient, DaemonInfo), NoAnswer> {
    let (control, daemon) = hello(socket, limit, false).await?;
    if daemon.protocol != PROTOCOL {
        return Err(NoAnswer::Protocol { theirs: daemon.protocol, ours: PROTOCOL });
    }
    Ok((control, daemon))
}

async fn hello(
    socket: &Path,
    limit: Option<Duration>,
    with_helper: bool,
) -> Result<(ControlClient, DaemonInfo), NoAnswer> {
    let stream = UnixStream::connect(socket).await.map_err(|source| unreachable(socket, source))?;
    let control = ControlClient::new(tarpc::client::Config::default(), wire::transport(stream));
    let control = control.spawn();
    let limit = limit.unwrap_or(QUESTION).min(QUESTION);
    let hello = control.hello(until(limit), Hello { protocol: PROTOCOL, with_helper });
    let daemon = answer("hello", limit, hello).await?;
    Ok((control, daemon))
}

fn unreachable(socket: &Path, source: io::Error) -> NoAnswer {
    let socket = socket.to_owned();
    let kind = source.kind();
    if kind == io::ErrorKind::PermissionDenied {
        NoAnswer::Forbidden { socket, source }
    } else if kind == io::ErrorKind::WouldBlock {
        // The queue of connections is full: it listens, but takes none.
        NoAnswer::Slow { call: "connect", limit: Duration::ZERO }
    } else {
        NoAnswer::Absent { socket, source }
    }
}

fn until(limit: Duration) -> Context {
    let mut context = tarpc::context::current();
    let now = Instant::now();
    context.deadline = now.checked_add(limit).unwrap_or(now);
    context
}

async fn answer<T>(
    call: &'static str,
    limit: Duration,
    asking: impl Future<Output = Answer<T>>,
) -> Result<T, NoAnswer> {
    match asking.await {
        Ok(answer) => answer.map_err(|fault| NoAnswer::Fault(Box::new(fault))),
        Err(RpcError::DeadlineExceeded) => Err(NoAnswer::Slow { call, limit }),
        Err(error) => Err(NoAnswer::Gone { call, source: Box::new(error) }),
    }
}

/// A new request id: the time, then 64 bits that no other command has. It is a name in logs, not a
/// secret: the standard library's per-process hash keys are random enough.
fn new_request() -> Result<RequestId, NoAnswer> {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    let id = format!("{:012x}{random:016x}", moment::now());
    id.try_into().map_err(|source| NoAnswer::Gone { call: "hello", source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_commands_share_a_request_id() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| new_request().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
