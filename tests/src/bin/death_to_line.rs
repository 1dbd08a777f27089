//! How long it takes from an owner's death to the watcher's line: `death_to_line [N]`, as root.
//!
//! Two clocks start: at kill(2), which includes the kernel's own work of ending the process, and at the return of the
//! wait for its end, when the lock is provably nobody's.

use std::time::Instant;

use anyhow::{Result, bail};
use lockwatch_tests::{Scene, Watcher, needs_bpf, percentile};

fn main() -> Result<()> {
    let deaths = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    if !needs_bpf("death_to_line") {
        bail!("needs BPF");
    }
    let scene = Scene::new();
    let paths: Vec<_> = (0..deaths).map(|i: usize| scene.file(format!("lock-{i}"))).collect();
    let watcher = Watcher::orphans(&paths.iter().map(AsRef::as_ref).collect::<Vec<_>>());
    let (mut from_kill, mut from_end) = (Vec::new(), Vec::new());
    for path in &paths {
        let mut owner = scene.locker();
        owner.open(path, "rw");
        owner.tell("flock 3 ex");
        let _heir = owner.spawn("sleep 60");
        let killed = Instant::now();
        owner.kill();
        let ended = Instant::now();
        let line = watcher.wait_about("orphaned", path).heard;
        from_kill.push(line.duration_since(killed));
        from_end.push(line.saturating_duration_since(ended));
    }
    println!("{deaths} deaths of owners, to the line read from `lockwatch orphans --watch --ndjson`");
    println!(
        "from kill(2):     p50 {:>9.1?}  p99 {:>9.1?}",
        percentile(&mut from_kill, 50),
        percentile(&mut from_kill, 99)
    );
    println!(
        "from its end:     p50 {:>9.1?}  p99 {:>9.1?}",
        percentile(&mut from_end, 50),
        percentile(&mut from_end, 99)
    );
    Ok(())
}
