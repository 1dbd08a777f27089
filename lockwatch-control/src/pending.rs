//! Plans that one has confirmed and that wait for a second person.
//!
//! They wait as files that only root can read or write, in a directory of their own. What is in one decides nothing by
//! itself: when the second person comes everything is looked at anew, and only if the plan is still the same, hash and
//! all, it is carried out.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use lockwatch_config::trusted;
use lockwatch_core::text::Text;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, renameat, unlinkat},
    io::Errno,
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::{
    audit::Actor,
    proof,
    protocol::{Approve, Clear},
};

/// How long one waits.
pub const WAITS: Duration = Duration::from_secs(600);

/// So many wait at once, and no more.
const MOST: usize = 64;

/// No file is longer.
const LONGEST: u64 = 64 << 10;

/// A plan that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// The hash of the plan ([`crate::proof::Proof::hex`]), and the name of the file.
    pub hash: String,
    /// The code that is cut from it.
    pub code: String,
    /// The lock's whole ID.
    pub id: String,
    /// What was asked for.
    pub request: Clear,
    /// Who asked, and confirmed.
    pub first: Actor,
    /// When, in nanoseconds since boot, so that setting the wall clock neither lengthens nor shortens it.
    pub since_boot_ns: u64,
}

/// What is there for the second person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This plan, which does not wait any more.
    Taken(Box<Waiting>),
    /// It is the first one's own: it goes on waiting for somebody else.
    Own(Box<Waiting>),
    /// Nothing with this ID and this code waits, or not any more.
    Nothing,
}

/// The directory in which they wait.
#[derive(Debug)]
pub struct Pending {
    dir: OwnedFd,
}

impl Waiting {
    /// A plan that was confirmed just now.
    pub fn new(hash: &str, code: &str, id: &str, request: Clear, first: Actor) -> Self {
        let [hash, code, id] = [hash, code, id].map(str::to_owned);
        Self { hash, code, id, request, first, since_boot_ns: now() }
    }

    /// How long it goes on waiting.
    pub fn left(&self) -> Duration {
        self.left_at(now())
    }

    fn left_at(&self, now: u64) -> Duration {
        // What began after now was not put down since this host was booted.
        let waited = now.checked_sub(self.since_boot_ns).map_or(WAITS, Duration::from_nanos);
        WAITS.saturating_sub(waited)
    }

