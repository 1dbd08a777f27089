//! What one holder makes of a lock whose parties are dead: it is their child, their daemon, or a stranger.

use std::sync::Arc;

use super::{Case, Ruling, evidence};
use crate::{
    age::{self, Age},
    lock::Kind,
    observation::Via,
    process::{Exit, Life, Process},
    report::{Cause, Holder, Verdict},
};

/// What one holder makes of a lock whose parties are dead.
pub(super) fn fate(case: &Case, acquirer: &Process, heir: &Holder) -> Ruling {
    let process = match (heir.via, &heir.process) {
        (Via::Kernel | Via::Remote, _) => {
            return Ruling::orphaned(Cause::Kernel, "nobody who knows of the lock is left".into());
        }
        // What kind of process the receiver is says nothing.
        (Via::Message, _) => {
            let why = "whoever is to receive the message has not got it yet, and nobody who knows of the lock is left";
            return Ruling::orphaned(Cause::InFlight, why.into());
        }
        (_, None) => return Ruling::unknown(Cause::Inherited, "a holder could not be identified"),
        (_, Some(process)) => process,
    };
    let ruling = match case.watched {
        true => fate_watched(case, acquirer, heir, process),
        false => fate_cold(case, acquirer, process),
    };
    if ruling.verdict != Verdict::Orphaned {
        return ruling;
    }
    match heir.via {
        Via::Mapping => Ruling { cause: Some(Cause::Mapped), ..ruling },
        Via::IoUring => Ruling { cause: Some(Cause::IoUring), ..ruling },
        // A POSIX lock belongs to a file table: whoever holds it has that table.
        _ if case.kind == Kind::Posix || process.shares_files_of(acquirer) => Ruling::orphaned(
            Cause::SharedFiles,
            format!(
                "{process} shares the file table of {acquirer} (clone with CLONE_FILES), and all descriptors in it"
            ),
        ),
        _ => ruling,
    }
}

fn fate_watched(case: &Case, acquirer: &Process, heir: &Holder, process: &Process) -> Ruling {
    if age_of(case, acquirer, process) == Age::Older {
        return borrowed(acquirer, process);
    }
    // Both times are the kernel's own, in nanoseconds: a fork that inherited the locked file was born after that.
    if process.started_at.zip(case.acquired_at).is_some_and(|(born, taken)| born < taken) {
        let why = format!("{process} was there when {acquirer} took the lock, and had the file before or was sent it");
        return Ruling::handed_over(Cause::Borrowed, why);
    }
    let program = compare(process, acquirer, heir.cloexec);
    if program != Program::Other && names(case.text, process) {
        return Ruling::handed_over(Cause::Daemonized, names_its_holder(process));
    }
    // An heir of another program than the acquirer's may still be a fork of a party: a subshell of the script.
    let dead = |p: &&Arc<Process>| p.life.is_dead();
    let kin = case.ancestors.iter().filter(dead).filter(|p| compare(process, p, heir.cloexec) == Program::Same);
    let origins: Vec<&Process> = match program {
        Program::Same => vec![acquirer],
        Program::Other => kin.map(Arc::as_ref).collect(),
        Program::Unknown => {
            let why = format!("which program {process} runs, against {acquirer}, could not be established");
            return Ruling::orphaned(Cause::Inherited, why);
        }
    };
    let exited = |p: &Process| match &p.life {
        Life::Dead(death) => death.exit.clone(),
        _ => None,
    };
    let Some(origin) = origins.iter().min_by_key(|p| match exited(p) {
        Some(Exit::Code(0)) => 0,
        None => 1,
        Some(_) => 2,
    }) else {
        return Ruling::orphaned(Cause::Leaked, evidence::other_program(process, acquirer));
    };
    let kinship = format!("{process} runs the same program as {origin}");
    match exited(origin) {
        Some(Exit::Code(0)) => Ruling::handed_over(
            Cause::Daemonized,
            format!("{kinship}, which exited with code 0, as programs do that go into the background"),
        ),
        None => Ruling::unknown(Cause::Inherited, format!("{kinship}, but how that one ended was not seen")),
        Some(_) => Ruling::orphaned(Cause::Child, format!("{kinship}, which did not end well")),
    }
}

