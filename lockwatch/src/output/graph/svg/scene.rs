//! What is to be seen: a card for every party and lock, an arrow for every wait and hold. Where many cards hang on one
//! other only, most of them become a single card: two hundred boxes in a row tell nobody anything.

use std::collections::HashMap;

use lockwatch_core::{
    graph::{Graph, Hold, Node, Party, Wait, Who},
    process::Process,
    report::Verdict,
};

use super::{
    layout::{Edge, Size},
    measure,
};
use crate::output::{
    graph::{Drawn, lock, means, party, state, wait},
    layout::{Give, cut},
    words,
};

/// So many cards that hang on the same other one are shown; of more than these some are shown and the others counted.
const CROWD: usize = 6;
/// Names of a crowd that its card's tooltip tells.
const NAMED: usize = 60;
/// Characters of a line; what is cut stands in the tooltip.
const LINE: usize = 34;

pub(super) const TITLE: f64 = 14.0;
pub(super) const TEXT: f64 = 12.0;
pub(super) const LABEL: f64 = 11.0;
pub(super) const LINE_HEIGHT: f64 = 17.0;
pub(super) const LABEL_HEIGHT: f64 = 14.0;
/// From a card's edge to its words, on the side of the icon and on the others.
pub(super) const ICON: f64 = 36.0;
pub(super) const PADDING: f64 = 12.0;

/// What a card stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    Process,
    /// The kernel, a remote client, somebody whom nobody saw.
    Other,
    Lock,
}

/// A word in a card's corner: what is wrong with it, and not by colour only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Deadlock,
    Hot,
    Orphaned,
}

impl Tag {
    /// The word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Tag::Deadlock => "deadlock",
            Tag::Hot => "hot",
            Tag::Orphaned => "orphaned",
        }
    }

    pub(super) fn width(self) -> f64 {
        measure::width(self.word(), 10.0, true) + 12.0
    }
}

/// A box with words.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) shape: Shape,
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) tag: Option<Tag>,
    /// Everything, in the tooltip.
    pub(super) tooltip: String,
}

/// A line between two cards.
#[derive(Clone, Debug)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    /// A wait; else a hold.
    pub(super) waits: bool,
    pub(super) deadlock: bool,
    pub(super) words: Vec<String>,
}

/// Everything that is to be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    pub(super) cards: Vec<Card>,
    pub(super) arrows: Vec<Arrow>,
    /// The circles of deadlocks, as cards along the arrows.
    pub(super) rings: Vec<Vec<usize>>,
}

impl Scene {
    pub(super) fn new(drawn: &Drawn<'_>) -> Self {
        let graph = drawn.graph;
        let locks = graph.locks.len();
        let cards = graph.locks.iter().map(|node| lock_card(node, drawn)).chain(graph.parties.iter().map(party_card));
        let waits = graph.waits.iter().map(|w| wait_arrow(w, graph, drawn));
        let holds = graph.holds.iter().map(|h| hold_arrow(h, locks));
        let ring = |circle: &[(usize, usize)]| circle.iter().flat_map(|&(p, l)| [locks + p, l]).collect();
        let scene = Self {
            cards: cards.collect(),
            arrows: waits.chain(holds).collect(),
            rings: graph.cycles.iter().map(|cycle| ring(&cycle.circle)).collect(),
        };
        scene.fold()
    }

