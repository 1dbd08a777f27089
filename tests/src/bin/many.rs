//! `many PROCESSES LOCKS DIR`: so many processes with so many locks each, of every kind that has a range or none.
//!
//! Prints `ready N` with the number of locks when all are taken. Ends when standard input closes, and after two
//! minutes in any case; its children end with it.

use std::{
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use lockwatch_tests::sys::{self, RangeKind};

fn main() -> Result<()> {
    sys::alarm(lockwatch_tests::locker::LIFE_SECONDS);
    let mut args = std::env::args_os().skip(1);
    let mut number = |what: &str| -> Result<u32> {
        let word = args.next().and_then(|word| word.into_string().ok());
        word.and_then(|word| word.parse().ok()).with_context(|| format!("{what} is no number"))
    };
    let (processes, locks) = (number("PROCESSES")?, number("LOCKS")?);
    let dir = PathBuf::from(args.next().context("DIR is missing")?);
    let (mut news, teller) = io::pipe().context("make a pipe")?;
    for index in 0..processes {
        if sys::fork().context("fork")?.is_none() {
            let mut teller = &teller;
            let taken = child(&dir, index, locks).and_then(|()| Ok(teller.write_all(b"+")?));
            if let Err(e) = taken {
                eprintln!("many: process {index}: {e:#}");
                sys::exit(1);
            }
            loop {
                std::thread::park();
            }
        }
    }
    // A child that fails closes its end without a word, and the reader sees the end when all have.
    drop(teller);
    let mut ready = 0;
    while ready < processes && news.read(&mut [0; 1]).context("hear from the children")? == 1 {
        ready += 1;
    }
    println!("ready {}", ready * locks);
    io::stdin().read_to_end(&mut Vec::new()).context("wait for the end of standard input")?;
    Ok(())
}

/// Two fifths of the locks are flocks, each on a file and a descriptor of its own; the rest are POSIX and OFD ranges
/// of one byte each on one file, apart so that the kernel cannot merge them.
fn child(dir: &Path, index: u32, locks: u32) -> Result<()> {
    sys::die_with_parent()?;
    sys::alarm(lockwatch_tests::locker::LIFE_SECONDS);
    let open = |name: String| {
        let path = dir.join(name);
        sys::open(path.as_os_str().as_bytes(), libc::O_RDWR).with_context(|| format!("open {}", path.display()))
    };
    let ranges = open(format!("{index}-ranges"))?;
    for lock in 0..locks {
        match lock % 5 {
            0 | 1 => sys::flock(open(format!("{index}-{lock}"))?, libc::LOCK_EX)?,
            2 => sys::range_lock(ranges, RangeKind::Ofd, libc::F_WRLCK, 2 * i64::from(lock), 1, false)?,
            _ => sys::range_lock(ranges, RangeKind::Posix, libc::F_RDLCK, 2 * i64::from(lock), 1, false)?,
        }
    }
    Ok(())
}
