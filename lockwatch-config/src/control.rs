//! `[control]`: what the host's owner allows.

use std::{path::PathBuf, time::Duration};

use lockwatch_core::clear::{Method, Policy, Protection};

use crate::{Config, key::Key, span, value::Value};

/// Where clears are recorded unless somebody says otherwise.
pub const AUDIT_LOG: &str = "/var/log/lockwatch/audit.jsonl";

/// The user that the agent runs as unless somebody says otherwise.
pub const AGENT_USER: &str = "lockwatch";

/// Where plans wait for a second person unless somebody says otherwise.
pub const PENDING: &str = "/run/lockwatch/pending";

/// What may be cleared, by whom, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// How many different users must confirm a plan: 1 or 2.
    pub approvals: u32,
    /// Whose locks are not cleared, besides what `protect_defaults` adds.
    pub protect: Vec<String>,
    /// Whether package managers, databases and systemd are protected.
    pub protect_defaults: bool,
    /// What members of the control socket's group may do. Root may do everything.
    pub group: Group,
    /// The user that the agent runs as.
    pub agent_user: String,
    /// Where clears are recorded.
    pub audit_log: PathBuf,
    /// Where plans wait for a second person.
    pub pending: PathBuf,
    /// How far apart the first two looks are, at least.
    pub settle: Duration,
    /// How long others are held still, at most.
    pub hold_max: Duration,
    /// How long a holder has after SIGTERM.
    pub grace: Duration,
}

/// What members of the control socket's group may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// By which methods they may clear.
    pub methods: Vec<Method>,
    /// Patterns of paths whose locks they may clear; `None` for all.
    pub paths: Option<Vec<String>>,
    /// Whether they may hold others still.
    pub hold: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            approvals: 1,
            protect: Vec::new(),
            protect_defaults: true,
            group: Group { methods: vec![Method::Release], paths: None, hold: false },
            agent_user: AGENT_USER.to_owned(),
            audit_log: AUDIT_LOG.into(),
            pending: PENDING.into(),
            settle: Duration::from_secs(1),
            hold_max: Duration::from_secs(90),
            grace: Duration::from_secs(5),
        }
    }
}

impl Control {
    /// Whose locks are not cleared, all in all.
    pub fn protection(&self) -> Protection {
        let usual = if self.protect_defaults { Protection::default().entries } else { Vec::new() };
        Protection { entries: usual.into_iter().chain(self.protect.iter().cloned()).collect() }
    }

    /// What a user may do, whoever it is now: root everything, all others what members of the group may. That they are
    /// members is for the caller to have checked.
    pub fn policy_of(&self, uid: u32) -> Policy {
        let protection = self.protection();
        if uid == 0 {
            return Policy { protection, ..Policy::default() };
        }
        let Group { methods, paths, hold } = self.group.clone();
        Policy { protection, may_override: false, methods, paths, may_hold: hold, ourselves: Vec::new() }
    }
}

