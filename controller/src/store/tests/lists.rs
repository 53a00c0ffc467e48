//! Pages of filtered lists: everything that fits the filter, once, and nothing else.

#![expect(clippy::arithmetic_side_effects, reason = "small numbers of tests")]

use airlock_protocol::control::ImageState;

use super::*;
use crate::store::image::ImageFilter;
use crate::store::run::{RunCursor, RunFilter, RunRow, Standing};
use crate::store::snapshot::SnapshotFilter;

const RUNS: i64 = 300;

/// Runs of eight sources and of none, in all states, three submitted at a time.
fn plant_runs(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    for n in 0..RUNS {
        let state =
            ["done", "failed", "running", "cancelled", "done"][usize::try_from(n % 5).unwrap()];
        let source = (n % 9 != 8).then(|| {
            format!("s3://{}/{}.tar", ["a", "ab", "b"][usize::try_from(n % 3).unwrap()], n % 8)
        });
        tx.execute(
            "INSERT INTO runs (id, kind, key, subject, source, position, state, tally, request, uid, \
             submitted_at, ended_at) VALUES (?1, 'pull', ?1, 'x', ?2, 0, ?3, '{}', 'r', 0, ?4, ?5)",
            (format!("{n:08}"), source, state, n / 3, (state != "running").then_some(n)),
        )?;
    }
    Ok(())
}

