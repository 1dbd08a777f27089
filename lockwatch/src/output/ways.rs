//! What a human can do about a lock, with lockwatch and with the tools of the host, and what that costs.

use lockwatch_core::{
    clear::Method,
    observation::Via,
    report::{Cause, LockReport, Verdict},
};

use super::words;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// The line to type, if there is one.
    pub(crate) command: Option<String>,
    /// What it does, and what it costs.
    pub(crate) what: String,
}

/// What can be done, the least harmful first.
pub(crate) fn ways(lock: &LockReport) -> Vec<Way> {
    match lock.verdict {
        _ if lock.deadlock => vec![break_cycle(lock)],
        Verdict::Held | Verdict::HandedOver if lock.waiters.is_empty() => Vec::new(),
        Verdict::Held | Verdict::HandedOver => vec![watch(lock)],
        Verdict::Unknown => vec![Way {
            command: Some("lockwatch doctor".to_owned()),
            what: "tells what lockwatch cannot see here, and how to mend it. Do not end anybody on a guess.".to_owned(),
        }],
        Verdict::Orphaned => orphaned(lock),
    }
}

/// The next command to type.
pub(crate) fn next(lock: &LockReport, ways: &[Way]) -> String {
    let fallback = || watch(lock).command.unwrap_or_else(|| "lockwatch list".to_owned());
    ways.iter().find_map(|way| way.command.clone()).unwrap_or_else(fallback)
}

fn orphaned(lock: &LockReport) -> Vec<Way> {
    let mut ways: Vec<_> = clear(lock).into_iter().collect();
    let via = |wanted: Via| lock.holders.iter().any(|h| h.via == wanted);
    if via(Via::Kernel) || lock.cause == Some(Cause::Kernel) {
        ways.push(Way {
            command: Some("losetup -a; swapon --show".to_owned()),
            what: "shows which loop device or swap file uses the file. Then `losetup -d` or `swapoff` it: whatever is \
                   mounted from it must be unmounted first."
                .to_owned(),
        });
    }
    if via(Via::Remote) || lock.cause == Some(Cause::Remote) {
        ways.push(Way {
            command: Some("grep -H . /proc/fs/nfsd/clients/*/info".to_owned()),
            what:
                "shows the NFS clients. Then `echo expire` into the `ctl` beside the one that is gone: it loses every \
                   lock and open file it has on this server."
                    .to_owned(),
        });
    }
    if lock.holders.iter().any(|h| h.process.is_some()) {
        ways.extend(restart(lock));
        ways.push(kill(lock));
    }
    if ways.is_empty() {
        ways.push(Way {
            command: Some("lockwatch doctor".to_owned()),
            what: "tells why nothing that keeps the lock alive could be seen.".to_owned(),
        });
    }
    ways.push(Way {
        command: None,
        what:
            "Do not delete or replace the file: whoever opens it afterwards locks another file, and two will work at \
               once."
                .to_owned(),
    });
    ways
}

/// lockwatch's own way, where it has one: the guards are its business.
fn clear(lock: &LockReport) -> Option<Way> {
    let method = Method::least(lock)?;
    let id = &lock.id;
    let what = match method {
        Method::Release => "releases it and ends nobody: those who keep the file open go on, without the lock.",
        Method::Terminate | Method::Kill => "asks those who keep it to end: nothing less helps here.",
        Method::ExpireClient => "has the NFS server forget the client, with every lock and open file that it has.",
    };
    let what = format!("{what} It shows its plan first and asks; what is in doubt is refused.");
    Some(Way { command: Some(format!("lockwatch clear {id}")), what })
}

/// The unit that all holders belong to can be restarted by its manager, which knows how to stop it.
fn restart(lock: &LockReport) -> Option<Way> {
    let mut units = lock.holders.iter().map(|h| h.process.as_ref()?.unit.as_ref());
    let unit = units.next()??;
    let is_service = unit.as_bytes().ends_with(b".service") && units.all(|other| other == Some(unit));
    // The keepers of a login are a unit too, and much more than the keepers of this lock.
    let alone = is_service && !unit.as_bytes().starts_with(b"user@");
    let word = words::shell_word(unit).filter(|_| alone)?;
    Some(Way {
        command: Some(format!("systemctl restart {word}")),
        what: format!("stops everything in {unit}, the keepers of the lock included, and starts it again."),
    })
}

