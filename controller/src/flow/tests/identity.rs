//! What is the same image, and what a name means.

use airlock_policy::digest::ChainId;
use airlock_protocol::control::{Activation, ErrorClass, Work};

use super::{Host, run_of};
use crate::flow::image_of;
use crate::testing::fake::ids;
use crate::testing::image::{gzip, rootfs, wrapped};

#[tokio::test(flavor = "multi_thread")]
async fn two_compressions_of_one_tar_are_two_images_and_one_volume() {
    let host = Host::new();
    let up = host.up();
    let tar = rootfs("shared");
    let plain = up.done(run_of(&host.file("plain.tar", &tar))).await.result.unwrap();
    let packed = up.done(run_of(&host.file("packed.tar.gz", &gzip(&tar)))).await.result.unwrap();
    assert_ne!(plain.digest, packed.digest);
    assert!(packed.reused.volume && !packed.reused.blob && !packed.reused.snapshot);
    assert_eq!(host.helper.asked("extractions"), 1);
    assert_eq!(host.helper.state().volumes.len(), 1);
    assert_eq!(packed.device.as_deref(), Some("/dev/airlock/packed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_filesystem_with_a_directory_around_it_is_unwrapped_and_its_run_says_so() {
    let host = Host::new();
    let up = host.up();
    let tar = wrapped("x");
    let chain_id = ChainId::unwrapped(ids(&tar).1);
    for name in ["a.tar", "b.tar"] {
        let view = up.done(Work::Pull { source: host.file(name, &tar) }).await;
        let note = view.stages[2].note.as_deref();
        assert_eq!(note, Some("all of it is in rootfs, which is taken for the root"));
        let volumes: Vec<_> = host.helper.state().volumes.keys().copied().collect();
        assert_eq!(volumes, [chain_id]);
    }
    up.done(Work::Pull { source: host.file("c.tar", &rootfs("x")) }).await;
    assert_eq!(host.helper.state().volumes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_elsewhere_are_the_same_image() {
    let host = Host::new();
    let up = host.up();
    let tar = rootfs("same");
    let one = up.done(Work::Pull { source: host.file("one.tar", &tar) }).await.result.unwrap();
    let two = up.done(Work::Pull { source: host.file("two.tar", &tar) }).await.result.unwrap();
    assert_eq!(one.digest, two.digest);
    assert!(two.reused.volume);
    let store = &up.engine.world().store;
    let by_name =
        |name: &'static str| store.read(move |tx| Ok(image_of(tx, name)?.unwrap().digest));
    assert_eq!(by_name("one").await.unwrap(), by_name("two").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_another_image_and_its_name_is_taken() {
    let host = Host::new();
    let up = host.up();
    let source = host.file("a.tar", &rootfs("first"));
    let first = up.done(run_of(&source)).await.result.unwrap();
    host.file("a.tar", &rootfs("second, and longer"));
    let fault = up.failed(run_of(&source)).await;
    assert_eq!((fault.code.as_str(), fault.class), ("snapshot.other", ErrorClass::Conflict));
    assert!(fault.remedy.iter().any(|next| next.contains("--name")), "{fault:?}");
    let name = Some("b".parse().unwrap());
    let activation = Activation { name, read_only: true, ..Activation::default() };
    let second = up.done(Work::Run { source, activation }).await.result.unwrap();
    assert_ne!(first.digest, second.digest);
    assert_eq!((second.device.as_deref(), second.read_only), (Some("/dev/airlock/b"), true));
    // The name is what its source holds now; the old image is still there by its digest.
    let store = &up.engine.world().store;
    let named = store.read(|tx| Ok(image_of(tx, "a")?.unwrap().digest)).await.unwrap();
    assert_eq!(named, second.digest);
    let short = first.digest.short();
    let old = store.read(move |tx| Ok(image_of(tx, &short)?.unwrap().digest)).await.unwrap();
    assert_eq!(old, first.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_found_by_name_source_and_digest_and_never_guessed() {
    let host = Host::new();
    let up = host.up();
    let tar = rootfs("x");
    let source = host.file("x.tar", &tar);
    up.done(Work::Pull { source: source.clone() }).await;
    std::fs::create_dir(host.dir.path().join("more")).unwrap();
    up.done(Work::Pull { source: host.file("more/y.tar", &rootfs("y1")) }).await;
    std::fs::create_dir(host.dir.path().join("other")).unwrap();
    up.done(Work::Pull { source: host.file("other/y.tar", &rootfs("y2")) }).await;
    let digest = ids(&tar).0.0;
    let found = |text: String| {
        up.engine.world().store.read(move |tx| Ok(image_of(tx, &text)?.map(|image| image.digest)))
    };
    for text in ["x".to_owned(), source.to_string(), digest.short(), digest.to_string()] {
        assert_eq!(found(text.clone()).await.unwrap(), Ok(digest), "{text}");
    }
    let many = found("y".to_owned()).await.unwrap().unwrap_err();
    assert_eq!((many.code.as_str(), many.class.exit(), many.facts.len()), ("name.ambiguous", 6, 2));
    let none = found("z".to_owned()).await.unwrap().unwrap_err();
    assert_eq!((none.code.as_str(), none.class.exit()), ("name.unknown", 4));
}
