//! The facts of a lock, one line each: what it is, who took it, who keeps it, who waits.

use lockwatch_core::{
    lock::Breaking,
    observation::Via,
    process::{Life, Process},
    report::{Holder, LockReport, Waiter},
    time::Timestamp,
};

use crate::output::words;

/// The facts, one line each: label and text.
pub(super) fn facts(lock: &LockReport, now: Timestamp) -> Vec<(&'static str, String)> {
    let fs = lock.file_seen.fs.as_ref().map(|fs| format!(" on {fs}")).unwrap_or_default();
    let what = format!("{}: {} {} of {}", lock.id, lock.kind, lock.mode, words::range(lock.range));
    let mut facts = vec![("lock", format!("{what}, file {}{fs}", lock.file))];
    let when = |at: Timestamp| format!("{at}, {} ago", words::duration(now.since(at)));
    let taken = lock.acquired_at.map_or_else(|| "when is not known".to_owned(), when);
    match &lock.acquirer {
        None => facts.push(("taken by", format!("not known; {taken}"))),
        Some(taker) => {
            facts.push(("taken by", format!("{}; {taken}", person(taker))));
            match &taker.life {
                Life::Alive => {}
                Life::Unknown(reason) => facts.push(("alive?", format!("not known: {}", words::sentence(reason)))),
                Life::Dead(death) => {
                    let how = death.exit.as_ref().map(ToString::to_string);
                    let text = match (death.at.map(when), how) {
                        (Some(at), Some(how)) => format!("{at}: {how}"),
                        (Some(at), None) => format!("{at}; nobody saw how"),
                        (None, Some(how)) => format!("{how}; when is not known"),
                        (None, None) => "it is gone; nobody saw when or how".to_owned(),
                    };
                    let reused = death.number_reused_by.map(|_| "; its number belongs to another process now");
                    facts.push(("died", text + reused.unwrap_or_default()));
                }
            }
        }
    }
    facts.extend(lock.breaking.map(|breaking| ("breaking", being_broken(breaking, now))));
    facts.extend(lock.holders.iter().map(|holder| ("kept by", keeper(holder))));
    if !lock.holders_complete {
        facts.push(("kept by", "perhaps by others that lockwatch may not see".to_owned()));
    }
    facts.extend(lock.waiters.iter().map(|waiter| ("waiting", wait(waiter, now))));
    facts
}

/// What becomes of a lease that somebody opens the file against.
fn being_broken(breaking: Breaking, now: Timestamp) -> String {
    let to = match breaking.to {
        Some(mode) => format!("become a {mode} lease"),
        None => "go".to_owned(),
    };
    let end = match breaking.deadline {
        Some(at) if at > now => format!(
            "; whoever waits gets in at the latest at {at}, in {} (fs.lease-break-time)",
            words::duration(at.since(now))
        ),
        Some(at) => format!("; its time was over at {at}, and the next who opens the file takes it away"),
        None => "; how long the kernel waits is in /proc/sys/fs/lease-break-time".to_owned(),
    };
    format!("somebody opens or truncates the file, so the lease must {to}{end}")
}

/// `pid 4711 (locksmith) /usr/bin/locksmith, locksmith.service, uid 0`.
pub(in crate::output) fn person(process: &Process) -> String {
    let mut text = process.to_string();
    if let Some(exe) = &process.exe {
        text += &format!(" {exe}");
    }
    if let Some(inner) = process.inner_pid {
        text += &format!(", pid {inner} in its own pid namespace");
    }
    // A unit lies in its slice; where there is none, the slice is all that is known.
    let slice = process.slice.as_ref().filter(|_| process.unit.is_none());
    let engine = process.runtime.map(|runtime| format!("{} ", runtime.name())).unwrap_or_default();
    let container = format!("{engine}container ");
    let places = [
        ("", process.unit.as_ref()),
        ("", slice),
        ("user unit ", process.user_unit.as_ref()),
        (&container, process.container.as_ref()),
        ("Kubernetes pod ", process.pod.as_ref()),
    ];
    for (label, name) in places {
        if let Some(name) = name {
            text += &format!(", {label}{name}");
        }
    }
    match process.uid {
        Some(uid) => text + &format!(", uid {uid}"),
        None => text,
    }
}

fn keeper(holder: &Holder) -> String {
    let who = holder.process.as_deref().map_or_else(|| format!("the {}", holder.via.name()), person);
    let means = match (holder.via, holder.fd) {
        (Via::Fd, Some(fd)) => format!("fd {fd}"),
        (Via::Fd, None) => "a descriptor".to_owned(),
        (Via::Mapping, _) => "a memory mapping".to_owned(),
        (Via::Message, _) => "a message in a socket".to_owned(),
        (Via::IoUring, _) => "a file registered with io_uring".to_owned(),
        (Via::Kernel | Via::Remote, _) => String::new(),
    };
    let cloexec = match holder.cloexec {
        Some(true) => "closes on exec",
        Some(false) => "survives exec",
        None => "",
    };
    let detail = holder.detail.as_deref().map(words::sentence).unwrap_or_default();
    let parts: Vec<&str> = [means.as_str(), cloexec, &detail].into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { who } else { format!("{who}, by {}", parts.join(", ")) }
}

fn wait(waiter: &Waiter, now: Timestamp) -> String {
    let who = waiter.process.as_deref().map_or_else(|| "somebody whom nobody saw".to_owned(), person);
    let since = match waiter.since {
        Some(at) => format!("since {at}, for {}", words::duration(now.since(at))),
        None => "since when is not known".to_owned(),
    };
    let behind: Vec<String> = waiter.behind.iter().map(|pid| format!("pid {pid}")).collect();
    let behind = if behind.is_empty() { String::new() } else { format!("; behind {}", words::list(&behind)) };
    format!("{who}, to {} {}, {since}{behind}", waiter.mode, words::range(waiter.range))
}
