//! What a tool says of one file and its lock, read from its real output. What it does not say stays empty.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{items, pids, verdict};

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Whom it calls the lock's taker or owner, and what it calls that process.
    pub(super) taker: Option<(u32, Called)>,
    /// Whether it says how the taker died.
    pub(super) death: Death,
    /// Who keeps this very lock.
    pub(super) holders: BTreeSet<u32>,
    /// Who has the file open or mapped, locked or not.
    pub(super) users: BTreeSet<u32>,
    /// Who waits for the lock.
    pub(super) waiters: BTreeSet<u32>,
    /// Whether it says for how long.
    pub(super) since: bool,
    /// What it thinks of the lock (`orphaned`).
    pub(super) verdict: Option<String>,
}

/// What a tool calls a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// Dead, in so many words.
    Dead,
    /// A number that no name goes with.
    Nameless,
    /// By its name, as if it were there.
    Alive,
}

/// Whether it is said how a process died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Death {
    #[default]
    Unsaid,
    /// Only by one who watched.
    SaidWhenWatched,
    Said,
}

/// lslocks `--json` with the columns `COMMAND,PID,MODE,INODE,MAJ:MIN` and, where there is one, HOLDERS.
pub(super) fn lslocks(output: &str, (major, minor, inode): (u32, u32, u64)) -> Result<Said> {
    let document: Value = serde_json::from_str(output).context("read lslocks --json")?;
    let device = format!("{major}:{minor}");
    let mut said = Said::default();
    let ours = |row: &&Value| number(&row["inode"]) == Some(inode) && text(&row["maj:min"]).trim() == device;
    for row in items(&document["locks"]).iter().filter(ours) {
        let pid = number(&row["pid"]).and_then(|pid| u32::try_from(pid).ok()).context("a lock without a PID")?;
        if text(&row["mode"]).ends_with('*') {
            said.waiters.insert(pid);
            continue;
        }
        // "PID of the process holding the lock", says lslocks(8).
        let nameless = ["(unknown)", "(undefined)", ""].contains(&text(&row["command"]));
        said.taker = Some((pid, if nameless { Called::Nameless } else { Called::Alive }));
        said.holders.extend((!nameless).then_some(pid));
        // `PID,COMMAND,FD`, each on a line of its own.
        let lines = row["holders"].as_array().map_or_else(|| vec![&row["holders"]], |lines| lines.iter().collect());
        let first = |line: &str| line.split(',').next().and_then(|pid| pid.parse::<u32>().ok());
        said.holders
            .extend(lines.into_iter().flat_map(|text| text.as_str().unwrap_or_default().lines()).filter_map(first));
    }
    Ok(said)
}

/// lsfd `--json` with the columns PID and, where there is one, XMODE, of one file.
pub(super) fn lsfd(output: &str) -> Result<Said> {
    // Nothing at all where no process has the file.
    let document: Value = if output.trim().is_empty() { Value::Null } else { serde_json::from_str(output)? };
    let mut said = Said::default();
    for row in items(&document["lsfd"]) {
        let pid = number(&row["pid"]).and_then(|pid| u32::try_from(pid).ok()).context("a row without a PID")?;
        said.users.insert(pid);
        if text(&row["xmode"]).contains(['l', 'L']) {
            said.holders.insert(pid);
        }
    }
    Ok(said)
}

/// lsof `-F pfl FILE`: a field a line; `l` is the lock's letter, a space where there is none.
pub(super) fn lsof(output: &str) -> Result<Said> {
    let mut said = Said::default();
    let mut process = 0;
    for line in output.lines() {
        match line.split_at_checked(1) {
            Some(("p", pid)) => {
                process = pid.parse().with_context(|| format!("no PID: {line}"))?;
                said.users.insert(process);
            }
            Some(("l", letter)) if !letter.trim().is_empty() => {
                said.holders.insert(process);
            }
            _ => {}
        }
    }
    Ok(said)
}

/// fuser `FILE`, its standard output: numbers. All else is on stderr, with `-v` the columns too.
pub(super) fn fuser(output: &str) -> Result<Said> {
    let users = output.split_whitespace().map(|pid| pid.parse().with_context(|| format!("no PID: {pid}")));
    Ok(Said { users: users.collect::<Result<_>>()?, ..Said::default() })
}

