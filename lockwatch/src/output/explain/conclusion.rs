//! The answer in a sentence or two: who took the lock, and whether anybody will release it.

use lockwatch_core::{
    process::{Life, Process},
    report::{Cause, Holder, LockReport, Verdict},
    time::Timestamp,
};

use crate::output::words;

/// The answer in a sentence or two.
pub(super) fn conclusion(lock: &LockReport, now: Timestamp) -> String {
    let mut text = judgement(lock);
    match (lock.waiters.len(), lock.waiters.iter().filter_map(|w| w.since).min()) {
        (0, _) => text += " Nobody waits for it.",
        (n, since) => {
            let verb = if n == 1 { "waits" } else { "wait" };
            let wait = since.map(|at| format!(", the longest for {}", words::duration(now.since(at))));
            text += &format!(" {} {verb} for it{}.", words::count(n, "request"), wait.unwrap_or_default());
        }
    }
    text
}

/// The same without who waits, which changes while one reads.
pub(crate) fn judgement(lock: &LockReport) -> String {
    let file = words::file(lock.file, &lock.file_seen);
    let taker = match &lock.acquirer {
        Some(process) => process.to_string(),
        None => "somebody whom nobody saw".to_owned(),
    };
    let keepers = keepers(lock);
    let mut text = match (lock.verdict, lock.cause) {
        (Verdict::Held, _) if lock.acquirer.is_none() => format!("{keepers} the lock on {file}."),
        (Verdict::Held, _) => format!("{taker} took the lock on {file} and still holds it."),
        (Verdict::HandedOver, Some(Cause::Borrowed)) => {
            format!("{taker} took the lock on {file} for somebody who had the file open already, and {keepers} it now.")
        }
        (Verdict::HandedOver, Some(Cause::Daemonized)) => {
            format!("{taker} took the lock on {file} and left it to its own daemon: {keepers} it now.")
        }
        (Verdict::HandedOver, _) => format!("{taker} took the lock on {file} and passed it on: {keepers} it now."),
        (Verdict::Orphaned, cause) => {
            format!(
                "nobody will release the lock on {file}. {}, and {}.",
                took_and_died(lock, &taker),
                orphan_keepers(cause, lock)
            )
        }
        (Verdict::Unknown, _) => {
            format!(
                "it cannot be said whether anybody will release the lock on {file}. {}; {keepers} it now.",
                took_and_died(lock, &taker)
            )
        }
    };
    if lock.deadlock {
        text += " It is part of a circle in which everybody waits for another: none of them can go on.";
    }
    text
}

fn took_and_died(lock: &LockReport, taker: &str) -> String {
    match lock.acquirer.as_deref().map(|p| &p.life) {
        Some(Life::Dead(death)) => match &death.exit {
            Some(exit) => format!("{taker} took it and {exit}"),
            None => format!("{taker} took it and is dead"),
        },
        _ => format!("{taker} took it"),
    }
}

/// `pid 4720 (sleep) has`, `3 processes have`.
fn keepers(lock: &LockReport) -> String {
    let names: Vec<String> = processes(&lock.holders).map(Process::to_string).collect();
    match names.len() {
        0 if lock.holders.is_empty() && !lock.holders_complete => "nobody that lockwatch may see holds".to_owned(),
        0 if lock.holders.is_empty() => "nobody that lockwatch can name holds".to_owned(),
        0 => format!("the {} holds", lock.holders.first().map_or("kernel", |h| h.via.name())),
        1 => format!("{} holds", names.concat()),
        2 | 3 => format!("{} hold", words::list(&names)),
        n => format!("{n} processes hold"),
    }
}

/// Each process once.
fn processes(holders: &[Holder]) -> impl Iterator<Item = &Process> {
    let mut seen = Vec::new();
    holders.iter().filter_map(|h| h.process.as_deref()).filter(move |p| {
        let new = !seen.contains(&p.id);
        seen.push(p.id);
        new
    })
}

fn orphan_keepers(cause: Option<Cause>, lock: &LockReport) -> String {
    let names: Vec<String> = processes(&lock.holders).map(Process::to_string).collect();
    let (who, s) = match names.len() {
        0 => ("something that lockwatch cannot see".to_owned(), "s"),
        1 => (names.concat(), "s"),
        2 | 3 => (words::list(&names), ""),
        n => (format!("{n} processes"), ""),
    };
    match cause {
        Some(Cause::Child) => format!("{who}, left behind by it, keep{s} the lock alive"),
        Some(Cause::Leaked) => {
            format!("{who}, which only inherited the open file, keep{s} the lock alive without knowing")
        }
        Some(Cause::Mapped) => format!("a memory mapping of {who} keeps the lock alive"),
        Some(Cause::InFlight) => format!("a message that waits in a socket of {who} keeps the lock alive"),
        Some(Cause::IoUring) => format!("a file registered with io_uring by {who} keeps the lock alive"),
        Some(Cause::SharedFiles) => format!("{who}, which shared its table of open files, keep{s} the lock alive"),
        Some(Cause::Kernel) => "the kernel keeps the lock alive (a loop device or a swap file)".to_owned(),
        Some(Cause::Remote) => "it belongs to an NFS client that is gone".to_owned(),
        _ => format!("{who}, which inherited the open file, keep{s} the lock alive"),
    }
}
