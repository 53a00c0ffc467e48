//! The main job: a real root filesystem, from S3 to a block device, compared with GNU tar's work.

use std::fs;

use airlock_tests::tree;

use crate::machine::{airlock, devices, logs, mounted, ready, received};

/// `run` of `$IMAGE_KEY`; the tree that is read back equals `expected.tree`, which was made from
/// GNU tar's extraction of the same archive. A second `run` fetches nothing.
pub(crate) fn tree_equals_gnu_tar() {
    ready();
    let source = format!("s3://images/{}", std::env::var("IMAGE_KEY").unwrap());
    let first = airlock(&format!("run {source} --name web"));
    assert_eq!(first.code, Some(0), "{}\n{}", first.err, logs());
    println!("{}{}", first.err, first.out);
    assert_eq!(first.out, "/dev/airlock/web\n");
    compare_with_expected();
    second_run_fetches_nothing(&source);
    removal_leaves_nothing();
}

fn compare_with_expected() {
    let expected = fs::read_to_string("expected.tree").unwrap();
    let listed = mounted("/dev/airlock/web", |root| tree::list(root).unwrap());
    let differences = tree::differences(&expected, &listed);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(expected.lines().count(), listed.lines().count());
    println!("0 differences over {} entries", listed.lines().count());
}

fn second_run_fetches_nothing(source: &str) {
    let before = received();
    let again = airlock(&format!("run {source} --name web")).ok();
    let fetched = received() - before;
    println!("{}{}{fetched} bytes came over the network", again.err, again.out);
    assert_eq!(again.out, "/dev/airlock/web\n");
    assert!(again.err.contains("already active"), "{}", again.err);
    // A HEAD and its answer, not an object.
    assert!(fetched < 20_000, "{fetched} bytes were fetched");
    let quiet = airlock(&format!("run --quiet {source} --name web")).ok();
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("/dev/airlock/web\n", ""));
}

fn removal_leaves_nothing() {
    let images = airlock("images --output json").ok().json();
    let name = images["items"][0]["name"].as_str().unwrap().to_owned();
    airlock(&format!("rm {name}")).fails(7, "web");
    airlock("deactivate web").ok();
    airlock(&format!("rm {name}")).ok();
    assert_eq!(devices(), ["airlock-pool"]);
    assert_eq!(crate::machine::thin_ids(), [0], "the base volume alone is left");
}