/// Turns all pages of a list, and holds each to its length.
fn pages(tx: &Transaction<'_>, filter: &RunFilter) -> Vec<RunRow> {
    let mut all: Vec<RunRow> = Vec::new();
    loop {
        let after = all.last().map(|run| RunCursor {
            time: run.submitted_at,
            id: run.id.to_string(),
            source: run.source.clone().unwrap_or_default(),
        });
        let page = run::page(tx, filter, after.as_ref(), 7).unwrap();
        let is_last = page.len() < 7;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

/// Every way to filter runs, with every other.
fn filters() -> Vec<RunFilter> {
    let standings = [None, Some(Standing::Running), Some(Standing::Failed), Some(Standing::Done)];
    let sources = ["s3://a/", "s3://a", "s3://ab/1.tar", "s3://no"];
    let sources = || [None].into_iter().chain(sources.map(|source| Some(source.to_owned())));
    let befores = [None, Some(50), Some(-1)];
    let mut all = Vec::new();
    for standing in standings {
        for source in sources() {
            let filter = |before| RunFilter { standing, source: source.clone(), before };
            all.extend(befores.map(filter));
        }
    }
    all
}

/// What a filter says, in other words.
fn fits(filter: &RunFilter, run: &RunRow) -> bool {
    let RunFilter { standing, source, before } = filter;
    let begins = |start: &String| run.source.as_ref().is_some_and(|found| found.starts_with(start));
    standing.is_none_or(|standing| standing == run.standing)
        && source.as_ref().is_none_or(begins)
        && before.is_none_or(|before| run.submitted_at <= before)
}

#[tokio::test]
async fn every_filter_of_runs_finds_all_that_fit_it_once() {
    let dir = TempDir::new();
    let store = open(&dir);
    store.write(plant_runs).await.unwrap();
    let check = |tx: &Transaction<'_>| {
        let whole = pages(tx, &RunFilter::default());
        assert_eq!(whole.len(), usize::try_from(RUNS).unwrap());
        assert!(whole.is_sorted_by_key(|run| (-run.submitted_at, run.id.to_string())));
        let mut found = 0;
        for filter in filters() {
            let ids = |run: &RunRow| run.id.to_string();
            let mut ours: Vec<_> = pages(tx, &filter).iter().map(ids).collect();
            let mut theirs: Vec<_> =
                whole.iter().filter(|run| fits(&filter, run)).map(ids).collect();
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{filter:?}");
            found += ours.len();
        }
        assert!(found > 1000, "{found}");
        Ok(())
    };
    store.read(check).await.unwrap();
}

/// Images of which each fifth is unpacked, and each tenth active.
fn plant_images(tx: &Transaction<'_>) -> Result<(), StoreFault> {
    for n in 0..2500_u32 {
        let content = n.to_le_bytes();
        let row = blob(&content);
        let (digest, name) = (row.digest.0, format!("i{n:05}"));
        image::record(tx, &row, digest, &name)?;
        let place = format!("s3://{}/{n}.tar", if n % 1250 == 7 { "rare" } else { "often" });
        tx.execute(
            "INSERT INTO sources (place, name, image, bytes, checked_at) VALUES (?1, ?2, ?3, 5, 1)",
            (place, &name, digest.to_string()),
        )?;
        tx.execute(
            "UPDATE images SET used_at = ?2 WHERE digest = ?1",
            (digest.to_string(), i64::from(n)),
        )?;
        let chain_id = ChainId::of(None, row.diff_id);
        if n % 5 == 0 {
            let diff_id = row.diff_id;
            image::record_sealed(tx, &SealedRow { chain_id, parent: None, diff_id, tree: None })?;
        }
        if n % 10 == 0 {
            let row = SnapshotRow {
                name: format!("s{n:05}").try_into().unwrap(),
                image: digest,
                chain_id,
                read_only: true,
                is_default: false,
                bytes: 1,
                leaving: false,
                created_at: 1,
            };
            snapshot::record(tx, &row)?;
        }
    }
    Ok(())
}

fn images(tx: &Transaction<'_>, filter: &ImageFilter) -> (Vec<String>, u32) {
    let (mut names, mut pages) = (Vec::new(), 0);
    let mut after: Option<(String, String)> = None;
    loop {
        let at = after.as_ref().map(|(name, digest)| (name.as_str(), digest.as_str()));
        let (rows, next) = image::page(tx, filter, at, 100).unwrap();
        names.extend(rows.into_iter().map(|row| row.name));
        pages += 1;
        if next.is_none() {
            return (names, pages);
        }
        after = next;
    }
}

#[tokio::test]
async fn a_filter_of_images_finds_few_among_many_over_pages_that_may_be_empty() {
    let dir = TempDir::new();
    let store = open(&dir);
    store.write(plant_images).await.unwrap();
    let check = |tx: &Transaction<'_>| {
        let of = |status, source: Option<&str>, before| {
            images(tx, &ImageFilter { status, source: source.map(str::to_owned), before })
        };
        let (all, pages) = of(None, None, None);
        assert_eq!((all.len(), pages), (2500, 26));
        assert!(all.is_sorted());
        assert_eq!(of(Some(ImageState::Active), None, None).0.len(), 250);
        assert_eq!(of(Some(ImageState::Unpacked), None, None).0.len(), 250);
        assert_eq!(of(Some(ImageState::Downloaded), None, None).0.len(), 2000);
        assert_eq!(of(None, Some("s3://rare/"), None), (vec!["i00007".into(), "i01257".into()], 3));
        assert_eq!(of(None, None, Some(4)).0, ["i00000", "i00001", "i00002", "i00003", "i00004"]);
        assert_eq!(of(Some(ImageState::Active), Some("s3://often"), Some(25)).0.len(), 3);
        Ok(())
    };
    store.read(check).await.unwrap();
}

#[tokio::test]
async fn a_filter_of_snapshots_goes_by_source_and_age() {
    let dir = TempDir::new();
    let store = open(&dir);
    store.write(plant_images).await.unwrap();
    let check = |tx: &Transaction<'_>| {
        let count = |source: Option<&str>, before| {
            let filter = SnapshotFilter { source: source.map(str::to_owned), before };
            let (rows, next) = snapshot::page(tx, &filter, "", 1000).unwrap();
            assert_eq!(next, None);
            rows.len()
        };
        assert_eq!(count(None, None), 250);
        assert_eq!(count(Some("s3://often/"), None), 250);
        assert_eq!(count(Some("s3://rare/"), None), 0);
        assert_eq!(count(Some("s3://often/10.tar"), None), 1);
        assert_eq!((count(None, Some(now() + 1)), count(None, Some(1))), (250, 0));
        Ok(())
    };
    store.read(check).await.unwrap();
}
