//! The pool's devices are taken down in order, or not at all.

use airlock_dm_helper::ledger::Ledger;
use airlock_dm_helper::teardown::{NotTakenDown, take_down};
use airlock_policy::name::DeviceName;

use super::rig::{Host, image};

fn down(host: &Host, dry_run: bool) -> (Result<(), NotTakenDown>, Vec<String>) {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let state = rustix::fs::open(&host.folder.0, flags, rustix::fs::Mode::empty()).unwrap();
    let book = Ledger::look(&state).unwrap();
    let mut told = Vec::new();
    let table = host.sim.clone();
    let tell = |line: &str| told.push(line.to_owned());
    let result = take_down(&table, &book, dry_run, tell);
    (result, told)
}

fn devices(host: &Host) -> usize {
    host.sim.0.lock().unwrap().devices.len()
}

#[tokio::test]
async fn the_pool_goes_last_and_nothing_goes_while_anything_is_in_use_or_unknown() {
    let host = Host::new();
    let broker = host.up().await;
    image(&broker, &[1]).await.unwrap();
    for name in ["a", "b"] {
        broker.snapshot(name, &[1], false).await.unwrap();
    }
    broker.map("a").await.unwrap();
    broker.mount("b").await.unwrap();
    drop(broker);
    let open = |count| {
        let mut machine = host.sim.0.lock().unwrap();
        machine.devices.get_mut("airlock-v000003").unwrap().open_count = count;
    };
    open(1);
    let (refused, told) = down(&host, false);
    assert!(matches!(refused, Err(NotTakenDown::Held(_, 1))), "{refused:?}");
    assert!(told.is_empty() && devices(&host) == 3);
    open(0);
    let (dry, told) = down(&host, true);
    dry.unwrap();
    assert!(told.len() == 3 && devices(&host) == 3, "{told:?}");

    let stranger = host.sim.0.lock().unwrap().devices["airlock-v000003"].clone();
    host.sim.0.lock().unwrap().devices.insert("airlock-v000009".to_owned(), stranger);
    let (refused, _told) = down(&host, false);
    let Err(NotTakenDown::Stranger(DeviceName::Thin(thin))) = refused else { panic!() };
    assert_eq!((u32::from(thin), devices(&host)), (9, 4));
    host.sim.0.lock().unwrap().devices.remove("airlock-v000009");

    let (done, told) = down(&host, false);
    done.unwrap();
    let expected = ["airlock-v000002", "airlock-v000003", "airlock-pool"];
    assert_eq!(told, expected.map(|name| format!("removed the device {name}")));
    assert_eq!(devices(&host), 0);
    // And all of it comes back.
    let broker = host.start().await;
    broker.ensure_pool(false).await.unwrap();
    broker.map("a").await.unwrap();
    broker.mount("b").await.unwrap();
}
