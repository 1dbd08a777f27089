//! File systems that keep locks to themselves: where, and what to say of it.
//!
//! A FUSE server that takes locks over (FUSE_POSIX_LOCKS) is asked for each of them, and the kernel keeps none: no line
//! in `/proc/locks`, no lock in its lists, no lock event but `fcntl_setlk` (fs/fuse/file.c fuse_file_lock, 6.18). Which
//! servers do stands nowhere, so every mount of the kind counts. NFS, CIFS, 9p, Ceph and the cluster file systems ask
//! their servers too, but keep a copy that is seen like any lock.

use lockwatch_core::{lock::Device, text::Text};

/// Which are mounted here, by device; none if that cannot be read.
pub fn mounts() -> Vec<Mount> {
    parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The superblock's device.
    pub device: Device,
    /// Where it is mounted, as mountinfo writes it.
    pub place: Text,
}

/// What a reader of a list must know.
pub fn warning(mounts: &[Mount]) -> Option<String> {
    const NAMED: usize = 3;
    let (named, more) = mounts.split_at(mounts.len().min(NAMED));
    let names: Vec<String> = named.iter().map(|mount| mount.place.to_string()).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!mounts.is_empty()).then(|| {
        format!(
            "FUSE servers may keep locks to themselves, and then no list shows them: {}{more} (lockwatch trace sees \
             them come and go)",
            names.join(", ")
        )
    })
}

/// The fields of proc_pid_mountinfo(5).
fn parse(text: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = text.split(|b| *b == b'\n').filter_map(mount).collect();
    mounts.dedup_by_key(|mount| mount.device);
    mounts
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let (major, minor) = str::from_utf8(fields.nth(2)?).ok()?.split_once(':')?;
    let device = Device { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let place = Text::new(fields.nth(1)?);
    fields.find(|field| *field == b"-")?;
    may_keep_locks(fields.next()?).then_some(Mount { device, place })
}

/// lxcfs and the document portal stand on many hosts and show generated files, which nobody locks.
fn may_keep_locks(fs: &[u8]) -> bool {
    match fs {
        b"fuse.lxcfs" | b"fuse.portal" => false,
        b"fuse" | b"fuseblk" | b"virtiofs" => true,
        other => other.starts_with(b"fuse."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_may_take_locks_over_are_named() {
        let text = b"27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
            42 27 0:39 / /mnt/a\\040b rw,nosuid - fuse /src rw,user_id=0\n\
            43 27 0:40 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw\n\
            44 27 0:41 / /sys/fs/fuse/connections rw - fusectl fusectl rw\n\
            45 27 0:42 / /home/me/host rw - fuse.sshfs me@host: rw\n46 27 0:43 / /nfs rw - nfs4 host:/ rw\njunk\n";
        let mounts = parse(text);
        let places: Vec<String> = mounts.iter().map(|mount| mount.place.to_string()).collect();
        assert_eq!(places, ["/mnt/a\\\\040b", "/home/me/host"]);
        assert_eq!(mounts[0].device, Device { major: 0, minor: 39 });
        assert!(warning(&mounts).unwrap().contains("/home/me/host (lockwatch trace"));
        assert_eq!(warning(&[]), None);
        let many = vec![mounts[0].clone(); 5];
        assert!(warning(&many).unwrap().contains(" and 2 more "));
    }
}