/// Longer than anything of this is.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Its keys.
pub const KEYS: &[Key<Config>] = &[
    Key {
        name: "control.approvals",
        about: "How many different users must confirm a plan: 1 or 2 (the second with `lockwatch approve`)",
        set: |c, value| value.number(1..=2).map(|count| c.control.approvals = count),
        get: |c| Some(Value::Number(c.control.approvals.into())),
    },
    Key {
        name: "control.protect",
        about: "Whose locks are not cleared, besides the usual: paths, units, names of programs, with * for anything. What \
                several files say adds up",
        set: |c, value| entries(value).map(|entries| c.control.protect.extend(entries)),
        get: |c| Some(Value::of_texts(c.control.protect.clone())),
    },
    Key {
        name: "control.protect_defaults",
        about: "Whether the locks of package managers, databases and systemd are not cleared",
        set: |c, value| value.truth().map(|truth| c.control.protect_defaults = truth),
        get: |c| Some(Value::Truth(c.control.protect_defaults)),
    },
    Key {
        name: "control.audit_log",
        about: "Where every clear is recorded. Under systemd, lockwatch-control@.service must let it write there",
        set: |c, value| value.path().map(|path| c.control.audit_log = path),
        get: |c| Some(path(&c.control.audit_log)),
    },
    Key {
        name: "control.pending",
        about: "Where plans wait for a second person. Under systemd as above",
        set: |c, value| value.path().map(|path| c.control.pending = path),
        get: |c| Some(path(&c.control.pending)),
    },
    Key {
        name: "control.settle",
        about: "Between the two looks that must agree, at least",
        set: |c, value| value.span(Duration::ZERO..=DAY).map(|time| c.control.settle = time),
        get: |c| Some(time(c.control.settle)),
    },
    Key {
        name: "control.hold_max",
        about: "How long others may be held still",
        set: |c, value| value.span(Duration::ZERO..=DAY).map(|time| c.control.hold_max = time),
        get: |c| Some(time(c.control.hold_max)),
    },
    Key {
        name: "control.grace",
        about: "Between SIGTERM and giving up",
        set: |c, value| value.span(Duration::ZERO..=DAY).map(|time| c.control.grace = time),
        get: |c| Some(time(c.control.grace)),
    },
    Key {
        name: "control.agent_user",
        about: "The user that the agent runs as (User= of lockwatch.service). It may clear in the ways and on the files that \
                policies say, and nothing else",
        set: |c, value| user(value).map(|name| c.control.agent_user = name),
        get: |c| Some(Value::Text(c.control.agent_user.clone())),
    },
    Key {
        name: "control.group.methods",
        about: "In which ways members of the group lockwatch may clear. Root may do everything",
        set: |c, value| methods(value).map(|all| c.control.group.methods = all),
        get: |c| Some(Value::of_texts(c.control.group.methods.iter().map(|method| method.name()))),
    },
    Key {
        name: "control.group.paths",
        about: "On which files they may clear locks; without this line, on all",
        set: |c, value| patterns(value).map(|all| c.control.group.paths = Some(all)),
        get: |c| c.control.group.paths.clone().map(Value::of_texts),
    },
    Key {
        name: "control.group.hold",
        about: "Whether they may hold others still",
        set: |c, value| value.truth().map(|truth| c.control.group.hold = truth),
        get: |c| Some(Value::Truth(c.control.group.hold)),
    },
];

pub(crate) fn time(time: Duration) -> Value {
    Value::Text(span::write(time))
}

pub(crate) fn path(path: &std::path::Path) -> Value {
    // It came from a text.
    Value::Text(path.to_string_lossy().into_owned())
}

pub(crate) fn methods(value: &Value) -> Result<Vec<Method>, String> {
    value.all_named("method", &Method::ALL, Method::name)
}

/// Patterns of paths.
pub(crate) fn patterns(value: &Value) -> Result<Vec<String>, String> {
    value.list()?.into_iter().map(pattern).collect()
}

fn user(value: &Value) -> Result<String, String> {
    let name = value.text()?;
    if name.trim().is_empty() { Err("a user without a name".to_owned()) } else { Ok(name) }
}

fn entries(value: &Value) -> Result<Vec<String>, String> {
    let entry = |entry: String| match () {
        // What has a slash is compared with whole paths, and would silently protect nothing.
        () if entry.contains('/') => pattern(entry),
        () if entry.trim().is_empty() => Err("an empty entry protects nothing".to_owned()),
        () => Ok(entry),
    };
    value.list()?.into_iter().map(entry).collect()
}

fn pattern(pattern: String) -> Result<String, String> {
    match pattern.starts_with(['/', '*']) {
        true => Ok(pattern),
        false => Err(format!("{pattern:?} can be no file's path: it begins neither with / nor with *")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_everything_and_the_group_what_is_said() {
        let group = Group { paths: Some(vec!["/srv/*".into()]), ..Control::default().group };
        let control = Control { protect: vec!["mydb".into()], group, ..Control::default() };
        let protection = control.protection();
        assert!(protection.entries.starts_with(&Protection::default().entries));
        assert!(protection.entries.ends_with(&["mydb".into()]));
        assert_eq!(control.policy_of(0), Policy { protection: protection.clone(), ..Policy::default() });
        let member = Policy {
            protection,
            may_override: false,
            methods: vec![Method::Release],
            paths: Some(vec!["/srv/*".into()]),
            may_hold: false,
            ourselves: Vec::new(),
        };
        assert_eq!(control.policy_of(1000), member);
        assert_eq!(Control::default().policy_of(1000).paths, None);
        let bare = Control { protect_defaults: false, ..control };
        assert_eq!(bare.protection().entries, ["mydb"]);
    }
}
