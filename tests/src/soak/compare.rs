//! Everything stands still: what the kernel says, what the model knows, and what lockwatch says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::fd::OwnedFd,
    sync::atomic::Ordering::SeqCst,
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    model::{Description, Model, Relation},
    nursery,
    shared::{FREE, SLEEPS, Shared},
    tally::Tally,
    truth::{Files, Row, Truth, number},
};
use crate::{Process, Scene, Watcher, document, ghost, items, until, verdict};

/// A running soak.
pub struct Soak {
    seed: u64,
    stop: u32,
    shared: &'static Shared,
    model: Model,
    watcher: Watcher,
    /// Locks that the watcher has called orphaned and not cleared, by id.
    orphans: HashMap<String, Value>,
    /// The locks of the last comparison, by id.
    now: HashMap<String, Value>,
    tally: Tally,
    complaints: u32,
    files: Files,
    /// Declared last: the actors end before their files do.
    _nursery: Process,
    _memory: OwnedFd,
    scene: Scene,
}

impl Soak {
    /// Starts the actors, which wait for their first [`Soak::step`], and a watcher.
    pub fn start(seed: u64) -> Result<Self> {
        println!("seed {seed}");
        let scene = Scene::new();
        let files = Files::new(&scene)?;
        let watcher = Watcher::orphans(&[]);
        let (shared, memory) = nursery::memory()?;
        let nursery = nursery::start(&memory, scene.dir(), seed)?;
        Ok(Self {
            seed,
            stop: 0,
            shared,
            model: Model::default(),
            watcher,
            orphans: HashMap::new(),
            now: HashMap::new(),
            tally: Tally::default(),
            complaints: 0,
            files,
            _nursery: nursery,
            _memory: memory,
            scene,
        })
    }

    /// So many operations, then stops and compares.
    pub fn step(&mut self, operations: u64) -> Result<()> {
        self.stop += 1;
        until("the first are born", || (self.shared.serials.load(SeqCst) as usize >= nursery::FIRST).then_some(()));
        self.quiet();
        // What was begun in vain while resting does not count.
        self.shared.allowed.store(self.shared.begun.load(SeqCst) + operations, SeqCst);
        self.shared.epoch.fetch_add(1, SeqCst);
        self.quiet();
        self.model.read(&self.shared.take_notes());
        self.dead_are_gone();
        self.compare()?;
        self.listen();
        self.wake_some_sleepers();
        Ok(())
    }

    /// What was compared so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns when every actor rests, or sleeps for good.
    fn quiet(&self) {
        // Who has not yet noticed the new epoch rests in the last one.
        let resting = self.shared.resting();
        until("all actors rest", || {
            let rests = |slot: &super::shared::Slot| match slot.state.load(SeqCst) {
                FREE => true,
                state if state == resting => true,
                SLEEPS => comm(slot.pid.load(SeqCst)).is_some_and(|comm| comm == "sleep"),
                _ => false,
            };
            self.shared.slots.iter().all(rests).then_some(())
        });
    }

    /// Nothing of a dead actor is left, or only its name.
    fn dead_are_gone(&self) {
        let living: BTreeSet<_> = self.model.living().map(|(_, actor)| actor.pid).collect();
        for actor in self.model.actors.values().filter(|actor| actor.dead && !living.contains(&actor.pid)) {
            until("the dead are gone", || {
                let stat = fs::read_to_string(format!("/proc/{}/stat", actor.pid)).unwrap_or_default();
                let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
                let soak = stat.contains("(soak)");
                (!soak || matches!(state, None | Some('Z' | 'X'))).then_some(())
            });
        }
    }

    fn compare(&mut self) -> Result<()> {
        let mut tries = 10;
        // Queues of the dead are emptied in the kernel's own time.
        let (truth, document) = loop {
            let before = Truth::read(&self.files, &self.model);
            let document = document("bpf", &self.files.paths());
            let again = || before == Truth::read(&self.files, &self.model);
            // Locks of others that come and go tear /proc/locks (`proc_locks_of` says how), two readings at the same
            // place if they are unlucky: where lockwatch disagrees, the judge must be sure.
            let sure = || before.locks == self.rows(items(&document["locks"])) || (0..3).all(|_| again());
            let same = again() && sure();
            tries -= 1;
            ensure!(same || tries > 0, "the locks of resting actors change");
            if same {
                break (before, document);
            }
        };
        let locks = items(&document["locks"]);
        self.compare_locks(&truth, locks);
        self.compare_holders(&truth, locks);
        for lock in locks {
            self.judge(lock, 0);
        }
        self.now =
            locks.iter().map(|lock| (lock["id"].as_str().unwrap_or_default().to_owned(), lock.clone())).collect();
        Ok(())
    }

