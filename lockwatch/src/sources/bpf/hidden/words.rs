//! What keeps a file, in words a human can act on.

use lockwatch_common::{KeeperRecord, keeper};

/// VM_READ, VM_WRITE, VM_EXEC and VM_MAYSHARE (include/linux/mm.h, 6.18): `/proc/PID/maps` shows the same.
const READ: u64 = 1;
const WRITE: u64 = 2;
const EXEC: u64 = 4;
const SHARED: u64 = 0x80;

/// For [`lockwatch_core::observation::HolderSeen::detail`]; `more` of the same kind are not told one by one.
pub fn detail(record: &KeeperRecord, more: usize) -> String {
    let KeeperRecord { place, end, fd, index, .. } = *record;
    match record.what {
        keeper::MAPPING => {
            let others = others(more, "mapping");
            format!("mapped at {place:x}-{end:x} ({}){others}", access(record.vm_flags))
        }
        keeper::RING if fd == u32::MAX => {
            format!("registered as file {index} of the io_uring mapped at {place:x}, whose descriptor is closed")
        }
        keeper::RING => format!("registered as file {index} of io_uring fd {fd}"),
        what => {
            let pid = record.process.pid;
            let queue = match what {
                keeper::EMBRYO => "a connection not yet accepted from unix socket",
                _ => "unix socket",
            };
            let load = counted(record.count as usize, "descriptor");
            let before = match index {
                0 => String::new(),
                n => format!(", behind {}", counted(n as usize, "message")),
            };
            let others = others(more, "message");
            format!("queued in {queue} inode {place} of pid {pid}, {load}; the socket is its fd {fd}{before}{others}")
        }
    }
}

fn access(flags: u64) -> String {
    let rights = match (flags & READ != 0, flags & WRITE != 0) {
        (true, true) => "read-write",
        (true, false) => "read-only",
        (false, true) => "write-only",
        (false, false) => "no access",
    };
    let executable = if flags & EXEC != 0 { ", executable" } else { "" };
    let sharing = if flags & SHARED != 0 { "shared" } else { "private" };
    format!("{rights}{executable}, {sharing}")
}

fn others(more: usize, what: &str) -> String {
    if more == 0 { String::new() } else { format!(", and {} more", counted(more, what)) }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use lockwatch_common::ProcessKey;

    use super::*;

    #[test]
    fn says_where_to_look() {
        let record = KeeperRecord {
            process: ProcessKey { start_ns: 1, pid: 4720, pad: 0 },
            file: 7,
            place: 0,
            end: 0,
            vm_flags: 0,
            exe_inode: 0,
            exe_device: 0,
            what: 0,
            fd: 7,
            index: 0,
            count: 1,
            opened: 0,
        };
        let check = |record: KeeperRecord, more, expect| assert_eq!(detail(&record, more), expect);
        let mapping = KeeperRecord { what: keeper::MAPPING, place: 0x7f12_3000, end: 0x7f12_5000, ..record };
        check(KeeperRecord { vm_flags: 0x8b, ..mapping }, 0, "mapped at 7f123000-7f125000 (read-write, shared)");
        check(
            KeeperRecord { vm_flags: 0x5, ..mapping },
            0,
            "mapped at 7f123000-7f125000 (read-only, executable, private)",
        );
        check(mapping, 2, "mapped at 7f123000-7f125000 (no access, private), and 2 mappings more");
        let message = KeeperRecord { what: keeper::MESSAGE, place: 324_666, fd: 5, ..record };
        check(message, 0, "queued in unix socket inode 324666 of pid 4720, 1 descriptor; the socket is its fd 5");
        check(
            KeeperRecord { index: 2, count: 3, ..message },
            1,
            "queued in unix socket inode 324666 of pid 4720, 3 descriptors; the socket is its fd 5, behind 2 messages, \
             and 1 message more",
        );
        check(
            KeeperRecord { what: keeper::EMBRYO, ..message },
            0,
            "queued in a connection not yet accepted from unix socket inode 324666 of pid 4720, 1 descriptor; the socket \
             is its fd 5",
        );
        let ring = KeeperRecord { what: keeper::RING, index: 3, ..record };
        check(ring, 0, "registered as file 3 of io_uring fd 7");
        check(
            KeeperRecord { fd: u32::MAX, place: 0x7f12_3000, ..ring },
            0,
            "registered as file 3 of the io_uring mapped at 7f123000, whose descriptor is closed",
        );
    }
}