fn kill(lock: &LockReport) -> Way {
    let mut pids: Vec<u32> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for process in lock.holders.iter().filter_map(|h| h.process.as_deref()) {
        if !pids.contains(&process.id.pid) {
            pids.push(process.id.pid);
            names.push(process.to_string());
        }
    }
    if pids.contains(&1) {
        let what = "pid 1 is among those who keep it, and must not be ended: only a reboot is sure to release it.";
        return Way { command: None, what: what.to_owned() };
    }
    let how = match lock.cause {
        Some(Cause::Mapped) => " Nothing less helps against a memory mapping.",
        Some(Cause::InFlight) => " The message goes with the socket; whatever else is queued there is lost too.",
        Some(Cause::IoUring) => " Nothing less is known to help against a file registered with io_uring.",
        Some(Cause::SharedFiles) => " It shares its descriptors with the dead process: closing one closes it for both.",
        _ => "",
    };
    let (they, all) = if pids.len() == 1 { ("it", "") } else { ("they", "; all of them must go") };
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    Way {
        command: Some(format!("kill {}", pids.join(" "))),
        what: format!(
            "asks {} to end{all}, and the kernel drops the lock.{how} Lost: what {they} did not write yet, and every \
             other lock and connection {they} had. A process that ignores SIGTERM needs `kill -9`, and cannot clean up.",
            words::list(&names)
        ),
    }
}

fn watch(lock: &LockReport) -> Way {
    let by_path = words::path_here(&lock.file_seen).as_ref().and_then(words::shell_word);
    let holder = || lock.holders.iter().find_map(|h| h.process.as_ref());
    let command = match by_path {
        Some(path) => format!("lockwatch trace --path {path}"),
        None => match lock.acquirer.as_ref().or_else(holder) {
            Some(process) => format!("lockwatch trace --pid {}", process.id.pid),
            None => "lockwatch trace".to_owned(),
        },
    };
    Way { command: Some(command), what: "shows when it is released, and who gets it next.".to_owned() }
}

fn break_cycle(lock: &LockReport) -> Way {
    let waiter = lock.waiters.iter().find_map(|w| w.process.as_deref());
    let what = "ends one of those who wait in a circle; the others go on. Lost: what it did not write yet. Choose the \
                one that is easiest to start again.";
    let unnamed = || Way { command: None, what: "Ending one process of the circle frees the others.".to_owned() };
    waiter.map_or_else(unnamed, |p| Way { command: Some(format!("kill {}", p.id.pid)), what: what.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockwatch_core::{process::Process, report::Holder, text::Text};

    use super::*;
    use crate::fixture;

    fn kept_by(cause: Cause, holders: Vec<Holder>) -> LockReport {
        LockReport { cause: Some(cause), holders, ..fixture::ghost() }
    }

    #[test]
    fn the_next_command_fits_the_mechanism() {
        let check = |lock: &LockReport, expect: &str| assert_eq!(next(lock, &ways(lock)), expect);
        let in_unit = |pid, unit: &str| {
            let process = Process { unit: Some(Text::from(unit)), ..fixture::process(pid, "x") };
            Holder { process: Some(Arc::new(process)), ..fixture::holder(fixture::process(pid, "x"), 1) }
        };
        let other = |via| Holder { process: None, via, fd: None, cloexec: None, opened: None, detail: None };
        check(&fixture::ghost(), "lockwatch clear f3k9-27qd");
        check(
            &kept_by(Cause::Child, vec![fixture::holder(fixture::process(1, "systemd"), 5)]),
            "lockwatch clear f3k9-27qd",
        );
        let second = |holders, expect: &str| {
            let ways = ways(&kept_by(Cause::Child, holders));
            assert_eq!(ways[1].command.as_deref(), Some(expect), "{ways:?}");
        };
        second(vec![in_unit(7, "a.service"), in_unit(8, "a.service")], "systemctl restart a.service");
        second(vec![in_unit(7, "a.service"), in_unit(8, "b.service")], "kill 7 8");
        second(vec![in_unit(7, "user@0.service")], "kill 7");
        second(vec![in_unit(7, "a\u{202e}.service")], "kill 7");
        check(&kept_by(Cause::Kernel, vec![other(Via::Kernel)]), "losetup -a; swapon --show");
        check(&kept_by(Cause::Remote, vec![other(Via::Remote)]), "lockwatch clear f3k9-27qd");
        check(&kept_by(Cause::Leaked, Vec::new()), "lockwatch doctor");
        let busy = LockReport { verdict: Verdict::Held, ..fixture::ghost() };
        check(&busy, "lockwatch trace --path /etc/aim/aim_lock.conf");
        check(&LockReport { deadlock: true, ..busy.clone() }, "kill 4800");
        check(
            &LockReport { file_seen: fixture::hostile().locks[0].file_seen.clone(), ..busy.clone() },
            "lockwatch trace --pid 4711",
        );
        check(&LockReport { verdict: Verdict::Unknown, ..busy }, "lockwatch doctor");
    }

    #[test]
    fn init_is_never_killed() {
        let ways = ways(&kept_by(Cause::Child, vec![fixture::holder(fixture::process(1, "systemd"), 5)]));
        assert!(ways.iter().filter_map(|way| way.command.as_ref()).all(|c| !c.contains("kill")), "{ways:?}");
    }
}
