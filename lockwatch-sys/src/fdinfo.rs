//! `/proc/thread-self/fdinfo`: what the kernel says of a descriptor of our own.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use lockwatch_core::parse::fdinfo::{self, FdInfo};

use crate::procdir;

/// What the kernel says of this descriptor now. Its text is made in one go (fs/proc/fd.c seq_show, 6.18), so that the
/// locks in it are those of one moment.
///
/// # Errors
///
/// `/proc` cannot be read.
pub fn own(file: impl AsFd) -> io::Result<FdInfo> {
    let path = format!("/proc/thread-self/fdinfo/{}", file.as_fd().as_raw_fd());
    Ok(fdinfo::parse(&procdir::read(Path::new(&path))?))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn shows_a_lock_while_it_is_there() {
        let file = tempfile::tempfile().unwrap();
        let locks = || own(&file).unwrap().locks.len();
        assert_eq!(locks(), 0);
        flock(&file, FlockOperation::LockShared).unwrap();
        assert_eq!(locks(), 1);
        flock(&file, FlockOperation::Unlock).unwrap();
        assert_eq!(locks(), 0);
    }
}
