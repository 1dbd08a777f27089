//! Loop devices: each keeps the very open file that it was given, and the locks on it.

use std::{ffi::OsStr, fs, io, os::unix::ffi::OsStrExt, path::Path};

use lockwatch_core::{
    lock::FileId,
    observation::{HolderSeen, Via},
    text::Text,
};

use crate::sources::mounts;

/// A loop device in use.
///
/// LOOP_SET_FD and LOOP_CONFIGURE keep the open file description behind the descriptor they are given (`loop_configure`
/// in drivers/block/loop.c, 6.18), so a flock taken on it lasts until the device is detached. Whether this lock was
/// taken on that description or on another of the same file cannot be seen from outside: a loop device is a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// Its name: `/dev/loop0`.
    pub name: Text,
    /// The path of its backing file as the kernel prints it: seen from our root, ` (deleted)` behind a name that is
    /// gone.
    pub backing: Text,
    /// The backing file; `None` if that path does not lead to a file, or may lead to another one than it did.
    pub file: Option<FileId>,
}

impl Loop {
    /// What it is to the locks on its backing file.
    pub fn holder(&self) -> HolderSeen {
        let detail = format!("loop device {0} (losetup -d {0} detaches it)", self.name);
        HolderSeen { process: None, via: Via::Kernel, fd: None, cloexec: None, opened: None, detail: Some(detail) }
    }
}

/// Every loop device with a backing file; `block` is `/sys/block`. Fails if that cannot be listed.
///
/// Neither the device nor the backing file is opened: closing the last descriptor of a device detaches it where
/// autoclear is set, and opening a file may break a lease.
pub fn list(block: &Path) -> io::Result<Vec<Loop>> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(block)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| name.starts_with("loop")));
    }
    names.sort_by_key(|name| (name.len(), name.clone()));
    Ok(names.iter().filter_map(|name| attached(block, name)).collect())
}

/// The device of that name, if it is in use: `loop/` is there only while it is (since Linux 2.6.37).
fn attached(block: &Path, name: &str) -> Option<Loop> {
    let shown = Text::new(format!("/dev/{name}").as_bytes());
    let path = match fs::read(block.join(name).join("loop/backing_file")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Some(Loop { name: shown, backing: Text::default(), file: None });
        }
        Err(_) => return None, // detached, perhaps just now
    };
    // The kernel ends it with a line feed, and the name may hold others.
    let path = path.strip_suffix(b"\n").unwrap_or(&path);
    (!path.is_empty()).then(|| Loop { name: shown, backing: Text::new(path), file: identify(path) })
}

fn identify(path: &[u8]) -> Option<FileId> {
    // A file may really be called so. Then its identity is missed; better than to take one file for another.
    if path.ends_with(b" (deleted)") {
        return None;
    }
    mounts::file_id(Path::new(OsStr::from_bytes(path))).ok()
}

#[cfg(test)]
mod tests {
    use std::{
        os::fd::AsRawFd,
        path::PathBuf,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn reads_devices_in_use_only() {
        let root = tempfile::tempdir().unwrap();
        let image = root.path().join("image\nof a disk");
        fs::write(&image, "").unwrap();
        let sys = root.path().join("block");
        let device = |name: &str, backing: Option<&[u8]>| {
            let dir = sys.join(name).join("loop");
            fs::create_dir_all(if backing.is_some() { &dir } else { dir.parent().unwrap() }).unwrap();
            if let Some(text) = backing {
                fs::write(dir.join("backing_file"), text).unwrap();
            }
        };
        let path = image.as_os_str().as_encoded_bytes();
        device("loop10", Some(&[path, b"\n"].concat()));
        device("loop2", Some(&[path, b" (deleted)\n"].concat()));
        device("loop3", None);
        device("loop4", Some(b"\n"));
        device("vda", Some(b"/x\n"));
        let found = list(&sys).unwrap();
        let id = mounts::file_id(&image).unwrap();
        let expect = [("/dev/loop2", [path, b" (deleted)"].concat(), None), ("/dev/loop10", path.to_vec(), Some(id))];
        let expect =
            expect.map(|(name, backing, file)| Loop { name: Text::from(name), backing: Text::new(backing), file });
        assert_eq!(found, expect);
        let holder = found[1].holder();
        assert_eq!((holder.process, holder.via), (None, Via::Kernel));
        assert_eq!(holder.detail.unwrap(), "loop device /dev/loop10 (losetup -d /dev/loop10 detaches it)");
    }

    #[test]
    fn no_list_is_an_error() {
        assert!(list(Path::new("/nonexistent/block")).is_err());
    }

    /// Detaches its loop device at the end, whatever happens.
    struct Attached(fs::File, PathBuf);

    impl Drop for Attached {
        fn drop(&mut self) {
            const LOOP_CLR_FD: libc::c_ulong = 0x4C01; // include/uapi/linux/loop.h
            // SAFETY: takes numbers only.
            unsafe { libc::ioctl(self.0.as_raw_fd(), LOOP_CLR_FD as _, 0) };
        }
    }

    /// A free device with this file behind it; `None`, with the reason on standard error, where there are none.
    fn attach(file: &fs::File) -> Option<Attached> {
        const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
        const LOOP_SET_FD: libc::c_ulong = 0x4C00;
        let control = match fs::File::options().read(true).write(true).open("/dev/loop-control") {
            Ok(control) => control,
            Err(error) => {
                eprintln!("left out: /dev/loop-control: {error}");
                return None;
            }
        };
        // Another user of loop devices may be quicker.
        for _ in 0..20 {
            // SAFETY: takes numbers only.
            let free = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
            let path = PathBuf::from(format!("/dev/loop{free}"));
            let Ok(device) = fs::File::options().read(true).write(true).open(&path) else { continue };
            // SAFETY: takes numbers only; the device keeps an open file of its own.
            if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD as _, file.as_raw_fd()) } == 0 {
                return Some(Attached(device, path));
            }
        }
        eprintln!("left out: no loop device could be attached: {}", io::Error::last_os_error());
        None
    }

    #[test]
    fn a_loop_device_keeps_a_flock_without_any_descriptor() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let id = mounts::file_id(file.path()).unwrap();
        let given = file.reopen().unwrap();
        rustix::fs::flock(&given, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let Some(attached) = attach(&given) else { return };
        drop(given);
        let found: Vec<Loop> =
            list(Path::new("/sys/block")).unwrap().into_iter().filter(|l| l.file == Some(id)).collect();
        let names: Vec<&[u8]> = found.iter().map(|l| l.name.as_bytes()).collect();
        assert_eq!(names, [attached.1.as_os_str().as_encoded_bytes()]);
        let locked = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err();
        assert!(locked(), "the device does not keep the lock");
        drop(attached);
        // Whoever else looks at the device just now (udev) delays that.
        let deadline = Instant::now() + Duration::from_secs(20);
        while locked() {
            assert!(Instant::now() < deadline, "detaching the device does not end the lock");
            std::thread::yield_now();
        }
    }
}
