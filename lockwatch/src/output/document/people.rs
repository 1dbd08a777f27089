//! Processes in documents: acquirers, holders, waiters.

use std::borrow::Cow;

use lockwatch_core::{
    process::{Exit, Life, Process, Raised, Runtime},
    report::{Holder, Waiter},
    text::Text,
};
use serde::Serialize;

use super::{
    memo::{Memo, Someone},
    parts::{At, Base64, RangeObject, lost},
};

/// A process, as it stands in holders, waiters and events, and inside an acquirer.
#[derive(Default, Serialize)]
pub(crate) struct ProcessObject<'a> {
    pid: Option<u32>,
    start_time: Option<At>,
    comm: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm_base64: Option<Base64<'a>>,
    exe: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_base64: Option<Base64<'a>>,
    uid: Option<u32>,
    unit: Option<Cow<'a, str>>,
    container: Option<Cow<'a, str>>,
    user_unit: Option<Cow<'a, str>>,
    slice: Option<Cow<'a, str>>,
    runtime: Option<&'static str>,
    pod: Option<Cow<'a, str>>,
    inner_pid: Option<u32>,
}

impl<'a> ProcessObject<'a> {
    pub(crate) fn new(process: &'a Process) -> Self {
        Self {
            pid: Some(process.id.pid),
            start_time: process.started_at.map(At),
            comm: process.comm.as_ref().map(Text::lossy),
            comm_base64: process.comm.as_ref().and_then(lost),
            exe: process.exe.as_ref().map(Text::lossy),
            exe_base64: process.exe.as_ref().and_then(lost),
            uid: process.uid,
            unit: process.unit.as_ref().map(Text::lossy),
            container: process.container.as_ref().map(Text::lossy),
            user_unit: process.user_unit.as_ref().map(Text::lossy),
            slice: process.slice.as_ref().map(Text::lossy),
            runtime: process.runtime.map(Runtime::name),
            pod: process.pod.as_ref().map(Text::lossy),
            inner_pid: process.inner_pid,
        }
    }
}

impl<'a> ProcessObject<'a> {
    /// All fields are `null` where there is none to name.
    pub(super) fn or_nobody(process: Option<&'a Process>) -> Self {
        process.map_or_else(Self::default, Self::new)
    }
}

/// A process with its life and death.
#[derive(Serialize)]
pub(crate) struct Acquirer<'a> {
    #[serde(rename = "")]
    process: ProcessObject<'a>,
    state: &'static str,
    /// Why it is not known whether it lives.
    state_reason: Option<&'a str>,
    died_at: Option<At>,
    exit: Option<ExitObject<'a>>,
    /// Its number belongs to another process by now.
    pid_reused: bool,
}

impl<'a> Acquirer<'a> {
    pub(crate) fn new(process: &'a Process) -> Self {
        let (death, reason) = match &process.life {
            Life::Alive => (None, None),
            Life::Dead(death) => (Some(death), None),
            Life::Unknown(reason) => (None, Some(reason.as_str())),
        };
        Self {
            process: ProcessObject::new(process),
            state: process.life.name(),
            state_reason: reason,
            died_at: death.and_then(|d| d.at).map(At),
            exit: death.and_then(|d| d.exit.as_ref()).map(ExitObject::new),
            pid_reused: death.is_some_and(|d| d.number_reused_by.is_some()),
        }
    }
}

/// A process, as far as it is known.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum AnyProcess<'a> {
    /// All of it.
    Full(Box<Acquirer<'a>>),
    /// Number and name.
    Named(Named<'a>),
}

#[derive(Serialize)]
pub(crate) struct ExitObject<'a> {
    code: Option<u8>,
    signal: Option<u8>,
    sender: Option<Named<'a>>,
    oom: bool,
    core_dumped: bool,
    /// What raised the signal.
    raised_by: Option<&'static str>,
}

/// A process of which only number and name are known.
#[derive(Serialize)]
pub(crate) struct Named<'a> {
    pid: u32,
    comm: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comm_base64: Option<Base64<'a>>,
}

impl<'a> Named<'a> {
    pub(crate) fn new(pid: u32, comm: &'a Text) -> Self {
        Self { pid, comm: comm.lossy(), comm_base64: lost(comm) }
    }
}

impl<'a> ExitObject<'a> {
    pub(crate) fn new(exit: &'a Exit) -> Self {
        match exit {
            Exit::Code(code) => {
                Self { code: Some(*code), signal: None, sender: None, oom: false, core_dumped: false, raised_by: None }
            }
            Exit::Signal { signal, core_dumped, sender, oom, raised } => Self {
                code: None,
                signal: Some(*signal),
                sender: sender.as_ref().map(|(pid, comm)| Named::new(*pid, comm)),
                oom: *oom,
                core_dumped: *core_dumped,
                raised_by: raised.map(Raised::name),
            },
        }
    }
}

#[derive(Serialize)]
pub(crate) struct HolderObject<'a> {
    #[serde(rename = "")]
    process: Someone<'a>,
    via: &'static str,
    fd: Option<u32>,
    cloexec: Option<bool>,
    detail: Option<&'a str>,
}

impl<'a> HolderObject<'a> {
    pub(crate) fn new(holder: &'a Holder, memo: Option<&'a Memo<'a>>) -> Self {
        Self {
            process: Someone(holder.process.as_deref(), memo),
            via: holder.via.name(),
            fd: holder.fd,
            cloexec: holder.cloexec,
            detail: holder.detail.as_deref(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct WaiterObject<'a> {
    #[serde(rename = "")]
    process: Someone<'a>,
    mode: &'static str,
    range: RangeObject,
    since: Option<At>,
    behind: &'a [u32],
}

impl<'a> WaiterObject<'a> {
    pub(crate) fn new(waiter: &'a Waiter, memo: Option<&'a Memo<'a>>) -> Self {
        Self {
            process: Someone(waiter.process.as_deref(), memo),
            mode: waiter.mode.name(),
            range: RangeObject::new(waiter.range),
            since: waiter.since.map(At),
            behind: &waiter.behind,
        }
    }
}
