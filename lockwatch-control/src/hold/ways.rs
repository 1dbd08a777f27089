//! What can be used on this host.

use super::hierarchy::{self, Hierarchy, Kind};

/// What can be used here to hold a unit or a control group still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// In words.
    pub words: String,
    /// Whether it is the best there is: the freezer of version 2, which nobody notices.
    pub best: bool,
}

/// What can be used here. A single process can be stopped everywhere.
///
/// # Errors
///
/// `/proc` cannot tell what is mounted.
pub fn ways() -> anyhow::Result<Ways> {
    Ok(Ways::of(&hierarchy::mounted()?))
}

impl Ways {
    fn of(hierarchies: &[Hierarchy]) -> Self {
        let has = |kind| hierarchies.iter().any(|hierarchy| hierarchy.kind == kind && hierarchy.writable);
        let (words, best) = match (has(Kind::Unified), has(Kind::Freezer)) {
            (true, false) => ("by the freezer of control groups of version 2", true),
            (true, true) => ("by the freezer of control groups, of version 2 and of version 1", true),
            (false, true) => {
                ("by the freezer of control groups of version 1; units only by SIGSTOP to each process", false)
            }
            (false, false) => ("by SIGSTOP to each process only, which their parents notice", false),
        };
        Self { words: words.into(), best }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_way_is_named() {
        let check = |mountinfo: &str, best, words: &str| {
            let ways = Ways::of(&hierarchy::parse(mountinfo.as_bytes()));
            assert!(ways.best == best && ways.words.contains(words), "{ways:?}");
        };
        let (two, one) =
            ("41 31 0:38 / /c rw - cgroup2 cgroup2 rw\n", "37 31 0:34 / /f rw - cgroup cgroup rw,freezer\n");
        check(two, true, "version 2");
        check(&format!("{two}{one}"), true, "of version 2 and of version 1");
        check(one, false, "of version 1; units only by SIGSTOP");
        check(&two.replace("/c rw", "/c ro"), false, "SIGSTOP to each process only");
        check("", false, "SIGSTOP to each process only");
    }
}
