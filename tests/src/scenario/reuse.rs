//! A dead acquirer whose number an innocent process has got.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::Cast;
use crate::{Process, Scene, left_out, needs_root, taken};

const COUNTER: &str = "/proc/sys/kernel/ns_last_pid";

/// Whether the kernel's counter of numbers can be turned back.
pub(super) fn needed(name: &str) -> bool {
    if !needs_root(name) {
        return false;
    }
    match Counter::hold() {
        Ok(_) => true,
        Err(e) => {
            left_out(name, &format!("needs {COUNTER}: {e}"));
            false
        }
    }
}

/// Its child has the lock, and a `sleep` its number.
pub(super) fn reused(scene: &Scene, path: &Path) -> Cast {
    let counter = Counter::hold().unwrap_or_else(|e| panic!("hold {COUNTER}: {e}"));
    let mut parent = taken(scene, path, "flock 9 ex");
    let mut heir = parent.fork(scene);
    heir.tell("comm heir");
    let dead = parent.kill();
    let innocent = counter.reuse(dead);
    Cast::of(path).of_reused(dead).held_by(heir.pid(), "fd").keep(heir).keep(innocent)
}

/// Puts the counter back where it was, so that later processes have later numbers again.
struct Counter(String);

impl Counter {
    fn hold() -> std::io::Result<Self> {
        let now = fs::read_to_string(COUNTER)?;
        fs::write(COUNTER, now.trim())?;
        Ok(Self(now.trim().to_owned()))
    }

    /// Starts a process with this very number. Somebody else may fork in between, so it takes some tries.
    fn reuse(&self, pid: u32) -> Process {
        for _ in 0..500 {
            fs::write(COUNTER, (pid - 1).to_string()).unwrap_or_else(|e| panic!("write {COUNTER}: {e}"));
            let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn();
            let innocent = Process::of_child(child.unwrap_or_else(|e| panic!("start sleep: {e}")));
            if innocent.pid() == pid {
                return innocent;
            }
        }
        panic!("number {pid} could not be had again")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = fs::write(COUNTER, &self.0);
    }
}
