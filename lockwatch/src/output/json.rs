//! `--json`: the document of CONTRACT section 2.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
};

use lockwatch_core::{
    lockfile::LockFile,
    report::{LockReport, Report},
    timeline::Moment,
};

use super::{
    Options,
    document::{Document, LockObject, Memo},
    sort, to_json,
    writer::push_json,
};

/// How many rows are put into words by one thread at a time: their text stays in the processor's cache, and in memory
/// that is used again and again, for the first touch of a page costs more than filling it.
const PORTION: usize = 512;
/// The most threads that are put to it: others want to work too.
const MOST_THREADS: usize = 4;

/// Prints one document and a newline.
pub fn write(report: &Report, options: &Options, out: &mut impl Write) -> io::Result<()> {
    let rows = sort::sorted(&report.locks, options.sort);
    if rows.len() <= PORTION {
        to_json(&Document { report, locks: rows, lock_file: None }, out)?;
        return writeln!(out);
    }
    let (head, tail) = frame(report)?;
    out.write_all(&head)?;
    write_rows(&rows, out)?;
    out.write_all(&tail)
}

/// What stands before the rows of a document, and what behind them.
pub fn frame(report: &Report) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    push_json(&Document { report, locks: Vec::new(), lock_file: None }, &mut head)?;
    // The rows are the document's last member, so it ends with their brackets.
    let mut tail = head.split_off(head.len() - b"]}".len());
    tail.push(b'\n');
    Ok((head, tail))
}

/// Puts one row behind others. Whoever puts many remembers what stands in many of them.
pub fn push_row<'a>(
    lock: &'a LockReport,
    history: &'a [Moment],
    memo: &'a Memo<'a>,
    first: bool,
    text: &mut Vec<u8>,
) -> io::Result<()> {
    if !first {
        text.push(b',');
    }
    push_json(&LockObject::with_history(lock, history, Some(memo)), text)
}

/// Prints the document of a file that carries no lock, and what it is instead.
pub fn write_lock_file(file: &LockFile, report: &Report, out: &mut impl Write) -> io::Result<()> {
    to_json(&Document { report, locks: Vec::new(), lock_file: Some(file) }, out)?;
    writeln!(out)
}

/// Writes many rows, in portions that several threads put into words while those before are written.
fn write_rows(rows: &[&LockReport], out: &mut impl Write) -> io::Result<()> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    thread::scope(|scope| {
        let begin = |nth| {
            // Hand to hand: whoever is ahead of the others waits, and two texts a thread are enough.
            let (tell, told) = mpsc::sync_channel(0);
            let (give_back, spare) = mpsc::channel();
            scope.spawn(move || {
                let portions = rows.chunks(PORTION).skip(nth).step_by(threads);
                // If nobody listens any more, writing has failed.
                let _ = portions
                    .map(|rows| put_into_words(rows, spare.try_recv().unwrap_or_default()))
                    .try_for_each(|text| tell.send(text));
            });
            (told, give_back)
        };
        let threads: Vec<_> = (0..threads).map(begin).collect();
        let mut comma: &[u8] = b"";
        for (_, (told, give_back)) in rows.chunks(PORTION).zip(threads.iter().cycle()) {
            let text = told.recv().map_err(|_| io::Error::other("a writing thread panicked"))??;
            out.write_all(std::mem::replace(&mut comma, b","))?;
            out.write_all(&text)?;
            let _ = give_back.send(text); // it may have no more to write
        }
        Ok(())
    })
}

