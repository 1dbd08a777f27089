//! Telling nfsd to forget a client.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use lockwatch_core::{clear::Case, lock::Kind};
use lockwatch_sys::procdir::ProcDir;
use rustix::fs::OFlags;

use super::{Acted, Failure};

/// Expires the one client that has the lock, and with it all that it has. `root` is nfsd's directory of clients (Linux
/// 5.3).
///
/// nfsd tells files, not ranges, and still lists who has given its lock back (fs/nfsd/nfs4state.c nfs4_show_lock, 6.18).
/// So if several clients are listed, it cannot be told whose lock it is, and none is expired.
pub(super) fn clients(root: &Path, case: &Case) -> Result<Acted, Failure> {
    let list = ProcDir::open(root).and_then(|dir| dir.numbers("."));
    let list = list.with_context(|| format!("list the NFS server's clients in {}", root.display()))?;
    let mut theirs = Vec::new();
    for number in list {
        match Client::open(root, number).and_then(|client| Ok((client.has_the_lock(case)?, client))) {
            Ok((true, client)) => theirs.push(client),
            Ok((false, _)) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(anyhow!(error).context(format!("look at client {number}")).into()),
        }
    }
    match theirs.as_slice() {
        [] => Failure::changed("no client of the NFS server has the lock any more"),
        [client] => client.expire(case),
        several => {
            let numbers: Vec<_> = several.iter().map(|client| client.number.to_string()).collect();
            let clients = numbers.join(" and ");
            Err(anyhow!(
                "clients {clients} of the NFS server have locks on the file: which has this one cannot be told"
            )
            .into())
        }
    }
}

/// One client's directory, kept open: it stays this client's.
struct Client {
    number: u32,
    path: PathBuf,
    dir: ProcDir,
}

impl Client {
    fn open(root: &Path, number: u32) -> io::Result<Self> {
        let path = root.join(number.to_string());
        Ok(Self { number, dir: ProcDir::open(&path)?, path })
    }

    /// Whether its states name the file, with a lock or a delegation.
    fn has_the_lock(&self, case: &Case) -> io::Result<bool> {
        let kind = match case.kind {
            Kind::Lease | Kind::Delegation => "deleg",
            Kind::Flock | Kind::Posix | Kind::Ofd => "lock",
        };
        let states = self.dir.read("states")?;
        Ok(states.split(|b| *b == b'\n').any(|line| state(line) == Some((kind, &case.file.to_string()))))
    }

    fn expire(&self, case: &Case) -> Result<Acted, Failure> {
        let file = self.dir.open_file("ctl", OFlags::WRONLY | OFlags::NOFOLLOW);
        let file = file.with_context(|| format!("open {}", self.path.join("ctl").display()))?;
        // These seven bytes in one go, or EINVAL (fs/nfsd/nfs4state.c client_ctl_write). It returns when the client's
        // locks are gone.
        let written = rustix::io::write(file, b"expire\n");
        written.with_context(|| format!("write to {}", self.path.join("ctl").display()))?;
        let gone = self.has_the_lock(case).is_ok_and(|has| !has) || !self.path.exists();
        let words = vec![format!("told the NFS server to expire client {}", self.number)];
        Ok(Acted { words, duplicate_held: None, gone })
    }
}

/// Type and file of a line such as `- 0x…: { type: lock, superblock: "fe:00:7", filename: "a/b", owner: "…" }`. The
/// file's name may hold anything, and comes last.
fn state(line: &[u8]) -> Option<(&str, &str)> {
    let end = line.windows(9).position(|part| part == b"filename:").unwrap_or(line.len());
    let line = str::from_utf8(&line[..end]).ok()?;
    let (_, rest) = line.strip_prefix("- 0x")?.split_once(": { type: ")?;
    let (kind, rest) = rest.split_once(',')?;
    let (_, rest) = rest.split_once("superblock: \"")?;
    Some((kind, rest.split_once('"')?.0))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::hands::samples::ghost;

    const OURS: &str = "- 0x01: { type: lock, superblock: \"fe:00:7\", filename: \"a/b\", owner: \"x\" }\n";
    const OPEN: &str = "- 0x02: { type: open, access: rw, deny: --, superblock: \"fe:00:7\", filename: \"a/b\" }\n";
    const OTHER: &str = "- 0x03: { type: lock, superblock: \"fe:00:77\", filename: \"superblock: \"fe:00:7\"\" }\n";
    const DELEGATION: &str = "- 0x04: { type: deleg, access: r, superblock: \"fe:00:7\", filename: \"a/b\" }\n";

    /// Clients with these states, what came of it, and who was told to go.
    fn check(kind: Kind, states: &[&str], expect: Result<u32, &str>) {
        let root = tempfile::tempdir().unwrap();
        for (n, states) in states.iter().enumerate() {
            let dir = root.path().join(n.to_string());
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("states"), states).unwrap();
            fs::write(dir.join("ctl"), "").unwrap();
        }
        let done = clients(root.path(), &Case { kind, ..ghost() });
        match (&done, expect) {
            (Ok(acted), Ok(number)) => {
                // This tree does not react: the state is still there.
                assert!(!acted.gone);
                assert_eq!(acted.words, [format!("told the NFS server to expire client {number}")]);
            }
            (Err(failure), Err(why)) => assert!(failure.to_string().contains(why), "{failure}"),
            _ => panic!("{done:?} instead of {expect:?}"),
        }
        for n in 0..states.len() {
            let written = fs::read_to_string(root.path().join(n.to_string()).join("ctl")).unwrap();
            let told = expect.is_ok_and(|number| number as usize == n);
            assert_eq!(written, if told { "expire\n" } else { "" });
        }
    }

    #[test]
    fn the_client_with_the_lock_is_expired_and_no_other() {
        check(Kind::Posix, &[&[OPEN, OTHER].concat(), &[OPEN, OURS].concat(), ""], Ok(1));
        check(Kind::Delegation, &[DELEGATION, OURS], Ok(0));
    }

    #[test]
    fn in_doubt_nobody_is() {
        check(Kind::Posix, &[OTHER, OPEN, DELEGATION], Err("has the lock any more"));
        check(Kind::Posix, &[OURS, OURS], Err("cannot be told"));
        let none = clients(Path::new("/nonexistent"), &ghost());
        assert!(matches!(none, Err(Failure::Failed(_))), "{none:?}");
    }

    #[test]
    fn a_name_cannot_pass_for_a_state() {
        assert_eq!(state(OTHER.as_bytes()), Some(("lock", "fe:00:77")));
        assert_eq!(state(b"- 0x05: { type: lock, owner: \"x\" }"), None);
        assert_eq!(state(b"junk: { type: lock, superblock: \"fe:00:7\" }"), None);
    }
}
