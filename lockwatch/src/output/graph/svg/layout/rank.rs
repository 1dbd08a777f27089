//! Who stands above whom: circles are cut open, then everybody stands below all who point at him.

/// The layer of each node, and which edges point up.
pub(super) struct Ranked {
    pub(super) rank: Vec<usize>,
    pub(super) reversed: Vec<bool>,
}

/// Ranks nodes. The second half of each ring is turned round, so that it comes up again on the other side; other
/// circles lose the edge that a search in depth finds to close them.
pub(super) fn rank(count: usize, edges: &[(usize, usize)], rings: &[Vec<usize>]) -> Ranked {
    let mut reversed = vec![false; edges.len()];
    for ring in rings {
        for i in ring.len() / 2..ring.len() {
            let step = (ring[i], ring[(i + 1) % ring.len()]);
            if let Some(edge) = edges.iter().position(|edge| *edge == step) {
                reversed[edge] = true;
            }
        }
    }
    let mut out = vec![Vec::new(); count];
    for (number, &(from, to)) in edges.iter().enumerate() {
        out[if reversed[number] { to } else { from }].push(number);
    }
    let head = |number: usize, turned: bool| if turned { edges[number].0 } else { edges[number].1 };

    // A search in depth with a stack of its own: chains may be long.
    let (mut entered, mut left) = (vec![false; count], vec![false; count]);
    let mut finished = Vec::with_capacity(count);
    let mut turn = vec![false; edges.len()];
    let mut path: Vec<(usize, usize)> = Vec::new();
    // Ring members first: a ring that was turned half round must not be entered from its middle.
    for start in rings.iter().filter_map(|ring| ring.first().copied()).chain(0..count) {
        if !entered[start] {
            entered[start] = true;
            path.push((start, 0));
        }
        while let Some((node, next)) = path.pop() {
            let Some(&edge) = out[node].get(next) else {
                left[node] = true;
                finished.push(node);
                continue;
            };
            path.push((node, next + 1));
            let to = head(edge, reversed[edge]);
            if !entered[to] {
                entered[to] = true;
                path.push((to, 0));
            } else if !left[to] {
                turn[edge] = true;
            }
        }
    }
    for (reversed, turn) in reversed.iter_mut().zip(&turn) {
        *reversed ^= turn;
    }

    let ends = |number: usize| if reversed[number] { (edges[number].1, edges[number].0) } else { edges[number] };
    let (mut above, mut below) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for number in 0..edges.len() {
        let (upper, lower) = ends(number);
        above[lower].push(upper);
        below[upper].push(lower);
    }
    let order = topological(&above, &below);
    let mut rank = longest(&order, &above, rings).or_else(|| longest(&order, &above, &[])).unwrap_or_default();
    // Who would rather stand near those it points at than near those above comes down.
    let on_ring = |node: usize| rings.iter().any(|ring| ring.contains(&node));
    for &node in order.iter().rev().filter(|&&node| above[node].len() <= below[node].len() && !on_ring(node)) {
        rank[node] = below[node].iter().map(|&lower| rank[lower] - 1).min().unwrap_or(rank[node]);
    }
    Ranked { rank, reversed }
}

/// Everybody below all that are above him, and rings round: both sides of one come down together. `None` if that
/// cannot be, because lines beside a ring cross it in both directions.
fn longest(order: &[usize], above: &[Vec<usize>], rings: &[Vec<usize>]) -> Option<Vec<usize>> {
    const ROUNDS: usize = 64;
    let mut rank = vec![0_usize; above.len()];
    for _ in 0..ROUNDS {
        let before = rank.clone();
        for &node in order {
            let least = above[node].iter().map(|&upper| rank[upper] + 1).max().unwrap_or(0);
            rank[node] = rank[node].max(least);
        }
        for ring in rings {
            let depth = |i: usize| i.min(ring.len() - i);
            let shift = ring.iter().enumerate().map(|(i, &node)| rank[node].saturating_sub(depth(i))).max();
            for (i, &node) in ring.iter().enumerate() {
                rank[node] = shift.unwrap_or(0) + depth(i);
            }
        }
        if rank == before {
            return Some(rank);
        }
    }
    None
}

/// The nodes, each after all that are above it.
fn topological(above: &[Vec<usize>], below: &[Vec<usize>]) -> Vec<usize> {
    let mut waits_for: Vec<usize> = above.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..above.len()).filter(|&node| waits_for[node] == 0).collect();
    let mut next = 0;
    while let Some(&node) = order.get(next) {
        next += 1;
        for &lower in &below[node] {
            waits_for[lower] -= 1;
            if waits_for[lower] == 0 {
                order.push(lower);
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_lead_down_but_for_those_that_close_circles() {
        let check = |count, edges: &[(usize, usize)], rings: &[Vec<usize>], expect: &[usize], up: usize| {
            let Ranked { rank, reversed } = rank(count, edges, rings);
            assert_eq!(rank, expect, "{edges:?}");
            assert_eq!(reversed.iter().filter(|r| **r).count(), up, "{edges:?}");
            for (number, &(from, to)) in edges.iter().enumerate() {
                assert_eq!(rank[from] > rank[to], reversed[number], "{from} -> {to}");
            }
        };
        check(3, &[(0, 1), (1, 2)], &[], &[0, 1, 2], 0);
        check(3, &[(0, 1), (1, 2), (2, 0)], &[], &[0, 1, 2], 1);
        check(4, &[(0, 1), (1, 2), (2, 3), (3, 0)], &[vec![0, 1, 2, 3]], &[0, 1, 2, 1], 2);
        // 4 points at 3: it stands just above it, and so does the chain that ends there.
        check(5, &[(0, 1), (1, 2), (2, 3), (4, 3)], &[], &[0, 1, 2, 3, 2], 0);
        check(6, &[(0, 1), (1, 2), (2, 3), (5, 4), (4, 3)], &[], &[0, 1, 2, 3, 2, 1], 0);
        // A chain of 4, 5 and 6 leads to the ring's 1: all of the ring comes down.
        let ring = vec![0, 1, 2, 3];
        let lines = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 1)];
        check(7, &lines, &[ring], &[2, 3, 4, 3, 0, 1, 2], 2);
        // A line across the ring in the wrong direction: it is cut open elsewhere, and everybody has a place.
        let across = [(0, 1), (1, 2), (2, 3), (3, 0), (1, 4), (4, 3), (3, 5), (5, 1)];
        let Ranked { rank, reversed } = super::rank(6, &across, &[vec![0, 1, 2, 3]]);
        for (number, &(from, to)) in across.iter().enumerate() {
            assert_eq!(rank[from] > rank[to], reversed[number], "{from} -> {to}");
            assert_ne!(rank[from], rank[to]);
        }
    }
}
