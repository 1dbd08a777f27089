//! How long a clear takes from its confirmation to the verified end, and how long a duplicate of the locked file is
//! lockwatch's: `clear_latency [N]`, as root. Somebody waits for each lock, and has it in the end.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lockwatch_tests::{Scene, lockwatch_command, needs_bpf, needs_root, only, opened, percentile, run, taken};
use serde_json::Value;

fn main() -> Result<()> {
    let clears = std::env::args().nth(1).map_or(Ok(50), |n| n.parse())?;
    if !needs_root("clear_latency") || !needs_bpf("clear_latency") {
        bail!("needs root and BPF");
    }
    let (mut took, mut held) = (Vec::new(), Vec::new());
    for _ in 0..clears {
        let scene = Scene::new();
        let path = scene.file("lock");
        let mut heir = scene.locker();
        let socket = lockwatch_tests::scenario::stage::socket(&scene);
        heir.tell(&format!("bind {socket}"));
        let mut sender = taken(&scene, &path, "flock 9 ex");
        sender.tell(&format!("sendfd 9 {socket}"));
        sender.kill();
        let mut waiter = opened(&scene, &path);
        let wait = waiter.wait_for(&path, "flock 9 ex");

        let id = only("auto", &path)["id"].as_str().unwrap_or_default().to_owned();
        let clear = |more: &[&str]| {
            let mut command = lockwatch_command();
            command.args(["clear", &id, "--json", "--settle", "0s", "--audit-log"]);
            let run = run(command.arg(scene.path("audit.jsonl")).args(more));
            serde_json::from_slice::<Value>(&run.stdout).unwrap_or_default()
        };
        let planned = clear(&[]);
        let done = clear(&["--confirm", planned["plan"]["code"].as_str().unwrap_or_default()]);
        ensure!(done["verified"] == true && done["next_owner"]["pid"] == waiter.pid(), "not cleared: {done:#}");
        waiter.granted(wait);
        took.extend(done["took_ns"].as_u64().map(Duration::from_nanos));
        held.extend(done["duplicate_held_ns"].as_u64().map(Duration::from_nanos));
    }
    println!("{clears} clears of a lock in flight, each with somebody in line for it");
    let tell = |what: &str, times: &mut [Duration]| {
        println!("{what:<34} p50 {:>9.1?}  p99 {:>9.1?}", percentile(times, 50), percentile(times, 99));
    };
    tell("from confirmation to verified:", &mut took);
    tell("how long the duplicate was held:", &mut held);
    Ok(())
}
