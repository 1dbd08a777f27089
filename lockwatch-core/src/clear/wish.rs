//! What somebody wants done about a lock.

use std::{fmt, time::Duration};

use super::method::Method;
use crate::text::Text;

/// What somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// In this way only; the least force that applies if it is not said.
    pub method: Option<Method>,
    /// Who is held still meanwhile.
    pub hold: Vec<Hold>,
    /// How long they are held still at most.
    pub hold_max: Duration,
    /// How long a holder has after SIGTERM.
    pub grace: Duration,
    /// Clear it although it is on the protect list.
    pub override_protection: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            method: None,
            hold: Vec::new(),
            hold_max: Duration::from_secs(90),
            grace: Duration::from_secs(5),
            override_protection: false,
        }
    }
}

/// Who is held still while a lock is cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// One process, by number.
    Process(u32),
    /// All processes of a systemd unit.
    Unit(Text),
    /// All processes of a control group, by its path below the hierarchy's root.
    Cgroup(Text),
}

impl Hold {
    /// What was typed: a number, a control group's path, or a unit's name.
    pub fn parse(typed: &[u8]) -> Option<Self> {
        let text = str::from_utf8(typed).ok();
        match (text.and_then(|text| text.parse().ok()), typed) {
            (Some(pid), _) if pid > 0 => Some(Hold::Process(pid)),
            (Some(_), _) | (_, []) => None,
            (None, [b'/', ..]) => Some(Hold::Cgroup(Text::new(typed))),
            (None, _) => Some(Hold::Unit(Text::new(typed))),
        }
    }
}

/// As it is typed.
impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hold::Process(pid) => write!(f, "pid {pid}"),
            Hold::Unit(name) | Hold::Cgroup(name) => write!(f, "{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_are_told_apart_by_their_form() {
        let check = |typed: &str, expect| assert_eq!(Hold::parse(typed.as_bytes()), expect, "{typed}");
        check("4711", Some(Hold::Process(4711)));
        check("cron.service", Some(Hold::Unit("cron.service".into())));
        check("/system.slice/x", Some(Hold::Cgroup("/system.slice/x".into())));
        check("0", None);
        check("", None);
    }
}
