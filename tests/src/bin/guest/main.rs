//! The scenarios that run inside the VM, as root, each on a fresh machine.
//!
//! `guest NAME` runs one. It panics where something is not as it must be; the test on the host
//! (`tests/vm.rs`) fails with what it printed.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, prints for people, and starts the programs it checks"
)]

mod crash_points;
mod escapes;
mod faults;
mod growth;
mod helper_kills;
mod hostile_controller;
mod hung;
mod kills;
mod machine;
mod main_job;
mod mounts;
mod ordered;
mod power;
mod processes;
mod reboot;
mod records;
mod survey;
mod teardown;
mod verify;

fn main() {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    let run: fn() = match scenario.as_str() {
        "tree-equals-gnu-tar" => main_job::tree_equals_gnu_tar,
        "archives-that-try-to-leave" => faults::archives_that_try_to_leave,
        "bad-input" => faults::bad_input,
        "full-pool" => faults::full_pool,
        "full-disk" => faults::full_disk,
        "growth" => growth::a_pool_grows_in_use,
        "mounts" => mounts::are_safe_and_come_back,
        "teardown" => teardown::detached_and_destroyed,
        "helper-down" => faults::helper_down,
        "killed-during-download" => kills::during_download,
        "killed-during-extraction" => kills::during_extraction,
        "escapes" => escapes::all,
        "crash-points" => crash_points::all,
        "helper-kills" => helper_kills::all,
        "hostile-controller" => hostile_controller::all,
        "hung-device" => hung::a_hung_device,
        "processes" => processes::are_confined,
        "lost-database" => records::lost_database,
        "random-sequence" => records::random_sequence,
        "many-at-once" => records::many_at_once,
        "ordered-ahead" => ordered::ordered_ahead,
        "tampered-volumes" => verify::tampered_volumes_are_named,
        "before-reboot" => reboot::before,
        "after-reboot" => reboot::after,
        "before-power-cut" => power::before,
        "during-power-cut" => power::during,
        "after-power-cut" => power::after,
        other => panic!("no scenario is called {other:?}"),
    };
    run();
    println!("scenario {scenario}: passed");
}
