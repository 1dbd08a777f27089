//! From rows to nodes and edges.

use std::collections::HashMap;

use super::{Cycle, Graph, Hold, Node, Party, Wait, Who};
use crate::{
    circles::{components, shortest_way},
    lock::{FileId, Mode, Range},
    observation::Via,
    process::ProcessId,
    report::{Holder, LockReport, Waiter},
    time::Timestamp,
};

impl<'a> Graph<'a> {
    /// The graph of these locks.
    pub(super) fn build(locks: impl IntoIterator<Item = &'a LockReport>) -> Self {
        let mut graph = Graph::default();
        let mut people = People::default();
        for lock in locks {
            let index = graph.locks.len();
            graph.locks.push(Node { lock, cycle: None });
            for holder in &lock.holders {
                let party = people.holder(&mut graph.parties, holder);
                match graph.holds.iter_mut().rev().take_while(|h| h.lock == index).find(|h| h.party == party) {
                    Some(hold) => hold.means.push(holder),
                    None => graph.holds.push(Hold { lock: index, party, means: vec![holder], cycle: None }),
                }
            }
            let first = graph.waits.len();
            for waiter in &lock.waiters {
                let party = people.waiter(&mut graph.parties, lock, waiter, &graph.waits[first..]);
                graph.waits.push(Wait { party, lock: index, waiter, ahead: None, cycle: None });
            }
            for wait in &mut graph.waits[first..] {
                let ahead = wait.waiter.behind.last().and_then(|pid| people.known.get(pid));
                wait.ahead = ahead.and_then(|same| same.last()).map(|(_, party)| *party).filter(|p| *p != wait.party);
            }
        }
        graph.mark_cycles();
        graph
    }

    /// Waits for deadlocked locks lead to what keeps them: on the nodes `locks, then parties`.
    pub(super) fn cycle_edges(&self) -> Vec<Vec<usize>> {
        let parties = self.locks.len();
        let mut edges = vec![Vec::new(); parties + self.parties.len()];
        for wait in self.waits.iter().filter(|w| self.locks[w.lock].lock.deadlock) {
            edges[parties + wait.party].push(wait.lock);
        }
        for hold in self.holds.iter().filter(|h| self.locks[h.lock].lock.deadlock) {
            edges[hold.lock].push(parties + hold.party);
        }
        edges
    }

    /// A lock is deadlocked if [`crate::blocking::deadlocked`] says so; here it is only told which belong together.
    fn mark_cycles(&mut self) {
        let parties = self.locks.len();
        let deadlocked: Vec<usize> = (0..parties).filter(|&lock| self.locks[lock].lock.deadlock).collect();
        if deadlocked.is_empty() {
            return;
        }
        let edges = self.cycle_edges();
        let component = components(&edges);
        let mut number: HashMap<usize, usize> = HashMap::new();
        for lock in deadlocked {
            let next = number.len();
            let cycle = *number.entry(component[lock]).or_insert(next);
            if cycle == self.cycles.len() {
                let circle = self.way_round(&edges, lock);
                // Nobody of this lock's people is here: the report was put together from two looks.
                if circle.is_empty() {
                    number.remove(&component[lock]);
                    continue;
                }
                self.cycles.push(Cycle { circle, ..Cycle::default() });
            }
            self.cycles[cycle].locks.push(lock);
            self.locks[lock].cycle = Some(cycle);
        }
        let cycle = |node: usize| number.get(&component[node]).copied();
        for (i, party) in self.parties.iter_mut().enumerate() {
            party.cycle = cycle(parties + i);
            if let Some(cycle) = party.cycle {
                self.cycles[cycle].parties.push(i);
            }
        }
        let on_one = |lock: usize, party: usize| cycle(lock).filter(|_| cycle(lock) == cycle(parties + party));
        for wait in &mut self.waits {
            wait.cycle = on_one(wait.lock, wait.party);
        }
        for hold in &mut self.holds {
            hold.cycle = on_one(hold.lock, hold.party);
        }
    }

    /// The shortest circle through a lock, along these edges.
    pub(super) fn way_round(&self, edges: &[Vec<usize>], lock: usize) -> Vec<(usize, usize)> {
        let Some(way) = shortest_way(edges, lock, lock) else { return Vec::new() };
        // lock, holder, lock, holder, … lock: every holder waits for the lock after it.
        let steps = way[1..].chunks_exact(2).map(|pair| (pair[0] - self.locks.len(), pair[1]));
        let mut circle: Vec<_> = steps.collect();
        // Told from whoever waits for this lock.
        circle.rotate_right(1);
        circle
    }
}

/// Parties by who they are.
#[derive(Default)]
struct People {
    /// By number, with their starts: two processes may have had one number.
    known: HashMap<u32, Vec<(ProcessId, usize)>>,
    /// Requests of nobody knows whom: the same request stands under each lock that blocks it.
    unseen: HashMap<(FileId, Mode, Range, Option<Timestamp>, usize), usize>,
}

impl People {
    fn process(&mut self, parties: &[Party<'_>], id: ProcessId) -> Result<usize, usize> {
        let namesakes = self.known.entry(id.pid).or_default();
        let same = |other: &ProcessId| other.start == id.start || other.start.is_none() || id.start.is_none();
        if let Some((_, party)) = namesakes.iter().find(|(other, _)| same(other)) {
            return Ok(*party);
        }
        namesakes.push((id, parties.len()));
        Err(parties.len())
    }

    fn holder<'a>(&mut self, parties: &mut Vec<Party<'a>>, holder: &'a Holder) -> usize {
        let who = match (&holder.process, holder.via) {
            (Some(process), _) => match self.process(parties, process.id) {
                Ok(party) => return party,
                Err(_) => Who::Process(process),
            },
            (None, Via::Remote) => Who::Remote(holder.detail.as_deref()),
            (None, _) => Who::Kernel(holder.detail.as_deref()),
        };
        parties.push(Party { who, cycle: None });
        parties.len() - 1
    }

    fn waiter<'a>(
        &mut self,
        parties: &mut Vec<Party<'a>>,
        lock: &LockReport,
        waiter: &'a Waiter,
        before: &[Wait<'_>],
    ) -> usize {
        let who = match &waiter.process {
            Some(process) => match self.process(parties, process.id) {
                Ok(party) => return party,
                Err(_) => Who::Process(process),
            },
            None => {
                let same = |other: &&Waiter| {
                    (other.process.is_none(), other.mode, other.range, other.since)
                        == (true, waiter.mode, waiter.range, waiter.since)
                };
                let rank = before.iter().map(|wait| wait.waiter).filter(same).count();
                let key = (lock.file, waiter.mode, waiter.range, waiter.since, rank);
                let party = *self.unseen.entry(key).or_insert(parties.len());
                if party < parties.len() {
                    return party;
                }
                Who::Unseen
            }
        };
        parties.push(Party { who, cycle: None });
        parties.len() - 1
    }
}
