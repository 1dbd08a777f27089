//! The processes of a look: met one by one, read all at once.

use std::{path::Path, sync::Arc};

use foldhash::{HashMap, HashMapExt};
use lockwatch_common::{ANCESTORS, ProcessKey, ProcessValue, process_flag};
use lockwatch_core::{
    lock::OwnerKey,
    observation::Census,
    portions::in_portions,
    process::{Death, Exit, Life, Process, ProcessId},
    text::Text,
};

use super::{
    convert::{exe_file, process_id},
    fds::Table,
    hidden::Found,
};
use crate::sources::{cgroup, clock::Clock, processes};

/// What the kernel-side table of processes says of one.
pub type Known<'a> = dyn Fn(&ProcessKey) -> Option<ProcessValue> + 'a;

/// Each takes a dozen system calls.
const WORTH_A_THREAD: usize = 16;

/// Whoever locks, holders and waits name.
pub(super) struct People<'a> {
    known: &'a Known<'a>,
    met: HashMap<ProcessKey, Option<ProcessValue>>,
    /// The file tables of those who may share that of a dead acquirer.
    tables: HashMap<ProcessKey, u64>,
}

impl<'a> People<'a> {
    pub(super) fn new(known: &'a Known<'a>) -> Self {
        Self { known, met: HashMap::new(), tables: HashMap::new() }
    }

    /// Somebody has been named. Returns what the kernel-side table knows.
    pub(super) fn meet(&mut self, process: &ProcessKey) -> Option<ProcessValue> {
        *self.met.entry(*process).or_insert_with(|| (self.known)(process))
    }

    /// Which file table a process has.
    pub(super) fn note_table(&mut self, process: &ProcessKey, table: u64) {
        self.tables.insert(*process, table);
    }

    /// The ancestors of an acquirer as they were when it took its lock, if somebody watched; they are met too.
    pub(super) fn ancestors(&mut self, process: &ProcessKey) -> Vec<ProcessId> {
        let Some(value) = self.meet(process) else { return Vec::new() };
        let mut ancestors = Vec::with_capacity(ANCESTORS);
        for ancestor in value.ancestors.iter().take_while(|ancestor| ancestor.pid != 0) {
            self.meet(ancestor);
            ancestors.push(process_id(ancestor));
        }
        ancestors
    }

    /// Those who live, as `/proc` shows them, and those whose death the kernel's table has noted.
    pub(super) fn census(self, fds: &Table, found: &Found, clock: &Clock, proc_root: &Path) -> Census {
        let died = |(key, value): (&ProcessKey, &Option<ProcessValue>)| {
            let value = value.filter(|value| value.died_ns != 0)?;
            Some((process_id(key), Arc::new(dead_process(key, &value, clock))))
        };
        let dead = self.met.iter().filter_map(died).collect();

        // Whoever has a number now was born last of all that had it.
        let mut latest: HashMap<u32, (ProcessKey, Option<ProcessValue>)> = HashMap::new();
        for (key, value) in self.met.into_iter().filter(|(key, _)| key.pid != 0) {
            let known = latest.entry(key.pid).or_insert((key, value));
            if known.0.start_ns < key.start_ns {
                *known = (key, value);
            }
        }
        let latest: Vec<_> = latest.into_values().collect();
        let read = |i: usize| processes::process(proc_root, latest[i].0.pid, clock);
        let living = in_portions(latest.len(), WORTH_A_THREAD, read).into_iter().zip(&latest);
        let living = living.filter_map(|(process, (key, value))| {
            let mut process = process?;
            process.execed = value.map(|value| value.flags & process_flag::EXECED != 0);
            let noted = value.and_then(|value| exe_file(value.exe_inode, value.exe_device));
            let seen = fds.executables.get(key).or_else(|| found.executables.get(key)).copied();
            process.exe_file = seen.or(noted).or(process.exe_file);
            process.file_table = self.tables.get(key).copied().map(OwnerKey);
            Some((key.pid, Arc::new(process)))
        });
        Census { living: living.collect(), dead, births: Vec::new(), blind_spot: processes::blind_spot(proc_root) }
    }
}

/// A process that died while we watched.
pub fn dead_process(process: &ProcessKey, value: &ProcessValue, clock: &Clock) -> Process {
    let id = process_id(process);
    let death = Death {
        at: Some(clock.at_boot_ns(value.died_ns)),
        exit: Some(exit_of(process, value)),
        number_reused_by: None,
    };
    Process {
        started_at: Some(clock.at_boot_ns(process.start_ns)),
        comm: Some(Text::from_nul_terminated(&value.comm)),
        exe_file: exe_file(value.exe_inode, value.exe_device),
        uid: Some(value.uid),
        parent: value.ancestors.first().map(|parent| parent.pid).filter(|pid| *pid != 0),
        file_table: (value.files != 0).then_some(OwnerKey(value.files)),
        execed: Some(value.flags & process_flag::EXECED != 0),
        ..Process::unknown(id, Life::Dead(death)).with_origin(cgroup::origin(value.cgroup))
    }
}

/// As wait(2) encodes it: signal in the low seven bits, a core in the eighth, the exit code above.
fn exit_of(process: &ProcessKey, value: &ProcessValue) -> Exit {
    let signal = (value.exit_code & 0x7f) as u8;
    if signal == 0 {
        return Exit::Code((value.exit_code >> 8) as u8);
    }
    let sent = value.killer_signal == u32::from(signal) && value.killer_pid != process.pid;
    let sender = sent.then(|| (value.killer_pid, Text::from_nul_terminated(&value.killer_comm)));
    Exit::Signal { signal, core_dumped: value.exit_code & 0x80 != 0, sender, oom: false }
}
