//! Processes, read back: acquirers, holders, waiters, and whoever an event is about.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use lockwatch_core::{
    process::{Death, Exit, Life, Process, ProcessId, Raised, Runtime},
    time::StartTime,
    timeline::{Moment, What},
};
use serde::Deserialize;

use super::words::{text, text_if, time, time_if, word};

/// A process in any role. What a role has of its own is with whoever has that role.
#[derive(Debug, Deserialize)]
pub struct Person {
    pid: Option<u32>,
    start_time: Option<String>,
    comm: Option<String>,
    comm_base64: Option<String>,
    exe: Option<String>,
    exe_base64: Option<String>,
    uid: Option<u32>,
    unit: Option<String>,
    container: Option<String>,
    user_unit: Option<String>,
    slice: Option<String>,
    runtime: Option<String>,
    pod: Option<String>,
    inner_pid: Option<u32>,
    // Acquirers, and those that are told of alone.
    state: Option<String>,
    state_reason: Option<String>,
    died_at: Option<String>,
    exit: Option<Ended>,
    #[serde(default)]
    pid_reused: bool,
}

#[derive(Debug, Deserialize)]
struct Ended {
    code: Option<u8>,
    signal: Option<u8>,
    sender: Option<Named>,
    #[serde(default)]
    oom: bool,
    #[serde(default)]
    core_dumped: bool,
    raised_by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Named {
    pid: u32,
    comm: String,
    comm_base64: Option<String>,
}

/// One thing that has happened to a lock.
#[derive(Debug, Deserialize)]
pub struct Happened {
    at: String,
    event: String,
    process: Option<Person>,
    waited_ns: Option<u64>,
    exit: Option<Ended>,
}

impl Person {
    /// Nobody, where the number is not known.
    pub fn read(self) -> Result<Option<Arc<Process>>> {
        let Some(pid) = self.pid else { return Ok(None) };
        let started_at = time_if(self.start_time.as_deref())?;
        let life = match self.state.as_deref() {
            // Holders and waiters are there.
            None | Some("alive") => Life::Alive,
            Some("dead") => Life::Dead(Death {
                at: time_if(self.died_at.as_deref())?,
                exit: self.exit.map(Ended::read).transpose()?,
                number_reused_by: self.pid_reused.then_some(ProcessId { pid, start: None }),
            }),
            Some(_) => Life::Unknown(self.state_reason.unwrap_or_default()),
        };
        // Nobody told when it started since boot; any moment tells it from others of this document that had its number.
        let start = started_at.map(|at| StartTime::from_boot_ns(at.0));
        let process = Process {
            started_at,
            comm: text_if(self.comm.as_deref(), self.comm_base64.as_deref())?,
            exe: text_if(self.exe.as_deref(), self.exe_base64.as_deref())?,
            uid: self.uid,
            unit: text_if(self.unit.as_deref(), None)?,
            container: text_if(self.container.as_deref(), None)?,
            user_unit: text_if(self.user_unit.as_deref(), None)?,
            slice: text_if(self.slice.as_deref(), None)?,
            runtime: self.runtime.map(|name| word(&Runtime::ALL, Runtime::name, &name)).transpose()?,
            pod: text_if(self.pod.as_deref(), None)?,
            inner_pid: self.inner_pid,
            ..Process::unknown(ProcessId { pid, start }, life)
        };
        Ok(Some(Arc::new(process)))
    }
}

impl Ended {
    fn read(self) -> Result<Exit> {
        if let Some(code) = self.code {
            return Ok(Exit::Code(code));
        }
        let sender =
            self.sender.map(|who| Ok::<_, anyhow::Error>((who.pid, text(&who.comm, who.comm_base64.as_deref())?)));
        Ok(Exit::Signal {
            signal: self.signal.context("an end without code and signal")?,
            core_dumped: self.core_dumped,
            sender: sender.transpose()?,
            oom: self.oom,
            raised: self.raised_by.map(|name| word(&Raised::ALL, Raised::name, &name)).transpose()?,
        })
    }
}

impl Happened {
    /// The `number`th of its lock.
    pub fn read(self, number: u64) -> Result<Moment> {
        let mut who = self.process.map(Person::read).transpose()?.flatten();
        let exit = self.exit.map(Ended::read).transpose()?;
        if let Some(who) = who.as_mut().map(Arc::make_mut)
            && (exit.is_some() || self.event == What::OwnerDied.name())
            && !who.life.is_dead()
        {
            who.life = Life::Dead(Death { exit, ..Death::default() });
        }
        Ok(Moment {
            at: time(&self.at)?,
            what: word(&What::ALL, What::name, &self.event)?,
            who,
            waited: self.waited_ns.map(Duration::from_nanos),
            number,
        })
    }
}
