//! The processes of a look: met one by one, read all at once.

use std::{path::Path, sync::Arc};

use foldhash::{HashMap, HashMapExt};
use lockwatch_common::{ANCESTORS, ProcessKey, ProcessValue, process_flag};
use lockwatch_core::{
    lock::OwnerKey,
    observation::Census,
    portions::in_portions,
    process::{Death, Exit, Life, Process, ProcessId, Raised},
    text::Text,
};

use super::{
    convert::{exe_file, process_id},
    fds::Table,
    hidden::Found,
};
use crate::sources::{cgroup, clock::Clock, processes};

const SIGKILL: u8 = 9;

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
    pub(super) fn meet(&mut self, process: &ProcessKey) -> Option<&ProcessValue> {
        self.met.entry(*process).or_insert_with(|| (self.known)(process)).as_ref()
    }

    /// Which file table a process has.
    pub(super) fn note_table(&mut self, process: &ProcessKey, table: u64) {
        self.tables.insert(*process, table);
    }

    /// The ancestors of an acquirer as they were when it took its lock, if somebody watched; they are met too.
    pub(super) fn ancestors(&mut self, process: &ProcessKey) -> Vec<ProcessId> {
        let Some(value) = self.meet(process).copied() else { return Vec::new() };
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
            if let Some(dead) = value.filter(|value| value.died_ns != 0 && process.id == process_id(key))
                && !processes::is_exiting(process.id)
            {
                // Another one, which got the number within the tick: it was born when the number was free again.
                process.started_at = Some(clock.at_boot_ns(dead.died_ns));
                return Some((key.pid, Arc::new(process)));
            }
            if process.id.start.is_some() && process.id != process_id(key) {
                return Some((key.pid, Arc::new(process))); // of another who had the number, nothing is true of this one
            }
            if process.id == process_id(key) {
                // `/proc` knows it only to a tick; who was born after a lock was taken is told by less.
                process.started_at = Some(clock.at_boot_ns(key.start_ns));
            }
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
    let seen = value.flags & process_flag::UNSEEN == 0;
    let death = Death {
        at: seen.then(|| clock.at_boot_ns(value.died_ns)),
        exit: seen.then(|| exit_of(process, value)),
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
    let own = value.killer_pid == process.pid;
    let sent = value.killer_signal == u32::from(signal);
    let raised = sent.then(|| Raised::of(signal, value.killer_code, own));
    let by_process = raised == Some(Raised::Process);
    let sender = by_process.then(|| (value.killer_pid, Text::from_nul_terminated(&value.killer_comm)));
    // The OOM killer also marks those who are dying already, so that they may (mm/oom_kill.c out_of_memory, 6.18).
    let oom =
        value.flags & process_flag::OOM != 0 && signal == SIGKILL && matches!(raised, None | Some(Raised::Kernel));
    Exit::Signal { signal, core_dumped: value.exit_code & 0x80 != 0, sender, oom, raised }
}

#[cfg(test)]
mod tests {
    use lockwatch_common::Wire;

    use super::*;

    #[test]
    fn the_oom_killer_is_blamed_only_for_its_own() {
        let process = ProcessKey { start_ns: 1, pid: 7, pad: 0 };
        let zeroes = [0; size_of::<ProcessValue>()];
        let check = |flags, killer_pid, killer_signal, killer_code, expect: (bool, Option<Raised>)| {
            let value = ProcessValue {
                exit_code: 9,
                flags,
                killer_pid,
                killer_signal,
                killer_code,
                ..ProcessValue::read(&zeroes).unwrap()
            };
            let Exit::Signal { oom, raised, sender, .. } = exit_of(&process, &value) else { panic!("no signal") };
            assert_eq!((oom, raised), expect);
            assert_eq!(sender.is_some(), raised == Some(Raised::Process));
        };
        const KERNEL: i32 = 0x80;
        check(process_flag::OOM, 9, 9, KERNEL, (true, Some(Raised::Kernel)));
        check(process_flag::OOM, 0, 0, 0, (true, None));
        check(process_flag::OOM, 9, 9, 0, (false, Some(Raised::Process)));
        check(0, 9, 9, KERNEL, (false, Some(Raised::Kernel)));
        check(0, 9, 15, 0, (false, None));
        check(0, 7, 9, 0, (false, Some(Raised::Itself)));
    }
}
