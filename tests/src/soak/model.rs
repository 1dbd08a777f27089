//! What every process has, and who had what when a lock was taken, from the actors' own notes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    actor::KINDS,
    shared::{Note, What},
};

/// An open file description: who opened it, a counter, and in its lowest byte the file.
pub(super) type Description = u64;

/// A process that has ever been: numbers come back, serials do not.
pub(super) type Serial = u32;

#[derive(Default)]
pub(super) struct Model {
    pub(super) actors: HashMap<Serial, Actor>,
    /// How many messages with it wait for whom.
    flight: HashMap<(Serial, Description), i64>,
    takes: HashMap<Description, Vec<Take>>,
    asks: HashMap<Serial, HashSet<Serial>>,
    unborn: HashMap<u64, Actor>,
    /// All that was ever noted: 24 bytes an operation.
    notes: Vec<Note>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Actor {
    pub(super) pid: u32,
    pub(super) dead: bool,
    /// Another program now, without an inbox.
    execed: bool,
    pub(super) fds: BTreeMap<i32, (Description, bool)>,
    pub(super) maps: Vec<Description>,
}

/// A lock was taken through a description.
#[derive(Clone, Debug)]
struct Take {
    kind: u64,
    who: Serial,
    /// Who had the description before the kernel was asked.
    parties: HashSet<Serial>,
}

impl Actor {
    pub(super) fn has(&self, description: Description) -> bool {
        !self.dead && (self.fds.values().any(|(d, _)| *d == description) || self.maps.contains(&description))
    }
}

impl Model {
    /// Reads on.
    pub(super) fn read(&mut self, notes: &[Note]) {
        self.notes.extend(notes);
        notes.iter().for_each(|note| self.note(*note));
        // A queue dies with its owner, and with its owner's program.
        let actors = &self.actors;
        self.flight.retain(|(to, _), count| *count != 0 && actors.get(to).is_some_and(|actor| !actor.dead));
        let kept: HashSet<_> =
            actors.values().flat_map(|a| a.fds.values().map(|(d, _)| *d).chain(a.maps.clone())).collect();
        let flies: HashSet<_> = self.flight.keys().map(|(_, d)| *d).collect();
        self.takes.retain(|description, _| kept.contains(description) || flies.contains(description));
    }

    fn note(&mut self, Note { what, who, a, b }: Note) {
        let to_another_program = self.actors.get(&(a as u32)).is_some_and(|to| what == What::Sends && to.execed);
        let actor = self.actors.entry(who).or_default();
        match what {
            What::Born => {
                let birth = self.unborn.remove(&a).unwrap_or_default();
                *actor = Actor { pid: b as u32, ..birth };
            }
            What::Forks => drop(self.unborn.insert(a << 32 | u64::from(who), actor.clone())),
            What::Has => drop(actor.fds.insert(a as i32, (b, a >> 32 != 0))),
            What::Receives => {
                actor.fds.insert(a as i32, (b, a >> 32 != 0));
                *self.flight.entry((who, b)).or_default() -= 1;
            }
            // Between a receiver's note that it becomes another program and its doing so there is time for a message,
            // which ends with the inbox.
            What::Sends if to_another_program => {}
            What::Sends => *self.flight.entry((a as u32, b)).or_default() += 1,
            What::Closes => drop(actor.fds.remove(&(a as i32))),
            What::Maps => actor.maps.push(b),
            What::Unmaps => {
                if let Some(at) = actor.maps.iter().rposition(|d| *d == b) {
                    actor.maps.remove(at);
                }
            }
            What::Asks => {
                let had = self.actors.iter().filter(|(_, actor)| actor.has(b)).map(|(serial, _)| *serial);
                let had = had.collect();
                self.asks.insert(who, had);
            }
            What::Takes => {
                let parties = self.asks.remove(&who).unwrap_or_default();
                self.take(Take { kind: a, who, parties }, b);
            }
            What::Execs => {
                actor.fds.retain(|_, (_, cloexec)| !*cloexec);
                actor.maps.clear();
                actor.execed = true;
                self.flight.retain(|(to, _), _| *to != who);
            }
            What::Dies => actor.dead = true,
        }
    }

    /// The kernel's lock may be an older one of the same taker: a range that was not unlocked, or a flock or lease that
    /// was asked for again in the same mode and stays as it was (fs/locks.c flock_lock_inode, 6.18). So a party has had
    /// the file before all of its taker's requests.
    fn take(&mut self, take: Take, description: Description) {
        let takes = self.takes.entry(description).or_default();
        match takes.iter_mut().find(|old| (old.kind, old.who) == (take.kind, take.who)) {
            Some(old) => old.parties.retain(|serial| take.parties.contains(serial)),
            None => takes.push(take),
        }
    }

    /// All that was noted of a description and of those who ever had to do with it, in order: for who has to find out
    /// which of us is wrong.
    pub(super) fn story(&self, description: Description) -> String {
        use What::{Born, Dies, Execs, Forks, Sends};
        let of_life = |note: &Note| matches!(note.what, Born | Forks | Execs | Dies);
        let about = |note: &&Note| !of_life(note) && note.b == description;
        let to = |note: &Note| (note.what == Sends).then_some(note.a as u32);
        let mut who: HashSet<_> =
            self.notes.iter().filter(about).flat_map(|note| [Some(note.who), to(note)]).flatten().collect();
        // Children of those have it without having noted anything.
        for note in self.notes.iter().filter(|note| note.what == Born) {
            if who.contains(&(note.a as u32)) {
                who.insert(note.who);
            }
        }
        let told = self.notes.iter().filter(|note| about(note) || of_life(note) && who.contains(&note.who));
        told.map(|Note { what, who, a, b }| format!("\n  {who} {what:?} {a:#x} {b:#x}")).collect()
    }

