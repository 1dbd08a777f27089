//! `check`: one status line with performance data, and an exit code, as the Monitoring Plugins' guidelines want it.

use std::{env, time::Duration};

use anyhow::Result;

use super::print;
use crate::{
    agent::numbers::Looked,
    exit::Exit,
    look::look,
    output::words,
    request::{Limits, Request},
};

/// Looks and prints the line. Whatever goes wrong is UNKNOWN, and said in the same line.
pub fn run(request: &Request, limits: Limits) -> Result<Exit> {
    let (exit, line) = match look(request) {
        Ok(report) => judge(&Looked::of(&report), limits),
        Err(error) => (Exit::Unknown, unknown(&format!("{error:#}"))),
    };
    print(|out| std::io::Write::write_all(out, line.as_bytes()))?;
    Ok(exit)
}

/// Ends the program as clap would, but for `check`: there 2 would say CRITICAL.
pub fn wrong_usage(error: &clap::Error) -> ! {
    let is_check = env::args_os().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
    if error.use_stderr() && is_check.is_some_and(|word| word == "check") {
        let words = error.to_string();
        let first = words.lines().next().unwrap_or_default();
        let line = unknown(first.trim_start_matches("error: "));
        // Nobody is left to tell that stdout is closed.
        let _ = print(|out| std::io::Write::write_all(out, line.as_bytes()));
        std::process::exit(i32::from(Exit::Unknown.code()));
    }
    error.exit()
}

/// A bar would begin the performance data, and a second line is for more.
fn unknown(why: &str) -> String {
    format!("LOCKWATCH UNKNOWN - {}\n", words::sentence(why).replace(['|', '\n'], "/"))
}

/// The exit code and the line.
fn judge(seen: &Looked, limits: Limits) -> (Exit, String) {
    let judged = &seen.judged;
    let orphans: u64 = judged.orphaned.values().sum();
    let waiters = seen.waiters();
    // None: there are orphans, and since when is not known.
    let age = seen.knows_orphans.then(|| judged.oldest_orphan.map_or(Duration::ZERO, |from| seen.at.since(from)));
    let older = |limit: Option<Duration>| limit.is_some_and(|limit| age.is_some_and(|age| age > limit));
    let more = |limit: Option<u64>| limit.is_some_and(|limit| waiters > limit);
    let is_old = orphans > 0 && (age.is_none() || limits.warning.is_none() || older(limits.warning));

    let (exit, word) = match () {
        () if !seen.census.exact => (Exit::Unknown, "UNKNOWN"),
        () if judged.hot > 0 || judged.deadlocks > 0 || older(limits.critical) || more(limits.waiters_crit) => {
            (Exit::Critical, "CRITICAL")
        }
        () if is_old || more(limits.waiters_warn) => (Exit::Warning, "WARNING"),
        () => (Exit::Done, "OK"),
    };
    let mut said = Vec::new();
    if !seen.census.exact {
        said.push("not everything could be seen (lockwatch doctor)".to_owned());
    }
    if judged.hot > 0 {
        said.push(format!("{} hot", judged.hot));
    }
    if judged.deadlocks > 0 {
        said.push(format!("{} deadlocked", judged.deadlocks));
    }
    said.push(match (orphans, age) {
        (0, _) => "no orphaned lock".to_owned(),
        (_, Some(age)) => format!("{orphans} orphaned, the oldest for {}", words::duration(age)),
        (_, None) => format!("{orphans} orphaned, for how long is not known"),
    });
    said.push(format!("{waiters} waiting"));
    if orphans + judged.hot + judged.deadlocks > 0 {
        said.push("type: lockwatch orphans".to_owned());
    }
    let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64().to_string()).unwrap_or_default();
    let count = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    let data = [
        // U: it could not be determined.
        match age {
            Some(age) => format!(
                "oldest_orphan={:.3}s;{};{};0",
                age.as_secs_f64(),
                seconds(limits.warning),
                seconds(limits.critical)
            ),
            None => "oldest_orphan=U".to_owned(),
        },
        format!("waiters={waiters};{};{};0", count(limits.waiters_warn), count(limits.waiters_crit)),
        format!("orphans={orphans};;;0"),
        format!("hot={};;;0", judged.hot),
        format!("deadlocks={};;;0", judged.deadlocks),
    ];
    (exit, format!("LOCKWATCH {word} - {} | {}\n", said.join(", "), data.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        agent::numbers::Judged,
        fixture::{NOW, ago},
        sources::bpf::stats::Census,
    };

    fn seen(orphans: u64, age: Option<u64>, waiters: u64) -> Looked {
        Looked {
            at: NOW,
            census: Census { waiters: [waiters, 0, 0, 0, 0], exact: true, ..Census::default() },
            judged: Judged {
                orphaned: BTreeMap::from([("leaked", orphans)]),
                oldest_orphan: (orphans > 0).then(|| ago(age.unwrap_or(0))),
                ..Judged::default()
            },
            knows_orphans: orphans == 0 || age.is_some(),
            knows_waiters: true,
        }
    }

    #[test]
    fn the_worst_counts() {
        use Exit::{Critical, Done, Unknown, Warning};
        let check = |seen: &Looked, limits, expect| {
            let (exit, line) = judge(seen, limits);
            assert_eq!(exit, expect, "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        };
        let usual = Limits::default();
        let ages = Limits {
            warning: Some(Duration::from_secs(60)),
            critical: Some(Duration::from_secs(600)),
            ..Limits::default()
        };
        let counts = Limits { waiters_warn: Some(2), waiters_crit: Some(4), ..Limits::default() };
        check(&seen(0, None, 9), usual, Done);
        check(&seen(1, Some(0), 0), usual, Warning);
        check(&seen(1, None, 0), usual, Warning);
        check(&seen(1, Some(60), 0), ages, Done);
        check(&seen(1, Some(61), 0), ages, Warning);
        check(&seen(1, Some(601), 0), ages, Critical);
        check(&seen(1, None, 0), ages, Warning);
        check(&seen(0, None, 2), counts, Done);
        check(&seen(0, None, 3), counts, Warning);
        check(&seen(0, None, 5), counts, Critical);
        let mut bad = seen(1, Some(1), 1);
        bad.judged.hot = 1;
        check(&bad, ages, Critical);
        bad.census.exact = false;
        check(&bad, ages, Unknown);
        let mut stuck = seen(0, None, 2);
        stuck.judged.deadlocks = 1;
        check(&stuck, usual, Critical);
    }

    #[test]
    fn lines_say_what_to_do() {
        let check = |seen: &Looked, limits, expect: &str| assert_eq!(judge(seen, limits).1, format!("{expect}\n"));
        check(
            &seen(0, None, 1),
            Limits { waiters_crit: Some(50), ..Limits::default() },
            "LOCKWATCH OK - no orphaned lock, 1 waiting | oldest_orphan=0.000s;;;0 waiters=1;;50;0 orphans=0;;;0 hot=0;;;0 \
             deadlocks=0;;;0",
        );
        check(
            &seen(2, None, 0),
            Limits { warning: Some(Duration::from_secs(5)), ..Limits::default() },
            "LOCKWATCH WARNING - 2 orphaned, for how long is not known, 0 waiting, type: lockwatch orphans | \
             oldest_orphan=U waiters=0;;;0 orphans=2;;;0 hot=0;;;0 deadlocks=0;;;0",
        );
    }
}
