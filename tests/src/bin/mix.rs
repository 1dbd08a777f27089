//! `mix PROCESSES FILE`: processes that take and drop every kind of lock on one file, as fast as they can.
//!
//! What `stress-ng --lockmix` does, for hosts whose stress-ng is too old for it. Nothing here waits, so nothing can
//! deadlock. Ends after two minutes in any case.

use std::{os::unix::ffi::OsStrExt, path::Path, process};

use anyhow::{Context, Result, bail};
use lockwatch_tests::{
    locker::LIFE_SECONDS,
    sys::{self, RangeKind},
};

/// Descriptions a process has of the file; flock and OFD locks belong to these.
const DESCRIPTIONS: u64 = 4;

fn main() -> Result<()> {
    sys::alarm(LIFE_SECONDS);
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let [processes, file] = args.as_slice() else { bail!("usage: mix PROCESSES FILE") };
    let processes: u32 = processes.to_str().and_then(|n| n.parse().ok()).context("PROCESSES is no number")?;
    for _ in 1..processes {
        if sys::fork().context("fork")?.is_none() {
            sys::die_with_parent()?;
            sys::alarm(LIFE_SECONDS);
            return mix(Path::new(file));
        }
    }
    mix(Path::new(file))
}

fn mix(file: &Path) -> Result<()> {
    let mut fds = Vec::new();
    for _ in 0..DESCRIPTIONS {
        fds.push(
            sys::open(file.as_os_str().as_bytes(), libc::O_RDWR).with_context(|| format!("open {}", file.display()))?,
        );
    }
    let mut dice = Dice(u64::from(process::id()));
    loop {
        let fd = fds[dice.below(DESCRIPTIONS) as usize];
        let (start, len) = (dice.below(200).cast_signed(), dice.below(20).cast_signed());
        // Refusals are half of the game.
        let _ = match dice.below(3) {
            0 => sys::flock(fd, dice.one_of([libc::LOCK_SH, libc::LOCK_EX, libc::LOCK_UN]) | libc::LOCK_NB),
            kind => {
                let kind = if kind == 1 { RangeKind::Posix } else { RangeKind::Ofd };
                let lock = dice.one_of([libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK]);
                sys::range_lock(fd, kind, lock, start, len, false)
            }
        };
    }
}

/// xorshift64 (Marsaglia, 2003): any sequence will do that is not the neighbour's.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one_of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[self.below(N as u64) as usize]
    }
}
