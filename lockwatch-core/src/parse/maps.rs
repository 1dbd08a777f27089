//! `/proc/PID/maps`: what a process has mapped into its memory.

use crate::lock::{Device, FileId};

/// A piece of memory with a file behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The addresses as the kernel prints them: `7f0c8a000000-7f0c8a001000`.
    pub addresses: &'a str,
    /// What may be done with it, and whether it is shared: `rw-s`.
    pub access: &'a str,
    /// The file.
    pub file: FileId,
    /// Its name.
    pub name: &'a [u8],
}

/// Reads one line; `None` for memory without a file, and for what cannot be read.
///
/// Device and inode are those of the superblock (`show_map_vma` in fs/proc/task_mmu.c, 6.18), as in `/proc/locks`, and
/// unlike those of stat(2). A sample:
///
/// ```text
/// 7fc249d29000-7fc249d2a000 rw-s 00000000 fe:00 10010661                   /run/lock
/// ```
pub fn parse_line(line: &[u8]) -> Option<Mapping<'_>> {
    let mut rest = line;
    let mut column = || {
        let end = rest.iter().position(|b| *b == b' ')?;
        let (column, after) = rest.split_at(end);
        rest = &after[1..];
        str::from_utf8(column).ok()
    };
    let (addresses, access, _offset, device) = (column()?, column()?, column()?, column()?);
    let (major, minor) = device.split_once(':')?;
    let device = Device { major: u32::from_str_radix(major, 16).ok()?, minor: u32::from_str_radix(minor, 16).ok()? };
    let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
    let inode = str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let name = rest[end..].trim_ascii_start();
    (inode != 0).then_some(Mapping { addresses, access, file: FileId { device, inode }, name })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_files_only() {
        let check = |line: &str, expect: Option<(u32, u64, &str)>| {
            let found = parse_line(line.as_bytes());
            let found = found.map(|m| (m.file.device.minor, m.file.inode, str::from_utf8(m.name).unwrap()));
            assert_eq!(found, expect, "{line}");
        };
        check("7f00-7f01 rw-s 00000000 fe:0a 77                   /a b (deleted)", Some((10, 77, "/a b (deleted)")));
        check(
            "7f00-7f01 rw-s 00000000 00:10 2181112   anon_inode:[io_uring]",
            Some((16, 2181112, "anon_inode:[io_uring]")),
        );
        check("7f00-7f01 rw-p 00000000 fe:00 7", Some((0, 7, "")));
        check("7ffc9d3c8000-7ffc9d3e9000 rw-p 00000000 00:00 0                          [stack]", None);
        check("7f00-7f01 rw-p 00000000 00:00 0 ", None);
        check("7f00-7f01 rw-p 00000000 zz:00 7 /x", None);
        check("junk", None);
        let mapping = parse_line(b"7f00-7f01 rw-s 00000000 fe:0a 77   /x").unwrap();
        assert_eq!((mapping.addresses, mapping.access), ("7f00-7f01", "rw-s"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse_line(&bytes);
        }
    }
}
