//! `metrics`: what one look tells, for hosts without an agent.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process,
};

use anyhow::{Context, Result};
use lockwatch_core::text::Text;

use super::print;
use crate::{
    agent::{metrics, numbers::Looked},
    exit::Exit,
    look::look,
    request::Request,
};

/// The name that node_exporter's textfile collector reads: anything that ends so.
const NAME: &str = "lockwatch.prom";

/// Looks, and prints the page or writes it into that directory.
pub fn run(request: &Request, textfile: Option<&Path>) -> Result<Exit> {
    let page = metrics::page_of_look(Looked::of(&look(request)?)).context("make the page")?;
    match textfile {
        None => print(|out| out.write_all(page.as_bytes())),
        Some(dir) => {
            let shown = Text::new(dir.join(NAME).as_os_str().as_encoded_bytes());
            replace(dir, &page).with_context(|| format!("write {shown}"))?;
            Ok(Exit::Done)
        }
    }
}

/// A reader finds the old page or the new one, also after a crash.
fn replace(dir: &Path, page: &str) -> io::Result<()> {
    // The collector does not read it under this name.
    let draft = dir.join(format!(".{NAME}.{}", process::id()));
    let written = write(&draft, page).and_then(|()| fs::rename(&draft, dir.join(NAME)));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.and_then(|()| File::open(dir)?.sync_all())
}

fn write(draft: &Path, page: &str) -> io::Result<()> {
    // Of a process of our number that was killed. Whatever it is, it is not followed.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(page.as_bytes())?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_not_known_is_not_there() {
        let check = |change: fn(&mut lockwatch_core::report::Report), orphan: Option<&str>, waiter: Option<&str>| {
            let mut report = fixture::report();
            report.locks.truncate(1);
            change(&mut report);
            let page = metrics::page_of_look(Looked::of(&report)).unwrap();
            let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            assert_eq!(value("lockwatch_oldest_orphan_seconds"), orphan, "{page}");
            assert_eq!(value("lockwatch_oldest_waiter_seconds"), waiter, "{page}");
            assert!(value("lockwatch_waiters{kind=\"flock\"}").is_some(), "{page}");
            assert!(value("lockwatch_state_exact").is_some(), "{page}");
        };
        check(|_| {}, Some("60.0"), Some("42.0"));
        check(|report| report.locks.clear(), Some("0.0"), Some("0.0"));
        check(|report| report.locks[0].acquirer = None, None, Some("42.0"));
        check(|report| report.locks[0].waiters[0].since = None, Some("60.0"), None);
    }

    #[test]
    fn a_page_replaces_another_whole_and_readable() {
        let dir = tempfile::tempdir().unwrap();
        for page in ["a much longer page\n", "b\n"] {
            replace(dir.path(), page).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), page);
        }
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("missing"), "c\n").is_err());
    }

    #[test]
    fn nothing_stays_of_what_could_not_be_put_in_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        assert!(replace(dir.path(), "x\n").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
