//! The wait-for graph: who waits for which lock, who keeps that lock alive, and where that leads in a circle.
//!
//! A party is whoever stands in a queue or keeps a lock alive. `Party -> lock` is a wait, blocked by that granted lock;
//! `lock -> party` is a hold. Being queued behind somebody is no edge of its own: the kernel wakes all whom a lock
//! blocked, and who comes first is no obstacle once the lock is gone (fs/locks.c `__locks_wake_up_blocks`, 6.18).

mod build;
mod story;

use crate::{
    process::Process,
    report::{Holder, LockReport, Report, Waiter},
};

pub use self::story::testify;

/// The wait-for graph of a report. Lists name each other's elements by index.
#[derive(Clone, Debug, Default)]
pub struct Graph<'a> {
    /// Whoever waits or holds, in the order of the locks.
    pub parties: Vec<Party<'a>>,
    /// The locks, in the report's order.
    pub locks: Vec<Node<'a>>,
    /// Requests that a granted lock blocks.
    pub waits: Vec<Wait<'a>>,
    /// What keeps locks alive.
    pub holds: Vec<Hold<'a>>,
    /// Deadlocks: each a set of processes of which none can go on.
    pub cycles: Vec<Cycle>,
}

/// Whoever waits or holds.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Who.
    pub who: Who<'a>,
    /// On which cycle it stands.
    pub cycle: Option<usize>,
}

/// Who a party is.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// A process.
    Process(&'a Process),
    /// A waiter whom the source cannot name; each request is a party of its own.
    Unseen,
    /// The kernel: a loop device, a swap file; for each lock a party of its own.
    Kernel(Option<&'a str>),
    /// A client of the NFS server; for each lock a party of its own.
    Remote(Option<&'a str>),
}

/// A lock.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Which.
    pub lock: &'a LockReport,
    /// On which cycle it stands. A lock whose waiters are not on the cycle stands on none, whoever holds it.
    pub cycle: Option<usize>,
}

/// A request that a granted lock blocks.
#[derive(Clone, Copy, Debug)]
pub struct Wait<'a> {
    /// Who waits.
    pub party: usize,
    /// For which lock.
    pub lock: usize,
    /// The request; `behind` in it names those queued ahead.
    pub waiter: &'a Waiter,
    /// The party just ahead of it in the queue.
    pub ahead: Option<usize>,
    /// On which cycle it stands.
    pub cycle: Option<usize>,
}

/// A party that keeps a lock alive.
#[derive(Clone, Debug)]
pub struct Hold<'a> {
    /// Which lock.
    pub lock: usize,
    /// Who.
    pub party: usize,
    /// By what means; a process may have several descriptors of one lock.
    pub means: Vec<&'a Holder>,
    /// On which cycle it stands.
    pub cycle: Option<usize>,
}

/// A deadlock: a strongly connected part of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    /// Its processes.
    pub parties: Vec<usize>,
    /// The locks between them.
    pub locks: Vec<usize>,
    /// The shortest circle through the first lock: every party waits for the lock beside it, and the next party, at
    /// the end the first one, holds that. Larger deadlocks have more circles than this one.
    pub circle: Vec<(usize, usize)>,
}

impl<'a> Graph<'a> {
    /// The graph of all locks for which somebody waits.
    pub fn of(report: &'a Report) -> Self {
        Self::build(report.locks.iter().filter(|lock| !lock.waiters.is_empty()))
    }

    /// The graph of all locks, also of those for which nobody waits.
    pub fn of_all(report: &'a Report) -> Self {
        Self::build(&report.locks)
    }

    /// The parts that have to do with a lock that is wanted: what is connected with it in any direction.
    #[must_use]
    pub fn around(self, wanted: impl Fn(&LockReport) -> bool) -> Self {
        let part = self.parts();
        let mut kept = vec![false; self.parties.len() + self.locks.len()];
        for (node, &part) in self.locks.iter().zip(&part) {
            kept[part] |= wanted(node.lock);
        }
        let locks: Vec<_> =
            self.locks.iter().zip(&part).filter(|(_, part)| kept[**part]).map(|(node, _)| node.lock).collect();
        if locks.len() == self.locks.len() { self } else { Self::build(locks) }
    }

    /// For each lock, and then for each party, the number of the connected part that it belongs to.
    pub fn parts(&self) -> Vec<usize> {
        let mut part: Vec<usize> = (0..self.locks.len() + self.parties.len()).collect();
        let edges = self.waits.iter().map(|w| (w.lock, w.party)).chain(self.holds.iter().map(|h| (h.lock, h.party)));
        for (lock, party) in edges {
            let (a, b) = (root(&mut part, lock), root(&mut part, self.locks.len() + party));
            part[a.max(b)] = a.min(b);
        }
        (0..part.len()).map(|node| root(&mut part, node)).collect()
    }

    /// The shortest circle that leads through a lock, as in [`Cycle::circle`]; empty if none does.
    pub fn circle(&self, lock: usize) -> Vec<(usize, usize)> {
        self.way_round(&self.cycle_edges(), lock)
    }
}

/// Who stands for a set, in a forest of sets (union-find with path halving).
fn root(forest: &mut [usize], mut node: usize) -> usize {
    while forest[node] != node {
        forest[node] = forest[forest[node]];
        node = forest[node];
    }
    node
}

#[cfg(test)]
mod tests;