/// lockwatch `list --json FILE`.
pub(super) fn lockwatch(document: &Value, path: &Path) -> Result<Said> {
    let locks = items(&document["locks"]);
    ensure!(locks.len() == 1, "{} locks of {}", locks.len(), path.display());
    let lock = &locks[0];
    let acquirer = &lock["acquirer"];
    let called = match text(&acquirer["state"]) {
        "dead" => Called::Dead,
        "alive" => Called::Alive,
        _ => Called::Nameless,
    };
    let set = |people: &Value| pids(people).into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect();
    let exit = &acquirer["exit"];
    Ok(Said {
        taker: number(&acquirer["pid"]).and_then(|pid| u32::try_from(pid).ok()).map(|pid| (pid, called)),
        death: if exit["signal"].is_null() && exit["code"].is_null() { Death::Unsaid } else { Death::Said },
        holders: set(&lock["holders"]),
        users: BTreeSet::new(),
        waiters: set(&lock["waiters"]),
        since: items(&lock["waiters"]).iter().all(|waiter| waiter["since"].is_string()),
        verdict: verdict(lock).split('/').next().map(str::to_owned),
    })
}

/// A number, which some versions print as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(pids: &[u32]) -> BTreeSet<u32> {
        pids.iter().copied().collect()
    }

    #[test]
    fn lslocks_is_read() {
        let check = |output: &str, expect: Said| assert_eq!(lslocks(output, (254, 0, 77)).unwrap(), expect, "{output}");
        // util-linux 2.38.1: no column HOLDERS, and a dead process has no name.
        let old = r#"{ "locks": [
            {"command":"locker", "pid":12, "mode":"WRITE*", "inode":77, "maj:min":"254:0"},
            {"command":"(unknown)", "pid":10, "mode":"WRITE", "inode":77, "maj:min":"254:0"},
            {"command":"cron", "pid":5, "mode":"WRITE", "inode":77, "maj:min":"0:21"},
            {"command":"cron", "pid":6, "mode":"WRITE", "inode":78, "maj:min":"254:0"} ] }"#;
        let waiters = set(&[12]);
        check(old, Said { taker: Some((10, Called::Nameless)), waiters: waiters.clone(), ..Said::default() });
        // 2.41: a holder stands in for a dead process, and all are in HOLDERS.
        let new = r#"{ "locks": [
            {"command":"locker", "pid":12, "mode":"WRITE*", "inode":77, "maj:min":"254:0", "holders":null},
            {"command":"sleep", "pid":11, "mode":"WRITE", "inode":77, "maj:min":"254:0", "holders":["11,sleep,9","14,sh,9"]} ] }"#;
        let holders = set(&[11, 14]);
        check(new, Said { taker: Some((11, Called::Alive)), holders, waiters, ..Said::default() });
        check(r#"{"locks":[]}"#, Said::default());
        lslocks("lslocks: bad", (254, 0, 77)).unwrap_err();
    }

    #[test]
    fn lsfd_is_read() {
        let check = |output: &str, holders: &[u32], users: &[u32]| {
            let expect = Said { holders: set(holders), users: set(users), ..Said::default() };
            assert_eq!(lsfd(output).unwrap(), expect, "{output}");
        };
        check(r#"{ "lsfd": [ {"pid":11,"mode":"rw-"}, {"pid":13,"mode":"rw-"} ] }"#, &[], &[11, 13]);
        check(r#"{ "lsfd": [ {"pid":11,"xmode":"rw--L-"}, {"pid":13,"xmode":"rw-D--"} ] }"#, &[11], &[11, 13]);
        check("", &[], &[]);
    }

    #[test]
    fn lsof_is_read() {
        let check = |output: &str, holders: &[u32], users: &[u32]| {
            let expect = Said { holders: set(holders), users: set(users), ..Said::default() };
            assert_eq!(lsof(output).unwrap(), expect, "{output}");
        };
        check("p11\nf9\nl \np13\nfmem\nf3\nlW\n", &[13], &[11, 13]);
        check("", &[], &[]);
    }

    #[test]
    fn fuser_is_read() {
        assert_eq!(fuser(" 11 13").unwrap(), Said { users: set(&[11, 13]), ..Said::default() });
        assert_eq!(fuser("").unwrap(), Said::default());
        fuser("11e").unwrap_err();
    }

    #[test]
    fn lockwatch_is_read() {
        let document = |exit: Value| {
            json!({ "locks": [ {
                "acquirer": { "pid": 10, "state": "dead", "exit": exit },
                "holders": [ { "pid": 11 } ], "waiters": [ { "pid": 12, "since": "2026-11-22T03:12:07Z" } ],
                "verdict": "orphaned", "cause": "leaked",
            } ] })
        };
        let expect = Said {
            taker: Some((10, Called::Dead)),
            death: Death::Said,
            holders: set(&[11]),
            waiters: set(&[12]),
            since: true,
            verdict: Some("orphaned".into()),
            ..Said::default()
        };
        let read = |exit| lockwatch(&document(exit), Path::new("/a")).unwrap();
        assert_eq!(read(json!({ "signal": 9, "code": null })), expect);
        assert_eq!(read(Value::Null), Said { death: Death::Unsaid, ..expect });
        lockwatch(&json!({ "locks": [] }), Path::new("/a")).unwrap_err();
    }
}