    fn rows(&self, locks: &[Value]) -> BTreeMap<Row, usize> {
        let mut rows = BTreeMap::new();
        locks.iter().filter_map(|lock| self.files.row_of(lock)).for_each(|row| *rows.entry(row).or_default() += 1);
        rows
    }

    fn compare_locks(&mut self, truth: &Truth, locks: &[Value]) {
        let seen = self.rows(locks);
        self.tally.locks += locks.len();
        let rows: BTreeSet<_> = truth.locks.keys().chain(seen.keys()).collect();
        for row in rows {
            let counts = (truth.locks.get(row), seen.get(row));
            if counts.0 != counts.1 {
                self.tally.wrong_locks += 1;
                self.complain(&format!("wrong lock: {row:?}: kernel {:?}, lockwatch {:?}", counts.0, counts.1));
            }
        }
    }

    fn compare_holders(&mut self, truth: &Truth, locks: &[Value]) {
        let mut seen = BTreeSet::new();
        for lock in locks {
            let Some(row) = self.files.row_of(lock) else { continue };
            // Another lockwatch of this host has a duplicate for a moment while it peeks into a message: so it holds.
            let by_fd = |holder: &&Value| holder["via"] == "fd" && holder["comm"] != "lockwatch";
            for holder in items(&lock["holders"]).iter().filter(by_fd) {
                let (pid, fd) = (number(&holder["pid"]).unwrap_or(0), number(&holder["fd"]).unwrap_or(0));
                seen.insert((row.clone(), pid, fd.cast_signed()));
            }
            let hidden = items(&lock["holders"])
                .iter()
                .filter(|holder| holder["via"] != "fd")
                .map(|holder| (number(&holder["pid"]).unwrap_or(0), holder["via"].as_str().unwrap_or("?").to_owned()));
            let hidden: BTreeSet<_> = hidden.collect();
            let candidates = self.descriptions(lock);
            let right = |description: &Description| {
                let expect: BTreeSet<_> =
                    self.model.hidden(*description).into_iter().map(|(pid, via)| (pid, via.to_owned())).collect();
                // Dearer looks are for locks that no descriptor keeps.
                if seen.iter().any(|(r, _, _)| *r == row) { hidden.is_subset(&expect) } else { hidden == expect }
            };
            if row.1 != "posix" && !candidates.iter().any(right) {
                self.tally.wrong_holders += 1;
                let expect: Vec<_> = candidates.iter().map(|d| self.model.hidden(*d)).collect();
                let stories: String = candidates.iter().map(|d| self.model.story(*d)).collect();
                self.complain(&format!("wrong holders: {row:?}: {hidden:?}, one of {expect:?} expected{stories}"));
            }
        }
        // The descriptors of a process's own file are its own business with POSIX locks: only the process counts.
        let plain = |holders: &BTreeSet<(Row, u32, i32)>| -> BTreeSet<_> {
            holders.iter().map(|(row, pid, fd)| (row.clone(), *pid, if row.1 == "posix" { -1 } else { *fd })).collect()
        };
        for wrong in plain(&truth.holders).symmetric_difference(&plain(&seen)) {
            self.tally.wrong_holders += 1;
            let who = if truth.holders.contains(wrong) { "missing" } else { "invented" };
            self.complain(&format!("{who} holder: {wrong:?}"));
        }
    }

    /// Which descriptions it may be: that of its first descriptor, else any that could have no descriptor.
    fn descriptions(&self, lock: &Value) -> Vec<Description> {
        let holders = items(&lock["holders"]).iter().filter(|holder| holder["via"] == "fd");
        let fds: Vec<_> = holders
            .filter_map(|holder| {
                let (pid, fd) = (number(&holder["pid"])?, number(&holder["fd"])?);
                let actor = self.model.living().find(|(_, actor)| actor.pid == pid)?.1;
                actor.fds.get(&fd.cast_signed()).map(|(description, _)| *description)
            })
            .collect();
        let (Some(row), Some(pid)) = (self.files.row_of(lock), number(&lock["acquirer"]["pid"])) else { return fds };
        if !fds.is_empty() {
            return fds;
        }
        let open = |d: &Description| self.model.living().any(|(_, a)| a.fds.values().any(|(own, _)| own == d));
        self.model.taken(row.0, &row.1, pid).into_iter().filter(|d| !open(d)).collect()
    }