    /// Makes one card of many that hang on the same other one in the same way, but for the first few.
    fn fold(self) -> Self {
        let mut arrows_of = vec![Vec::new(); self.cards.len()];
        for (i, arrow) in self.arrows.iter().enumerate() {
            arrows_of[arrow.from].push(i);
            arrows_of[arrow.to].push(i);
        }
        let mut crowds: HashMap<(usize, bool, Shape), Vec<usize>> = HashMap::new();
        for (card, arrows) in arrows_of.iter().enumerate() {
            if let [only] = arrows.as_slice() {
                let arrow = &self.arrows[*only];
                let (other, out) = if arrow.from == card { (arrow.to, true) } else { (arrow.from, false) };
                crowds.entry((other, out, self.cards[card].shape)).or_default().push(card);
            }
        }
        // A pair is the other's crowd of one on both sides: only crowds fold.
        let mut stands_for: Vec<usize> = (0..self.cards.len()).collect();
        let mut cards = self.cards.clone();
        for ((_, out, shape), crowd) in crowds.iter().filter(|(_, crowd)| crowd.len() > CROWD) {
            let rest = &crowd[CROWD - 1..];
            for &card in rest {
                stands_for[card] = rest[0];
            }
            cards[rest[0]] = crowd_card(*shape, *out, rest, &self.cards);
        }
        let kept: Vec<usize> = (0..cards.len()).filter(|&card| stands_for[card] == card).collect();
        let mut number = vec![0; cards.len()];
        for (new, &old) in kept.iter().enumerate() {
            number[old] = new;
        }
        let stays = |arrow: &&Arrow| stands_for[arrow.from] == arrow.from && stands_for[arrow.to] == arrow.to;
        let speaks_for_many = |card: usize| stands_for.iter().filter(|&&s| s == card).take(2).count() > 1;
        let many: Vec<bool> = kept.iter().map(|&card| speaks_for_many(card)).collect();
        let arrows = self.arrows.iter().filter(stays).map(|arrow| {
            let (from, to) = (number[arrow.from], number[arrow.to]);
            let words = if many[from] || many[to] { Vec::new() } else { arrow.words.clone() };
            Arrow { from, to, words, ..arrow.clone() }
        });
        Self {
            arrows: arrows.collect(),
            rings: self.rings.iter().map(|ring| ring.iter().map(|&card| number[card]).collect()).collect(),
            cards: kept.into_iter().map(|card| cards[card].clone()).collect(),
        }
    }

    /// How large each card is.
    pub(super) fn sizes(&self) -> Vec<Size> {
        let size = |card: &Card| {
            let tag = card.tag.map_or(0.0, |tag| tag.width() + 10.0);
            let title = measure::width(&card.title, TITLE, true) + tag;
            let widest = card.lines.iter().map(|line| measure::width(line, TEXT, false)).fold(title, f64::max);
            let h = 2.0 * PADDING + LINE_HEIGHT * (1 + card.lines.len()) as f64 - 4.0;
            Size { w: (ICON + widest + PADDING).max(130.0), h }
        };
        self.cards.iter().map(size).collect()
    }

    /// The arrows, with the room that their words take.
    pub(super) fn edges(&self) -> Vec<Edge> {
        let edge = |arrow: &Arrow| {
            let w = arrow.words.iter().map(|line| measure::width(line, LABEL, false)).fold(0.0, f64::max);
            let h = LABEL_HEIGHT * arrow.words.len() as f64;
            let label = if arrow.words.is_empty() { Size::default() } else { Size { w: w + 10.0, h: h + 4.0 } };
            Edge { from: arrow.from, to: arrow.to, label }
        };
        self.arrows.iter().map(edge).collect()
    }
}

fn short(text: &str, give: Give) -> String {
    cut(text, LINE, give)
}

