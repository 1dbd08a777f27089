//! The order of rows.

use std::cmp::{Ordering, Reverse};

use clap::ValueEnum;
use lockwatch_core::report::LockReport;

/// By what to sort. Equals keep the report's own order, so rows are stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Hot first, then orphaned, then by path and range.
    #[default]
    Severity,
    /// By path.
    File,
    /// By kind of lock.
    Kind,
    /// By the acquirer's number.
    Pid,
    /// Longest held first.
    Age,
    /// Longest waited for first.
    Waiting,
    /// By ID.
    Id,
}

/// The locks in the wanted order.
pub fn sorted(locks: &[LockReport], by: Sort) -> Vec<&LockReport> {
    let mut rows: Vec<&LockReport> = locks.iter().collect();
    if by != Sort::Severity {
        rows.sort_by(|a, b| compare(a, b, by));
    }
    rows
}

fn compare(a: &LockReport, b: &LockReport, by: Sort) -> Ordering {
    /// What is unknown goes last.
    fn known<T: Ord>(value: Option<T>) -> (bool, Option<T>) {
        (value.is_none(), value)
    }
    let path = |l: &LockReport| known(l.file_seen.path.clone());
    let waited = |l: &LockReport| {
        (
            Reverse(!l.waiters.is_empty()),
            known(l.waiters.iter().filter_map(|w| w.since).min()),
            Reverse(l.waiters.len()),
        )
    };
    match by {
        Sort::Severity => Ordering::Equal,
        Sort::File => (path(a), a.file, a.range).cmp(&(path(b), b.file, b.range)),
        Sort::Kind => a.kind.cmp(&b.kind),
        Sort::Pid => {
            let pid = |l: &LockReport| known(l.acquirer.as_ref().map(|p| p.id.pid));
            pid(a).cmp(&pid(b))
        }
        Sort::Age => known(a.acquired_at).cmp(&known(b.acquired_at)),
        Sort::Waiting => waited(a).cmp(&waited(b)),
        Sort::Id => a.id.cmp(&b.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn sorts_and_puts_the_unknown_last() {
        let report = fixture::report();
        let check = |by, expect: &[&str]| {
            let ids: Vec<_> = sorted(&report.locks, by).into_iter().map(|l| l.id.0.as_str()).collect();
            assert_eq!(ids, expect, "{by:?}");
        };
        check(Sort::Severity, &["f3k9-27qd", "f3m2-8x0c", "7a1b-cd42", "9zzz-0001"]);
        check(Sort::File, &["f3k9-27qd", "7a1b-cd42", "f3m2-8x0c", "9zzz-0001"]);
        check(Sort::Pid, &["7a1b-cd42", "f3k9-27qd", "f3m2-8x0c", "9zzz-0001"]);
        check(Sort::Waiting, &["f3k9-27qd", "f3m2-8x0c", "7a1b-cd42", "9zzz-0001"]);
        check(Sort::Id, &["7a1b-cd42", "9zzz-0001", "f3k9-27qd", "f3m2-8x0c"]);
    }
}