fn fate_cold(case: &Case, acquirer: &Process, process: &Process) -> Ruling {
    let age = age_of(case, acquirer, process);
    let unknown = |why: String| Ruling::unknown(Cause::Inherited, why);
    if age == Age::Older {
        return borrowed(acquirer, process);
    }
    if age == Age::MostLikelyOlder {
        let why = format!(
            "{process} has a number just before {acquirer}'s, so it was most likely born first and had the file before \
             the lock"
        );
        return Ruling::handed_over(Cause::Borrowed, why);
    }
    if names(case.text, process) {
        let why = names_its_holder(process);
        return Ruling::handed_over(Cause::Daemonized, why);
    }
    match (process.daemon_looks, age) {
        (Some(true), _) => unknown(format!(
            "{process} looks like a daemon (it leads its session and has no terminal): it may have meant to keep the lock"
        )),
        (_, Age::Undecidable | Age::MostLikelyOlder | Age::Older) => unknown(format!(
            "whether {process} is older or younger than {acquirer} cannot be told, and nobody watched the lock being taken"
        )),
        (None, _) => unknown(format!("whether {process} is a daemon could not be established")),
        (Some(false), Age::Younger) => Ruling::orphaned(
            Cause::Inherited,
            format!("{process} is younger than {acquirer} and no daemon: it got the file from it"),
        ),
    }
}

/// Who is older than the acquirer has not inherited from it: it is a party that no look has met among the ancestors (a
/// sibling, the script behind a deep pile of shells), or it was sent the lock.
fn borrowed(acquirer: &Process, process: &Process) -> Ruling {
    let why = format!("{process} is older than {acquirer}, so it is likely to have had the file open before the lock");
    Ruling::handed_over(Cause::Borrowed, why)
}

fn age_of(case: &Case, acquirer: &Process, holder: &Process) -> Age {
    match (acquirer.id.start, holder.id.start) {
        (Some(taker), Some(born)) => age::of_two((holder.id.pid, born), (acquirer.id.pid, taker)),
        (None, Some(born)) => age::of_holder(case.births, (holder.id.pid, born), acquirer.id.pid),
        (_, None) => Age::Undecidable,
    }
}

fn names_its_holder(process: &Process) -> String {
    let inner = process.inner_pid.map(|inner| format!(" (pid {inner} in its own namespace)")).unwrap_or_default();
    format!("the file's text is the pid of its holder, {}{inner}", process.id.pid)
}

/// Whether the file's first line is the process's number, ours or the one in its own pid namespace: a pid file names
/// its owner.
fn names(text: Option<&[u8]>, process: &Process) -> bool {
    let line = text.and_then(|text| text.split(|b| matches!(b, b'\n' | 0)).next());
    let number = line.and_then(|line| str::from_utf8(line.trim_ascii()).ok()?.parse().ok());
    number.is_some_and(|number: u32| number == process.id.pid || Some(number) == process.inner_pid)
}

/// How a holder's program compares with that of a process which is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Same,
    Other,
    Unknown,
}

/// Compares executables by identity. An execve(2) makes it another run of whatever program. Without both
/// executables, a process that has not called execve, or whose descriptor would not have survived it, is a fork.
fn compare(heir: &Process, gone: &Process, cloexec: Option<bool>) -> Program {
    match (heir.exe_file, gone.exe_file) {
        _ if heir.execed == Some(true) => Program::Other,
        (Some(a), Some(b)) if a == b => Program::Same,
        (Some(_), Some(_)) => Program::Other,
        _ if heir.execed == Some(false) || cloexec == Some(true) => Program::Same,
        _ => Program::Unknown,
    }
}
