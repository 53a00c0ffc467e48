//! A database as it is after years: many images, most runs ended, every step of them kept.

use airlock::store::StoreFault;
use airlock_policy::digest::{BlobDigest, ChainId, DiffId, Digest};
use airlock_policy::name::SnapshotName;
use airlock_protocol::control::{RUN_DIGITS, RunId};
use airlock_protocol::reply::{ItemLayer, VolumeState};
use rusqlite::Transaction;

use crate::fake::{FakeHelper, Taken, Volume};

/// Images.
pub(crate) const IMAGES: usize = 100_000;
/// One of so many is active: a host does not have thousands of devices.
const ACTIVE: usize = 200;
/// Attempts at a state: four a flow, three flows a run.
pub(crate) const EVENTS: usize = 1_000_000;
const STEPS: usize = 4;
const FLOWS: usize = EVENTS / STEPS;
/// Runs.
pub(crate) const RUNS: usize = FLOWS / 3;

/// Of about the length that a flow's input and data have.
pub(crate) const DATA: &str = r#"{"volume":"sha256:6f1ed002ab5595859014ebf0951522d9a0a5b7c6f7a7b8c9d0e1f2a3b4c5d6e7","parent":null,"blob_bytes":3000000,"is_last":true,"image":"app:7"}"#;

/// An image's digest.
pub(crate) fn digest(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// Its name.
pub(crate) fn name(n: usize) -> String {
    format!("app{}:{n}", n % 997)
}

/// Where it comes from.
pub(crate) fn place(n: usize) -> String {
    format!("s3://images/app{}/{n}.tar", n % 997)
}

fn chain(n: usize) -> ChainId {
    ChainId::of(None, DiffId(digest(n)))
}

/// A run's id.
pub(crate) fn run_id(n: usize) -> RunId {
    let digit = |place: usize| char::from(RUN_DIGITS[(n >> (5 * place)) & 31]);
    (0..8).map(digit).collect::<String>().try_into().unwrap()
}

/// Fills an empty database.
pub(crate) fn fill(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    images(tx)?;
    runs(tx)
}

fn images(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    let mut layers = tx.prepare("INSERT INTO layers VALUES (?1, 1000, 3000000, 0)")?;
    let mut blobs = tx.prepare("INSERT INTO blobs VALUES (?1, ?1, 3000000, 7, 8, 9)")?;
    let mut volumes = tx.prepare(
        "INSERT INTO volumes (chain_id, parent, diff_id, sealed_at) VALUES (?1, NULL, ?2, 1)",
    )?;
    let mut images = tx.prepare(
        "INSERT INTO images (digest, name, top, chain_id, unpacked, created_at, used_at) VALUES (?1, ?2, 0, ?3, ?3, 1, 1)",
    )?;
    let mut parts = tx.prepare(
        "INSERT INTO image_layers (image, position, blob, diff_id, chain_id) VALUES (?1, 0, ?1, ?1, ?2)",
    )?;
    let mut sources = tx.prepare(
        "INSERT INTO sources (place, name, image, bytes, etag, checked_at) VALUES (?1, ?2, ?3, 3000000, 'e', 1)",
    )?;
    let mut snapshots = tx.prepare(
        "INSERT INTO snapshots (name, image, chain_id, read_only, is_default, bytes, state, created_at) \
         VALUES (?1, ?2, ?3, 0, 0, 10737418240, 'active', 1)",
    )?;
    for n in 0..IMAGES {
        let (digest, chain) = (digest(n).to_string(), chain(n).to_string());
        layers.execute([&digest])?;
        blobs.execute([&digest])?;
        volumes.execute([&chain, &digest])?;
        images.execute([&digest, &name(n), &chain])?;
        parts.execute([&digest, &chain])?;
        sources.execute([&place(n), &name(n), &digest])?;
        if n % ACTIVE == 0 {
            snapshots.execute([&snapshot(n), &digest, &chain])?;
        }
    }
    Ok(())
}

fn snapshot(n: usize) -> String {
    format!("s{n:06}")
}

fn runs(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    let mut flows = tx.prepare(
        "INSERT INTO flows (id, machine, definition, subject, state, step, attempt, interruptions, input, data, \
         request, created_at, changed_at, ended_at) VALUES (?1, 'unpack', 1, ?2, 'done', 4, 1, 0, ?3, ?3, 'r', 1, ?1, ?1)",
    )?;
    let mut steps = tx.prepare(
        "INSERT INTO steps (flow, step, machine, source, event, target, attempt, started_at, took_ms, outcome) \
         VALUES (?1, ?2, 'unpack', 'check_unpacked', 'held', 'done', 1, ?1, 3, 'the volume is here')",
    )?;
    let mut runs = tx.prepare(
        "INSERT INTO runs (id, kind, key, subject, source, image, position, flow, state, tally, request, uid, \
         submitted_at, ended_at) VALUES (?1, 'run', ?1, ?2, ?3, ?4, 0, ?5, 'done', '{}', 'r', 0, ?6, ?6)",
    )?;
    let mut parts = tx.prepare("INSERT INTO run_flows (run, flow) VALUES (?1, ?2)")?;
    for flow in 1..=FLOWS {
        let id = i64::try_from(flow).unwrap();
        flows.execute((id, chain(flow % IMAGES).to_string(), DATA))?;
        for step in 0..STEPS {
            steps.execute((id, i64::try_from(step).unwrap()))?;
        }
    }
    for n in 0..RUNS {
        let (id, image, flow) = (run_id(n), n % IMAGES, i64::try_from(3 * n + 1).unwrap());
        runs.execute((
            id.as_str(),
            name(image),
            place(image),
            digest(image).to_string(),
            flow,
            flow,
        ))?;
        for part in 0..3 {
            parts.execute((id.as_str(), flow + part))?;
        }
    }
    Ok(())
}

/// Has the double of the helper know the snapshots, and the volumes that they are of.
pub(crate) fn plant(helper: &FakeHelper) {
    let mut state = helper.state();
    state.page = airlock_protocol::reply::PAGE;
    for n in (0..IMAGES).step_by(ACTIVE) {
        let name: SnapshotName = snapshot(n).parse().unwrap();
        let layer =
            Some(ItemLayer { blob: BlobDigest(digest(n)), diff_id: DiffId(digest(n)), tree: None });
        let (thin, sealed) = (state.fresh(), VolumeState::Sealed);
        let volume = Volume { thin, parent: None, state: sealed, layer, polls: 0 };
        state.volumes.insert(chain(n), volume);
        let thin = state.fresh();
        let minor = Some(thin);
        let (read_only, mounts, handed_out) = (false, false, true);
        let taken =
            Taken { thin, image: chain(n), read_only, bytes: None, mounts, handed_out, minor };
        state.snapshots.insert(name, taken);
    }
}
