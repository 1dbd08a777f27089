//! The sentences behind a verdict: what a human can check with `ps`, `ls -l /proc/PID/fd` and a clock.

use super::Case;
use crate::{
    observation::Via,
    process::{Death, Life, Process},
    report::Holder,
    text::Text,
};

/// Said when a lock lives and nothing is seen to hold it.
const NO_HOLDER_SEEN: &str = "no process is seen with the file open: a memory mapping, a message in flight \
    in a unix socket, an io_uring, the kernel (loop device, swap) or a process that could not be looked into may keep \
    the lock";

/// Said when nothing holds it although everything was searched.
const NO_HOLDER_ANYWHERE: &str = "nothing was found to keep the lock, though everything was searched: descriptors, memory \
    mappings, messages in unix sockets, io_uring and loop devices; if it is still there at the next look, the kernel \
    itself keeps it, or two sockets in flight keep each other";

/// Said when a holder may be missing.
pub(super) const INCOMPLETE: &str = "not every process could be looked into, so a holder may be missing: run lockwatch \
    as root on the host to see them all";

/// How many holders get a sentence of their own.
const NAMED_HOLDERS: usize = 4;

/// Who took the lock and what became of it, who holds it now, and last the sentence that decided.
pub(super) fn of(case: &Case, because: String) -> Vec<String> {
    let mut all = Vec::with_capacity(6);
    match case.acquirer {
        Some(acquirer) => {
            all.extend(case.acquired_at.map(|at| format!("{acquirer} took the lock at {at}")));
            all.extend(ending(acquirer));
        }
        None => all.push("nobody saw who took the lock".into()),
    }
    // The parties besides the acquirer: where they are gone, that is half of the judgement.
    all.extend(case.ancestors.iter().filter(|p| case.parties.contains(&p.id.pid)).filter_map(|p| ending(p)));
    all.extend(case.holders.iter().take(NAMED_HOLDERS).map(holding));
    if case.holders.len() > NAMED_HOLDERS {
        all.push(format!("{} more hold it in the same way", case.holders.len() - NAMED_HOLDERS));
    }
    all.push(because);
    all.dedup();
    all
}

/// Nothing is seen to hold it: because there is nothing, or because not all was searched.
pub(super) fn no_holder(case: &Case) -> &'static str {
    if case.holders_complete { NO_HOLDER_ANYWHERE } else { NO_HOLDER_SEEN }
}

/// How a process ended; `None` if it has not, as far as anybody knows.
fn ending(process: &Process) -> Option<String> {
    let Life::Dead(Death { at, exit, number_reused_by }) = &process.life else { return None };
    Some(match (exit, at, number_reused_by) {
        (Some(exit), Some(at), _) => format!("{process} {exit} at {at}"),
        (Some(exit), None, _) => format!("{process} {exit}"),
        (None, Some(at), _) => format!("{process} ended at {at}; how was not seen"),
        (None, None, Some(_)) => format!("{process} is gone: its number belongs to a process that started later"),
        (None, None, None) => format!("{process} is gone; when and how it ended was not seen"),
    })
}

/// The acquirer holds its own lock.
pub(super) fn own(acquirer: &Process, holder: &Holder) -> String {
    match (holder.via, holder.fd) {
        (Via::Fd, Some(fd)) => format!("{acquirer} took the lock and has the file open as fd {fd}"),
        (Via::Fd, None) => format!("{acquirer} took the lock and has the file open"),
        (Via::Mapping, _) => {
            format!("{acquirer} took the lock and has the file mapped into its memory{}", detail(holder))
        }
        (Via::IoUring, _) => {
            format!("{acquirer} took the lock and has the file registered with its io_uring{}", detail(holder))
        }
        (Via::Message, _) => {
            format!("{acquirer} took the lock and can take it out of its own socket again{}", detail(holder))
        }
        (Via::Kernel | Via::Remote, _) => format!("{acquirer} took the lock; {}", holding(holder)),
    }
}

/// What a source says about a holder; it may quote a path or a client's name.
fn detail(holder: &Holder) -> String {
    holder.detail.as_deref().map(|d| format!(": {}", Text::from(d))).unwrap_or_default()
}

/// By what means a holder holds: "pid 4720 (sleep) still has the file open as fd 9, inherited without O_CLOEXEC".
pub(super) fn holding(holder: &Holder) -> String {
    let who = match &holder.process {
        Some(process) => process.to_string(),
        None => "an unidentified process".into(),
    };
    let detail = detail(holder);
    match holder.via {
        Via::Fd => {
            let fd = holder.fd.map(|fd| format!(" as fd {fd}")).unwrap_or_default();
            let cloexec = match holder.cloexec {
                Some(true) => " with O_CLOEXEC",
                Some(false) => ", inherited without O_CLOEXEC",
                None => "",
            };
            format!("{who} still has the file open{fd}{cloexec}")
        }
        Via::Mapping => format!("{who} still has the file mapped into its memory{detail}"),
        Via::Message => format!("a message in a unix socket of {who} carries the open file{detail}"),
        Via::IoUring => format!("an io_uring of {who} still has the file registered{detail}"),
        Via::Kernel => format!("the kernel itself keeps the file open{detail}"),
        Via::Remote => format!("a client of this host's NFS server holds the lock{detail}"),
    }
}

/// Two programs, by name where the names tell them apart.
pub(super) fn other_program(heir: &Process, gone: &Process) -> String {
    match (&heir.exe, &gone.exe) {
        (Some(now), Some(then)) if now != then => {
            format!("{heir} runs another program ({now}) than {gone} did ({then})")
        }
        _ if heir.execed == Some(true) => format!("{heir} has started a program of its own (execve) since {gone}"),
        _ => format!("{heir} runs another program than {gone} did"),
    }
}
