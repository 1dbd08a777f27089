//! Who waits, and since when: the waits that may get long enough to be looked at.

use std::{collections::HashMap, time::Duration};

use lockwatch_core::{
    lock::FileId,
    observation::{LockEvent, LockEventKind},
    time::Timestamp,
};

/// Waits by file and process. A process may wait for one file in several threads, so each has a list.
#[derive(Debug, Default)]
pub struct Waits(HashMap<(FileId, u32), Vec<Timestamp>>);

impl Waits {
    /// Takes in a lock operation, if it begins or ends a wait.
    pub fn note(&mut self, event: &LockEvent) {
        let place = (event.file, event.process.pid);
        match event.what {
            LockEventKind::Waiting => self.0.entry(place).or_default().push(event.at),
            LockEventKind::Granted | LockEventKind::WaitEnded => {
                let Some(list) = self.0.get_mut(&place) else { return };
                // The event says how long the wait was, which tells it from those of other threads.
                let began = Timestamp(event.at.0.saturating_sub(event.waited_ns.unwrap_or_default()));
                let distance = |since: Timestamp| since.since(began).max(began.since(since));
                let nearest: Option<(Duration, usize)> =
                    list.iter().enumerate().map(|(i, since)| (distance(*since), i)).min();
                if let Some((_, i)) = nearest {
                    list.remove(i);
                }
                if list.is_empty() {
                    self.0.remove(&place);
                }
            }
            LockEventKind::Acquired | LockEventKind::Refused | LockEventKind::Released => {}
        }
    }

    /// When the longest of them began.
    pub fn longest(&self) -> Option<Timestamp> {
        self.0.values().flatten().copied().min()
    }

    /// Forgets those of which `is_long` says so.
    pub fn forget_until(&mut self, is_long: impl Fn(Timestamp) -> bool) {
        self.0.retain(|_, list| {
            list.retain(|since| !is_long(*since));
            !list.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use lockwatch_core::{
        lock::{Device, Kind, Mode, OwnerKey, Range},
        process::ProcessId,
        text::Text,
    };

    use super::*;

    fn event(what: LockEventKind, pid: u32, at: u64, waited: u64) -> LockEvent {
        LockEvent {
            at: Timestamp(at),
            what,
            file: FileId { device: Device { major: 254, minor: 0 }, inode: 42 },
            kind: Kind::Flock,
            mode: Mode::Write,
            range: Range::WHOLE,
            owner: OwnerKey(1),
            process: ProcessId { pid, start: None },
            comm: Text::from("x"),
            remote: false,
            waited_ns: (waited > 0).then_some(waited),
        }
    }

    #[test]
    fn threads_of_a_process_wait_for_themselves() {
        use LockEventKind::{Acquired, Granted, WaitEnded, Waiting};
        let mut waits = Waits::default();
        let mut check = |what, pid, at, waited, expect: Option<u64>| {
            waits.note(&event(what, pid, at, waited));
            assert_eq!(waits.longest(), expect.map(Timestamp), "{what:?} of {pid} at {at}");
        };
        check(Waiting, 7, 100, 0, Some(100));
        check(Waiting, 7, 200, 0, Some(100));
        check(Waiting, 8, 300, 0, Some(100));
        check(WaitEnded, 7, 400, 301, Some(200));
        check(Acquired, 7, 450, 0, Some(200));
        check(Granted, 7, 500, 299, Some(300));
        check(WaitEnded, 7, 600, 1, Some(300));
        check(WaitEnded, 8, 600, 300, None);
        waits.note(&event(Waiting, 7, 700, 0));
        waits.note(&event(Waiting, 7, 800, 0));
        waits.forget_until(|since| since.0 <= 700);
        assert_eq!(waits.longest(), Some(Timestamp(800)));
    }
}