    /// Those alive.
    pub(super) fn living(&self) -> impl Iterator<Item = (Serial, &Actor)> {
        self.actors.iter().filter(|(_, actor)| !actor.dead).map(|(serial, actor)| (*serial, actor))
    }

    /// Descriptions of a file through which a process of this number has taken such a lock.
    pub(super) fn taken(&self, file: u64, kind: &str, pid: u32) -> Vec<Description> {
        let by =
            |take: &Take| KINDS[take.kind as usize] == kind && self.actors.get(&take.who).is_some_and(|a| a.pid == pid);
        let of = |d: &Description| d & 0xff == file;
        self.takes.iter().filter(|(d, takes)| of(d) && takes.iter().any(by)).map(|(d, _)| *d).collect()
    }

    /// Who keeps a description without a descriptor, and how.
    pub(super) fn hidden(&self, description: Description) -> BTreeSet<(u32, &'static str)> {
        let maps = self.living().filter(|(_, actor)| actor.maps.contains(&description));
        let maps = maps.map(|(_, actor)| (actor.pid, "mapping"));
        let flies = self.flight.keys().filter(|(_, d)| *d == description);
        let flies = flies.filter_map(|(to, _)| Some((self.actors.get(to)?.pid, "message")));
        maps.chain(flies).collect()
    }

    /// Why a lock that `pid` took through this description cannot be orphaned: whose it still is.
    pub(super) fn owners(&self, description: Description, kind: &str, pid: u32) -> Vec<Owner> {
        let taker = self.living().find(|(_, actor)| actor.pid == pid);
        let taker = taker.map(|(serial, _)| Owner { serial, pid, relation: Relation::Acquirer });
        let takes = self.takes.get(&description).into_iter().flatten();
        let takes = takes.filter(|take| KINDS[take.kind as usize] == kind);
        let parties = takes.filter(|take| self.actors.get(&take.who).is_some_and(|a| a.pid == pid)).flat_map(|take| {
            take.parties.iter().filter(|serial| **serial != take.who).filter_map(|serial| {
                let actor = self.actors.get(serial).filter(|actor| actor.has(description))?;
                // Twins get their serials in any order.
                let elder = *serial < take.who && actor.pid < pid;
                let relation = if elder { Relation::Elder } else { Relation::Younger };
                Some(Owner { serial: *serial, pid: actor.pid, relation })
            })
        });
        taker.into_iter().chain(parties).collect()
    }
}

/// Somebody who knows of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) serial: Serial,
    pub(super) pid: u32,
    pub(super) relation: Relation,
}

/// Who a party is to the acquirer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    Acquirer,
    /// Born before it.
    Elder,
    /// Born after it, but before the lock: nobody can tell who has not watched.
    Younger,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(notes: &[(What, Serial, u64, u64)]) -> Model {
        let mut model = Model::default();
        model.read(
            &notes.iter().map(|(what, who, a, b)| Note { what: *what, who: *who, a: *a, b: *b }).collect::<Vec<_>>(),
        );
        model
    }

    #[test]
    fn parties_had_the_file_before_the_lock() {
        use What::*;
        let d = 1 << 32 | 1 << 8 | 7;
        let begin = [(Born, 1, 0, 101), (Has, 1, 3, d), (Forks, 1, 1, 0), (Born, 2, 1 << 32 | 1, 102)];
        let takes = [(Asks, 1, 0, d), (Takes, 1, 0, d)];
        let check = |notes: &[&[(What, Serial, u64, u64)]], expect: &[(u32, Relation)]| {
            let model = model(&notes.concat());
            let owners: Vec<_> = model.owners(d, "flock", 101).iter().map(|o| (o.pid, o.relation)).collect();
            assert_eq!(owners, expect);
        };
        check(&[&begin, &takes], &[(101, Relation::Acquirer), (102, Relation::Younger)]);
        check(&[&begin, &takes, &[(Dies, 1, 0, 0)]], &[(102, Relation::Younger)]);
        check(&[&begin, &takes, &[(Dies, 1, 0, 0), (Closes, 2, 3, 0)]], &[]);
        // Born after the lock: an heir.
        check(&[&begin[..3], &takes, &begin[3..], &[(Dies, 1, 0, 0)]], &[]);
        // The child takes it: flock(1)'s way.
        let idiom = model(&[&begin[..], &[(Asks, 2, 0, d), (Takes, 2, 0, d), (Dies, 2, 0, 0)]].concat());
        assert_eq!(idiom.owners(d, "flock", 102)[0].relation, Relation::Elder);
    }

    #[test]
    fn messages_and_mappings_keep_it() {
        use What::*;
        let d = 1 << 32 | 1 << 8;
        let notes = [
            (Born, 1, 0, 101),
            (Born, 2, 0, 102),
            (Has, 1, 3, d),
            (Maps, 1, 0, d),
            (Closes, 1, 3, 0),
            (Sends, 1, 2, d),
        ];
        assert_eq!(model(&notes).hidden(d), BTreeSet::from([(101, "mapping"), (102, "message")]));
        let more = [&notes[..], &[(Receives, 2, 9, d), (Execs, 1, 0, 0)]].concat();
        assert_eq!(model(&more).hidden(d), BTreeSet::new());
        assert!(model(&more).actors[&2].has(d));
        let late = [&notes[..3], &[(Execs, 2, 0, 0), (Sends, 1, 2, d)]].concat();
        assert_eq!(model(&late).hidden(d), BTreeSet::new());
    }
}