    /// The verdict of a lock, cold (0) or watched (1).
    fn judge(&mut self, lock: &Value, watched: usize) {
        let (Some(row), Some(pid)) = (self.files.row_of(lock), number(&lock["acquirer"]["pid"])) else { return };
        let candidates = self.descriptions(lock);
        let Some(description) = candidates.first().copied() else { return };
        let owners = self.model.owners(description, &row.1, pid);
        let alive = owners.iter().any(|owner| owner.relation == Relation::Acquirer);
        let who = ["who came too late", "the watcher"][watched];
        let verdict = verdict(lock);
        if watched == 0 && !alive {
            self.tally.dead += 1;
            self.tally.unknown += usize::from(verdict.starts_with("unknown") && owners.is_empty());
        }
        if verdict.starts_with("held") && !alive && row.1 != "posix" {
            self.tally.false_peace += 1;
            self.complain(&format!("held by the dead, says {who}: {lock:#}"));
        }
        if !verdict.starts_with("orphaned") {
            return;
        }
        self.tally.orphaned[watched] += 1;
        let younger = |relation| relation == Relation::Younger;
        // A watcher has no time for a range that is not the last one its owner took, and judges it like a cold one.
        let timed = watched == 1 && !lock["acquired_at"].is_null();
        match owners.iter().find(|owner| timed || !younger(owner.relation)) {
            // Nothing tells a watcher that a message was received.
            Some(_) if watched == 1 && lock["cause"] == "in_flight" && !self.flies(description) => {}
            Some(owner) => {
                self.tally.false_orphans += 1;
                let story = self.model.story(description);
                self.complain(&format!("false orphan, says {who}: {owner:?} has it: {lock:#}{story}"));
            }
            None if !owners.is_empty() => self.tally.undecidable += 1,
            None => {}
        }
    }

    fn flies(&self, description: Description) -> bool {
        self.model.hidden(description).iter().any(|(_, via)| *via == "message")
    }

    /// What the watcher has said by now. A ghost of ours shows that it has come so far.
    fn listen(&mut self) {
        let marker = self.scene.file("marker");
        let (_, heir) = ghost(&self.scene, &marker);
        self.watcher.wait_about("orphaned", &marker);
        drop(heir);
        self.watcher.wait_about("cleared", &marker);
        for event in self.watcher.events() {
            let lock = &event.json["lock"];
            if self.files.row_of(lock).is_none() {
                if event.is("lost") {
                    println!("{}: the watcher has lost {}", self.here(), event.json["lost"]);
                }
                continue;
            }
            let id = lock["id"].as_str().unwrap_or_default().to_owned();
            if event.is("orphaned") {
                self.orphans.insert(id, lock.clone());
            } else if event.is("cleared") {
                self.orphans.remove(&id);
            }
        }
        self.watcher.forget();
        for (id, told) in &self.orphans.clone() {
            let Some(now) = self.now.get(id) else { continue };
            let mut lock = told.clone();
            if holders(told) != holders(now) {
                // Descriptors have changed hands since, or the lock's twin has its name now: a dead process can leave
                // two that are alike, whose names go by rank. What was told of its time need not be true of it.
                lock = now.clone();
                for field in ["verdict", "cause"] {
                    lock[field] = told[field].clone();
                }
                lock["acquired_at"] = Value::Null;
            }
            self.judge(&lock, 1);
        }
    }

    /// Ends half of those that only sleep, so that there is room for others.
    fn wake_some_sleepers(&self) {
        for slot in self.shared.slots.iter().filter(|slot| slot.state.load(SeqCst) == SLEEPS).step_by(2) {
            let pid = slot.pid.load(SeqCst);
            let serial = slot.serial.load(SeqCst);
            Process::of_pid(pid).kill();
            self.shared.note(super::shared::What::Dies, serial, 0, 0);
            slot.state.store(FREE, SeqCst);
        }
    }

    /// Says what is wrong, the first times: the rest is mostly more of the same.
    fn complain(&mut self, what: &str) {
        self.complaints += 1;
        if self.complaints <= 20 {
            println!("{}: {what}", self.here());
        }
    }

    fn here(&self) -> String {
        format!("seed {}, stop {}", self.seed, self.stop)
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        self.shared.over.store(1, SeqCst);
        for slot in &self.shared.slots {
            let pid = slot.pid.load(SeqCst);
            // Whoever rests ends by itself; who sleeps is a child of the nursery or of an actor, and has its number still.
            if slot.state.load(SeqCst) == SLEEPS && comm(pid).is_some_and(|comm| comm == "sleep") {
                Process::of_pid(pid).signal(Signal::KILL);
            }
        }
    }
}

/// What keeps a lock alive: number, means and descriptor of each.
fn holders(lock: &Value) -> Vec<[&Value; 3]> {
    items(&lock["holders"]).iter().map(|holder| [&holder["pid"], &holder["via"], &holder["fd"]]).collect()
}

fn comm(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}