fn put_into_words(rows: &[&LockReport], mut text: Vec<u8>) -> io::Result<Vec<u8>> {
    text.clear();
    let memo = Memo::default();
    for (i, row) in rows.iter().enumerate() {
        push_row(row, &row.history, &memo, i == 0, &mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::Value;

    use super::*;
    use crate::fixture;

    fn document(report: &Report) -> Value {
        let text = fixture::written(|out| write(report, &fixture::options(), out));
        fixture::assert_harmless(&text);
        serde_json::from_str(&text).expect("valid JSON")
    }

    #[test]
    fn many_rows_are_written_as_few_are() {
        let check = |count: usize| {
            let locks: Vec<_> = fixture::report().locks.into_iter().cycle().take(count).collect();
            let report = Report { locks, ..fixture::report() };
            let whole = Document { report: &report, locks: report.locks.iter().collect(), lock_file: None };
            let expect = fixture::written(|out| to_json(&whole, out)) + "\n";
            // Not assert_eq: nobody wants to read either.
            assert!(fixture::written(|out| write(&report, &fixture::options(), out)) == expect, "{count} rows");
        };
        check(PORTION);
        check(PORTION + 1);
        check(PORTION * (MOST_THREADS + 1) + 2);
    }

    #[test]
    fn one_lock_in_full() {
        let ghost = Report { locks: vec![fixture::ghost()], ..fixture::report() };
        expect![[r#"
            {
              "exact": true,
              "host": {
                "boot_id": "b0071d",
                "hostname": "node-7",
                "kernel": "6.18.44"
              },
              "locks": [
                {
                  "acquired_at": "2026-11-22T03:10:07.123456789Z",
                  "acquirer": {
                    "comm": "locksmith",
                    "container": null,
                    "died_at": "2026-11-22T03:11:07.123456789Z",
                    "exe": "/usr/bin/locksmith",
                    "exit": {
                      "code": null,
                      "core_dumped": false,
                      "oom": false,
                      "raised_by": null,
                      "sender": {
                        "comm": "systemd",
                        "pid": 1
                      },
                      "signal": 9
                    },
                    "inner_pid": null,
                    "pid": 4711,
                    "pid_reused": false,
                    "pod": null,
                    "runtime": null,
                    "slice": null,
                    "start_time": "2026-11-22T02:12:07.123456789Z",
                    "state": "dead",
                    "state_reason": null,
                    "uid": 0,
                    "unit": "locksmith.service",
                    "user_unit": null
                  },
                  "breaking": null,
                  "cause": "leaked",
                  "deadlock": false,
                  "evidence": [
                    "pid 4711 (locksmith) was killed by SIGKILL from pid 1 (systemd) at 2026-11-22 03:11:07 UTC",
                    "pid 4720 (sleep) still has the file open as fd 9, inherited without O_CLOEXEC"
                  ],
                  "file": {
                    "deleted": false,
                    "dev": "fe:00",
                    "fs": "ext4",
                    "inode": 10010672,
                    "label": null,
                    "major": 254,
                    "minor": 0,
                    "path": "/etc/aim/aim_lock.conf",
                    "path_of": null,
                    "reach": null
                  },
                  "holders": [
                    {
                      "cloexec": false,
                      "comm": "sleep",
                      "container": null,
                      "detail": null,
                      "exe": "/usr/bin/sleep",
                      "fd": 9,
                      "inner_pid": null,
                      "pid": 4720,
                      "pod": null,
                      "runtime": null,
                      "slice": null,
                      "start_time": "2026-11-22T02:12:07.123456789Z",
                      "uid": 0,
                      "unit": null,
                      "user_unit": null,
                      "via": "fd"
                    }
                  ],
                  "holders_complete": true,
                  "hot": true,
                  "id": "f3k9-27qd",
                  "kind": "flock",
                  "mode": "write",
                  "range": {
                    "end": null,
                    "start": 0
                  },
                  "verdict": "orphaned",
                  "waiters": [
                    {
                      "behind": [],
                      "comm": "updater",
                      "container": null,
                      "exe": "/usr/bin/updater",
                      "inner_pid": null,
                      "mode": "write",
                      "pid": 4800,
                      "pod": null,
                      "range": {
                        "end": null,
                        "start": 0
                      },
                      "runtime": null,
                      "since": "2026-11-22T03:11:25.123456789Z",
                      "slice": null,
                      "start_time": "2026-11-22T02:12:07.123456789Z",
                      "uid": 0,
                      "unit": null,
                      "user_unit": null
                    }
                  ]
                }
              ],
              "schema": "lockwatch.locks/1",
              "sources": [
                {
                  "name": "bpf",
                  "reason": "no CAP_BPF",
                  "state": "unavailable"
                },
                {
                  "name": "procfs",
                  "reason": null,
                  "state": "ok"
                }
              ],
              "taken_at": "2026-11-22T03:12:07.123456789Z",
              "warnings": []
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&document(&ghost)).unwrap());
    }

    #[test]
    fn what_is_unknown_is_null() {
        let document = document(&fixture::report());
        let lock = &document["locks"][3];
        for unknown in ["/acquirer", "/acquired_at", "/file/path", "/file/deleted", "/file/fs", "/cause", "/range/end"]
        {
            assert_eq!(lock.pointer(unknown), Some(&Value::Null), "{unknown}");
        }
        let waiter = &document["locks"][1]["waiters"][0];
        for unknown in ["pid", "comm", "exe", "uid", "unit", "container", "since"] {
            assert_eq!(waiter.get(unknown), Some(&Value::Null), "{unknown}");
        }
        assert_eq!(waiter["behind"], serde_json::json!([5009]));
    }

    #[test]
    fn hostile_names_come_through_whole() {
        let document = document(&fixture::hostile());
        let lock = &document["locks"][0];
        assert_eq!(lock["file"]["path"], "/tmp/a\nb\u{1b}[2J\u{202e}\u{fffd}\"\\");
        assert_eq!(lock["file"]["path_base64"], "L3RtcC9hCmIbWzJK4oCu/yJc");
        assert_eq!(lock["acquirer"]["comm_base64"], "G10wO3gHDf4=");
        assert_eq!(lock["acquirer"]["exit"]["sender"]["comm_base64"], "Cv8=");
        assert_eq!(lock["waiters"][0]["unit"], "a;rm -rf b\u{202e}.service");
    }
}