fn lock_card(node: &Node<'_>, drawn: &Drawn<'_>) -> Card {
    let (row, now) = (node.lock, drawn.report.taken_at);
    let path = words::file(row.file, &row.file_seen);
    let (dir, name) = match path.rsplit_once('/') {
        Some((dir, name)) if !name.is_empty() && row.file_seen.path.is_some() => (Some(dir), name),
        _ => (None, path.as_str()),
    };
    let dir = dir.map(|dir| short(&format!("in {}", if dir.is_empty() { "/" } else { dir }), Give::Middle(1)));
    let orphaned = row.verdict == Verdict::Orphaned;
    let taker = row.acquirer.as_ref().filter(|taker| orphaned || taker.life.is_dead());
    let taker = taker.map(|taker| short(&format!("taken by {}", words::fate(taker)), Give::End(1)));
    let state = state(row, now).replace("DEADLOCK ", "").replace("HOT ", "");
    let lines = [dir, Some(lock(row)), taker, Some(state.clone())].into_iter().flatten().collect();
    let tag = match row {
        _ if node.cycle.is_some() => Some(Tag::Deadlock),
        _ if row.hot => Some(Tag::Hot),
        _ if orphaned => Some(Tag::Orphaned),
        _ => None,
    };
    let tooltip = format!("lock {} on {path}\n{}\n{state}", row.id, lock(row));
    Card { shape: Shape::Lock, title: short(name, Give::Middle(1)), lines, tag, tooltip }
}

fn party_card(node: &Party<'_>) -> Card {
    let tag = node.cycle.map(|_| Tag::Deadlock);
    let tooltip = party(node.who);
    match node.who {
        Who::Process(process) => {
            let pid = format!("pid {}", process.id.pid);
            let (title, pid) = match &process.comm {
                Some(comm) => (comm.to_string(), Some(pid)),
                None => (pid, None),
            };
            let home = home(process);
            let exe = process.exe.as_ref().map(ToString::to_string);
            let tooltip = [Some(tooltip), exe, home.clone()].into_iter().flatten().collect::<Vec<_>>().join("\n");
            let home = home.map(|home| short(&home, Give::Middle(1)));
            let lines = [pid, home].into_iter().flatten().collect();
            Card { shape: Shape::Process, title: short(&title, Give::End(1)), lines, tag, tooltip }
        }
        who => {
            let (title, detail) = match who {
                Who::Kernel(detail) => ("the kernel", detail),
                Who::Remote(detail) => ("a remote client", detail),
                _ => ("somebody", Some("whom nobody saw")),
            };
            let lines = detail.map(|detail| short(&words::sentence(detail), Give::End(1))).into_iter().collect();
            Card { shape: Shape::Other, title: title.to_owned(), lines, tag, tooltip }
        }
    }
}

/// Where a process belongs; the container says more than the unit that runs it.
fn home(process: &Process) -> Option<String> {
    let container = process.container.as_ref().map(|id| format!("container {id}"));
    container.or_else(|| process.unit.as_ref().map(ToString::to_string))
}

fn crowd_card(shape: Shape, out: bool, crowd: &[usize], cards: &[Card]) -> Card {
    let what = match (shape, out) {
        (Shape::Lock, true) => "held by it",
        (Shape::Lock, false) => "that it waits for",
        (_, true) => "in the queue",
        (_, false) => "keep it",
    };
    let noun = if shape == Shape::Lock { "more locks" } else { "more" };
    let names: Vec<String> = crowd.iter().take(NAMED).map(|&card| cards[card].tooltip.replace('\n', ", ")).collect();
    let more = if crowd.len() > NAMED { "\n…" } else { "" };
    Card {
        shape,
        title: format!("{} {noun}", crowd.len()),
        lines: vec![what.to_owned()],
        tag: None,
        tooltip: names.join("\n") + more,
    }
}

fn wait_arrow(edge: &Wait<'_>, graph: &Graph<'_>, drawn: &Drawn<'_>) -> Arrow {
    let (from, to) = (graph.locks.len() + edge.party, edge.lock);
    let words = wait(edge, graph.locks[to].lock, drawn.report.taken_at);
    Arrow { from, to, waits: true, deadlock: edge.cycle.is_some(), words }
}

fn hold_arrow(edge: &Hold<'_>, locks: usize) -> Arrow {
    let words = vec!["held by".to_owned(), means(edge)];
    Arrow { from: edge.lock, to: locks + edge.party, waits: false, deadlock: edge.cycle.is_some(), words }
}
