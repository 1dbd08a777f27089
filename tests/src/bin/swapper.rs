//! Whoever wants a log's lines somewhere else: `swapper DIR`, as root.
//!
//! The log is `DIR/way/log/audit.jsonl`. Traps are put into its place, and into that of its directories, and taken away
//! again, by one thread for the file and one for the directories. Each is put there by an exchange, so that the log
//! itself is never lost. Now and then the log is rotated away. It ends when its input does, leaves everything in its
//! place, and prints how often it did so.

use std::{
    io::Read,
    os::fd::OwnedFd,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use rustix::{
    fs::{
        AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Uid, chmodat, chownat, linkat, openat, renameat_with, unlinkat,
    },
    io::Errno,
};

/// What takes the file's place.
const FILES: [&str; 8] = ["link", "dangling", "hard", "fifo", "dir", "foreign", "open", "other"];
/// What takes the place of its directory, and of the one above.
const DIRECTORIES: [(&str, &str); 6] = [
    ("way/log", "loglink"),
    ("way/log", "logdir"),
    ("way/log", "logopen"),
    ("way", "waylink"),
    ("way", "waydir"),
    ("way", "wayforeign"),
];
/// How long a trap is there at most, and how long none is. Who finds nothing but traps never comes to the moment between
/// the look and the write, and some must be gone again before the next look.
const TRAP: Duration = Duration::from_micros(16);
const REST: Duration = Duration::from_micros(50);
/// Not in every round: each leaves a file behind.
const ROUNDS_UNTIL_ROTATED: u64 = 64;

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).context("swapper DIR")?;
    let end = AtomicBool::new(false);
    let (files, directories) = thread::scope(|scope| {
        let dir = Path::new(&dir);
        let files = scope.spawn(|| swap_files(dir, &end));
        let directories = scope.spawn(|| swap_directories(dir, &end));
        println!("ready");
        let input = std::io::stdin().read_to_end(&mut Vec::new()).context("read the input");
        end.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        };
        input.and(Ok((join(files)?, join(directories)?)))
    })?;
    println!("{}", files + directories);
    Ok(())
}

fn swap_files(dir: &Path, end: &AtomicBool) -> Result<u64> {
    // By descriptors: they stay the same while the other thread swaps the names.
    let (log, traps) = (open(&dir.join("way/log"))?, open(&dir.join("traps"))?);
    let mut done = 0;
    for round in 1.. {
        for trap in FILES {
            done += u64::from(exchange(&log, "audit.jsonl", &traps, trap)?);
        }
        done += u64::from(with_other_owner(&log)? && with_other_mode(&log)? && with_other_name(&log)?);
        if round % ROUNDS_UNTIL_ROTATED == 0 {
            let old = format!("audit.jsonl.{round}");
            match renameat_with(&log, "audit.jsonl", &log, &old, RenameFlags::NOREPLACE) {
                Ok(()) => done += 1,
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).context(old),
            }
        }
        if end.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(done)
}

fn swap_directories(dir: &Path, end: &AtomicBool) -> Result<u64> {
    let (top, traps) = (open(dir)?, open(&dir.join("traps"))?);
    let mut done = 0;
    while !end.load(Ordering::Relaxed) {
        for (name, trap) in DIRECTORIES {
            done += u64::from(exchange(&top, name, &traps, trap)?);
        }
        for mode in [0o777, 0o755] {
            chmodat(&top, "way/log", Mode::from_raw_mode(mode), AtFlags::empty()).context("chmod way/log")?;
            stay(up_to(TRAP));
        }
        done += 1;
        stay(REST);
    }
    Ok(done)
}

/// There and back. `false` if there is no log just now.
fn exchange(dir: &OwnedFd, name: &str, traps: &OwnedFd, trap: &str) -> Result<bool> {
    match renameat_with(dir, name, traps, trap, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => return Ok(false),
        swapped => swapped.with_context(|| format!("put {trap} in the place of {name}"))?,
    }
    stay(up_to(TRAP));
    renameat_with(dir, name, traps, trap, RenameFlags::EXCHANGE).with_context(|| format!("put {name} back"))?;
    stay(REST);
    Ok(true)
}

fn with_other_owner(log: &OwnedFd) -> Result<bool> {
    for uid in [4711, 0] {
        let (uid, gid) = (Uid::from_raw(uid), Gid::ROOT);
        match chownat(log, "audit.jsonl", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            result => result.context("chown")?,
        }
        stay(up_to(TRAP));
    }
    Ok(true)
}

fn with_other_mode(log: &OwnedFd) -> Result<bool> {
    for mode in [0o622, 0o600] {
        chmodat(log, "audit.jsonl", Mode::from_raw_mode(mode), AtFlags::empty()).context("chmod")?;
        stay(up_to(TRAP));
    }
    Ok(true)
}

fn with_other_name(log: &OwnedFd) -> Result<bool> {
    linkat(log, "audit.jsonl", log, "extra", AtFlags::empty()).context("link")?;
    stay(up_to(TRAP));
    unlinkat(log, "extra", AtFlags::empty()).context("unlink")?;
    Ok(true)
}

/// Anything: the clock's last digits are as good as dice.
fn up_to(most: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    most * (now.subsec_nanos() % 100) / 100
}

/// Keeps the processor: whoever gives it away does not get it back in microseconds.
fn stay(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn open(dir: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, dir, flags, Mode::empty()).with_context(|| format!("open {}", dir.display()))
}