    fn is_sound(&self) -> bool {
        self.hash.len() == 64 && self.hash.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

impl Pending {
    /// Opens the directory, and makes it, and the one in which it is, if they are missing. To be called before the
    /// confinement.
    ///
    /// # Errors
    ///
    /// Others than root could have put something into it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = Text::new(path.as_os_str().as_bytes());
        trusted::make(path.parent().unwrap_or(Path::new("/")), 0o755)?;
        let dir = trusted::make(path, 0o700)?;
        let mode = Mode::from_raw_mode(fstat(&dir)?.st_mode);
        let others = Mode::RWXG | Mode::RWXO;
        ensure!(!mode.intersects(others), "others than root can see who waits in {shown} (chmod 0700 {shown})");
        Ok(Self { dir })
    }

    /// Has a plan wait, and returns what waits: if the same plan did already, that, with the one who confirmed it first.
    ///
    /// # Errors
    ///
    /// Too many wait, or it cannot be written.
    pub fn put(&self, waiting: Waiting) -> anyhow::Result<Waiting> {
        ensure!(waiting.is_sound(), "a plan without a hash cannot wait");
        let mut all = self.all()?;
        if let Some(at) = all.iter().position(|other| other.hash == waiting.hash) {
            return Ok(all.swap_remove(at));
        }
        ensure!(all.len() < MOST, "{MOST} plans wait for a second person already");
        // Whole or not at all, under a name that nobody reads until then.
        let new = format!(".{}.{}", waiting.hash, std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = || -> anyhow::Result<()> {
            let mut file = File::from(openat(&self.dir, &new, flags, Mode::RUSR | Mode::WUSR)?);
            file.write_all(&serde_json::to_vec(&waiting)?)?;
            Ok(renameat(&self.dir, &new, &self.dir, &waiting.hash)?)
        };
        let written = written();
        if written.is_err() {
            let _ = unlinkat(&self.dir, &new, AtFlags::empty());
        }
        written.context("have a plan wait")?;
        Ok(waiting)
    }

    /// Takes the plan that somebody approves of: of several who come for it at once, one gets it.
    ///
    /// # Errors
    ///
    /// What waits cannot be read.
    pub fn take(&self, approve: &Approve, second: u32) -> anyhow::Result<Found> {
        let fits =
            |waiting: &Waiting| waiting.id.starts_with(&approve.id) && proof::is_same(&waiting.code, &approve.code);
        let Some(waiting) = self.all()?.into_iter().find(fits).map(Box::new) else { return Ok(Found::Nothing) };
        if waiting.first.uid == second {
            return Ok(Found::Own(waiting));
        }
        match unlinkat(&self.dir, &waiting.hash, AtFlags::empty()) {
            Ok(()) => Ok(Found::Taken(waiting)),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(error) => Err(error).context("take a plan that waits"),
        }
    }

    /// Everything that waits. What has waited too long is taken away.
    ///
    /// # Errors
    ///
    /// The directory or a file in it cannot be read, or is not as it was written.
    pub fn all(&self) -> anyhow::Result<Vec<Waiting>> {
        self.all_at(now())
    }

    fn all_at(&self, now: u64) -> anyhow::Result<Vec<Waiting>> {
        let entries = openat(&self.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let entries: Result<Vec<_>, _> = entries.and_then(Dir::read_from).and_then(Iterator::collect);
        let entries = entries.context("list what waits for a second person")?;
        let names = entries.iter().map(|entry| entry.file_name().to_bytes()).filter(|name| !name.starts_with(b"."));
        let mut all = Vec::new();
        for name in names {
            let Some(waiting) = self.read(OsStr::from_bytes(name))? else { continue };
            if waiting.left_at(now).is_zero() {
                let _ = unlinkat(&self.dir, &waiting.hash, AtFlags::empty());
            } else {
                all.push(waiting);
            }
        }
        all.sort_by_key(|waiting| waiting.since_boot_ns);
        Ok(all)
    }

    fn read(&self, name: &OsStr) -> anyhow::Result<Option<Waiting>> {
        let shown = Text::new(name.as_bytes());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            // Another has just taken it.
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("open what waits as {shown}")),
        };
        let stat = fstat(&file)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        ensure!(is_file && stat.st_uid == 0, "what waits as {shown} is no file of root's");
        let mut text = Vec::new();
        File::from(file).take(LONGEST).read_to_end(&mut text).with_context(|| format!("read what waits as {shown}"))?;
        let waiting: Waiting = serde_json::from_slice(&text).with_context(|| format!("read what waits as {shown}"))?;
        if !waiting.is_sound() || waiting.hash.as_bytes() != name.as_bytes() {
            bail!("what waits as {shown} goes by another name");
        }
        Ok(Some(waiting))
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
    };

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn actor(uid: u32) -> Actor {
        Actor { uid, pid: 7, comm: Some("lockwatch".into()), tty: None }
    }

    fn waiting(id: &str, code: &str, uid: u32) -> Waiting {
        let hash = format!("{}{:02x}", &HASH[..62], code.as_bytes()[0]);
        Waiting::new(&hash, code, id, Clear { id: id.into(), ..Clear::default() }, actor(uid))
    }

    /// An empty room, if we are root.
    fn room() -> Option<(tempfile::TempDir, Pending)> {
        if !rustix::process::geteuid().is_root() {
            println!("LEFT OUT: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let pending = Pending::open(&dir.path().join("pending")).unwrap();
        Some((dir, pending))
    }

    fn approve(id: &str, code: &str) -> Approve {
        Approve { id: id.into(), code: code.into() }
    }

    #[test]
    fn only_another_user_takes_what_waits_and_only_once() {
        let Some((dir, pending)) = room() else { return };
        let first = pending.put(waiting("f3k9-27qd", "07xk-23mt", 1000)).unwrap();
        assert_eq!(pending.put(waiting("f3k9-27qd", "07xk-23mt", 1001)).unwrap(), first, "it was there already");
        pending.put(waiting("zzzz-0000", "zzzz-0001", 1000)).unwrap();
        let file = fs::metadata(dir.path().join("pending").join(&first.hash)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        let check = |id: &str, code: &str, uid, expect: Found| {
            assert_eq!(pending.take(&approve(id, code), uid).unwrap(), expect, "{id} {code} {uid}");
        };
        let boxed = || Box::new(first.clone());
        check("f3k9-27qd", "07xk-23mt", 1000, Found::Own(boxed()));
        check("f3k9-27qd", "zzzz-0001", 1001, Found::Nothing);
        check("f3k9-27qx", "07xk-23mt", 1001, Found::Nothing);
        check("f3k9-27qd", "", 1001, Found::Nothing);
        check("f3", "O7XK23MT", 1001, Found::Taken(boxed()));
        check("f3", "07xk-23mt", 1001, Found::Nothing);
        check("f3", "07xk-23mt", 1000, Found::Nothing);
        assert_eq!(pending.all().unwrap().len(), 1);
    }

    #[test]
    fn nothing_waits_longer_than_it_may() {
        let Some((dir, pending)) = room() else { return };
        let put = pending.put(waiting("f3k9", "07xk-23mt", 1000)).unwrap();
        let after = |seconds: u64| put.since_boot_ns + seconds * 1_000_000_000;
        assert_eq!(put.left_at(after(590)), Duration::from_secs(10));
        // The number of another boot.
        assert_eq!(put.left_at(put.since_boot_ns - 1), Duration::ZERO);
        assert_eq!(pending.all_at(after(599)).unwrap(), std::slice::from_ref(&put));
        assert_eq!(pending.all_at(after(600)).unwrap(), []);
        assert_eq!(fs::read_dir(dir.path().join("pending")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused() {
        let Some((dir, pending)) = room() else { return };
        let path = dir.path().join("pending").join(HASH);
        let check = |expect: &str| {
            let error = format!("{:#}", pending.take(&approve("f3k9", "07xk-23mt"), 0).unwrap_err());
            assert!(error.contains(expect), "{error}");
            fs::remove_file(&path).unwrap();
        };
        fs::write(&path, "{").unwrap();
        check("EOF while parsing");
        fs::write(&path, serde_json::to_vec(&waiting("f3k9", "07xk-23mt", 1)).unwrap()).unwrap();
        check("goes by another name");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        check("open what waits as");
        fs::write(&path, "{}").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        check("is no file of root's");
        assert!(pending.put(Waiting { hash: "../x".into(), ..waiting("f3k9", "c", 1) }).is_err());
    }

    #[test]
    fn a_room_is_roots_alone_and_has_an_end() {
        let Some((dir, pending)) = room() else { return };
        let path = dir.path().join("pending");
        let numbered = |n: usize| Waiting { hash: format!("{}{n:02x}", &HASH[..62]), ..waiting("f3k9", "c", 1) };
        (0..MOST).for_each(|n| drop(pending.put(numbered(n)).unwrap()));
        assert!(pending.put(numbered(MOST)).unwrap_err().to_string().starts_with("64 plans wait"));
        let check = |mode, expect: &str| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(Pending::open(&path).unwrap_err().to_string().contains(expect));
        };
        check(0o770, "others than root can write to");
        check(0o750, "others than root can see who waits in");
        check(0o701, "others than root can see who waits in");
        assert!(Pending::open(&dir.path().join("a/b/pending")).is_err());
    }
}
