//! A document of locks (schema lockwatch.locks/1), read back into the report that it was written from.

use anyhow::{Context, Result, ensure};
use lockwatch_core::report::{Host, Report, SourceState, SourceStatus};
use serde::Deserialize;

use super::{
    lock::Lock,
    words::{text, time, word},
};

#[derive(Deserialize)]
struct Document {
    schema: String,
    taken_at: String,
    host: Machine,
    sources: Vec<Source>,
    exact: bool,
    warnings: Vec<String>,
    locks: Vec<Lock>,
}

#[derive(Deserialize)]
struct Machine {
    hostname: String,
    hostname_base64: Option<String>,
    kernel: String,
    boot_id: String,
}

#[derive(Deserialize)]
struct Source {
    name: String,
    state: String,
    reason: Option<String>,
}

/// Everything that can be printed is as it was. What only judgements depend on stands in no document: file tables,
/// parents, threads.
pub fn read(text: &[u8]) -> Result<Report> {
    let document: Document = serde_json::from_slice(text).context("understand its answer")?;
    ensure!(document.schema == "lockwatch.locks/1", "it answers with {:?}, of which I know nothing", document.schema);
    document.read()
}

impl Document {
    fn read(self) -> Result<Report> {
        Ok(Report {
            taken_at: time(&self.taken_at)?,
            host: Host {
                hostname: text(&self.host.hostname, self.host.hostname_base64.as_deref())?,
                kernel: text(&self.host.kernel, None)?,
                boot_id: self.host.boot_id,
            },
            sources: self.sources.iter().map(Source::read).collect::<Result<_>>()?,
            exact: self.exact,
            warnings: self.warnings,
            locks: self.locks.into_iter().map(Lock::read).collect::<Result<_>>()?,
        })
    }
}

impl Source {
    fn read(&self) -> Result<SourceStatus> {
        Ok(SourceStatus {
            name: word(&["bpf", "procfs"], |name| name, &self.name)?,
            state: word(&SourceState::ALL, SourceState::name, &self.state)?,
            reason: self.reason.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use lockwatch_core::{
        lock::{Breaking, Kind, Mode},
        observation::{FileSeen, Via},
        process::{Death, Exit, Life, Process, ProcessId, Raised, Runtime},
        report::{Holder, LockReport},
        timeline::{Moment, What},
    };

    use super::*;
    use crate::{
        fixture,
        output::{
            explain,
            graph::{self, Drawn, Form},
            json, table,
        },
    };

    fn written(report: &Report) -> String {
        fixture::written(|out| json::write(report, &fixture::options(), out))
    }

    /// A lock with everything that the fixtures have not.
    fn odd() -> LockReport {
        let raised = [None, Some(Raised::Itself), Some(Raised::Kernel)];
        let exit = |raised| Exit::Signal { signal: 6, core_dumped: true, sender: None, oom: true, raised };
        let reused = Some(ProcessId { pid: 1, start: None });
        let died = |exit| Life::Dead(Death { at: Some(fixture::ago(9)), exit, number_reused_by: reused });
        let who = Process {
            life: died(Some(exit(raised[1]))),
            runtime: Some(Runtime::CriO),
            pod: Some("pod".into()),
            slice: Some("a.slice".into()),
            user_unit: Some("app.service".into()),
            inner_pid: Some(7),
            ..fixture::process(1, "odd")
        };
        let moment = |number, what, who: &Process| Moment {
            at: fixture::ago(20 - number),
            what,
            who: Some(Arc::new(who.clone())),
            waited: (number > 2).then_some(Duration::from_nanos(number)),
            number,
        };
        let nameless = Process { comm: None, ..who.clone() };
        let moments =
            What::ALL.iter().zip(0..).map(|(what, n)| moment(n, *what, if n % 2 == 0 { &who } else { &nameless }));
        LockReport {
            kind: Kind::Lease,
            mode: Mode::Read,
            file_seen: Arc::new(FileSeen {
                path_of: Some(12),
                deleted: true,
                label: Some("memfd:x".into()),
                ..FileSeen::clone(&fixture::ghost().file_seen)
            }),
            breaking: Some(Breaking { to: Some(Mode::Read), deadline: Some(fixture::ago(1)) }),
            holders: Via::ALL
                .map(|via| Holder {
                    process: None,
                    via,
                    fd: None,
                    cloexec: None,
                    opened: None,
                    detail: Some("d".into()),
                })
                .to_vec(),
            history: moments.collect(),
            acquirer: Some(Arc::new(who)),
            ..fixture::ghost()
        }
    }

    fn reports() -> Vec<Report> {
        let unknown = Process { life: Life::Unknown("nobody may look".into()), ..fixture::process(2, "x") };
        let mut odd = vec![odd(), odd()];
        odd[1].acquirer = Some(Arc::new(unknown));
        odd[1].breaking = Some(Breaking { to: None, deadline: None });
        Arc::make_mut(&mut odd[1].file_seen).deleted = false;
        vec![
            fixture::report(),
            fixture::hostile(),
            Report { locks: odd, exact: false, warnings: vec!["be\u{1b}ware".into()], ..fixture::report() },
            Report { locks: Vec::new(), ..fixture::report() },
        ]
    }

    #[test]
    fn what_was_written_is_read_back() {
        for report in reports() {
            let text = written(&report);
            let again = read(text.as_bytes()).unwrap();
            assert_eq!(written(&again), text);
        }
    }

    #[test]
    fn everything_else_prints_the_same() {
        for report in reports() {
            // Text that is not UTF-8 is whole only in paths and names of commands.
            if report.host.hostname == fixture::hostile().host.hostname {
                continue;
            }
            let again = read(written(&report).as_bytes()).unwrap();
            let check = |write: &dyn Fn(&Report, &mut Vec<u8>) -> std::io::Result<()>| {
                let print = |report: &Report| fixture::written(|out| write(report, out));
                assert_eq!(print(&again), print(&report));
            };
            let options = fixture::options();
            check(&|report, out| table::write(report, &options, out));
            check(&|report, out| explain::write(report, &options, out));
            for form in [Form::Text, Form::Json, Form::Dot] {
                check(&|report, out| {
                    let graph = lockwatch_core::graph::Graph::of_all(report);
                    graph::write(form, &Drawn { graph: &graph, report }, &options, out)
                });
            }
        }
    }

    #[test]
    fn what_is_not_known_here_is_not_guessed() {
        let text = written(&fixture::report());
        let check = |from: &str, to: &str, says: &str| {
            assert!(text.contains(from), "{from}");
            let error = format!("{:#}", read(text.replacen(from, to, 1).as_bytes()).unwrap_err());
            assert!(error.contains(says), "{error}");
        };
        check("lockwatch.locks/1", "lockwatch.locks/2", "\"lockwatch.locks/2\", of which I know nothing");
        check("\"leaked\"", "\"beamed up\"", "\"beamed up\", of which I know nothing");
        check("2026-11-22T03:12:07", "yesterday at 03:12:07", "is no moment");
        check("\"exact\"", "\"inexact\"", "missing field `exact`");
        check("]}", "", "understand its answer");
        assert!(read(&text.as_bytes()[..text.len() / 2]).is_err());
        assert!(read(b"").is_err());
    }

    #[test]
    fn fields_may_be_added() {
        let text = written(&fixture::report()).replace("{\"id\":", "{\"more\":{\"a\":[1]},\"id\":");
        assert_eq!(read(text.as_bytes()).unwrap().locks.len(), 4);
    }
}
