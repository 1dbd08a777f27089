//! Whoever has the dead acquirer's number now.

use std::path::Path;

use anyhow::Context;
use lockwatch_core::{clear::Case, parse::locks::Line, time::StartTime};
use lockwatch_sys::{procdir, stat::Stat};

use super::{Failure, planned, tables};

/// The kernel's line tells a taker by number. If a living process has that number and the lock as well, it cannot be
/// said whose it is. So whoever has the number is looked at beforehand, which may take long, and right before the
/// unlock it is only asked whether that is the same one still: mostly nobody, both times.
pub(super) struct Namesake<'a> {
    case: &'a Case,
    start: Option<StartTime>,
}

impl<'a> Namesake<'a> {
    /// Looks for one, and for the lock among what it has.
    pub(super) fn find(case: &'a Case) -> Result<Self, Failure> {
        let mut namesake = Self { case, start: None };
        namesake.start = namesake.now();
        if let (Some(pid), Some(_)) = (namesake.pid(), namesake.start) {
            let mut has = false;
            let suspicious = |line: &Line| planned::is(case, line) && planned::may_be_a_namesakes(line);
            match tables::each(pid, |_, info| has |= info.locks.iter().any(suspicious)) {
                Err(error) if !tables::is_gone(&error) => {
                    return Err(error).context(format!("look at pid {pid}, which has the acquirer's number"))?;
                }
                _ if has => {
                    return Failure::changed(format!(
                        "pid {pid} has the dead acquirer's number and the lock: it may be its own"
                    ));
                }
                _ => {}
            }
        }
        Ok(namesake)
    }

    /// That nobody else has got the number since, as far as that matters for this line.
    pub(super) fn is_the_same(&self, line: &Line) -> Result<(), Failure> {
        match self.now().filter(|_| planned::may_be_a_namesakes(line)) {
            Some(start) if self.start != Some(start) => {
                Failure::changed("somebody has just got the dead acquirer's number: the lock may be its own")
            }
            _ => Ok(()),
        }
    }

    fn pid(&self) -> Option<u32> {
        self.case.acquirer.as_ref().map(|person| person.id.pid)
    }

    /// When the process of that number has started, if there is one.
    fn now(&self) -> Option<StartTime> {
        let stat = procdir::read(Path::new(&format!("/proc/{}/stat", self.pid()?))).ok()?;
        // What cannot be understood is somebody, too.
        Some(Stat::parse(&stat).map_or(StartTime(u64::MAX), |stat| stat.start))
    }
}
