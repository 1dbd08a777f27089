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
    // Turned edges point from a node to one that is finished later, so this order still fits.
    let order = topological(&above, &below);
    let mut rank = vec![0; count];
    for &node in &order {
        rank[node] = above[node].iter().map(|&upper| rank[upper] + 1).max().unwrap_or(0);
    }
    // Who has nobody above comes down to those it points at.
    for &node in order.iter().rev().filter(|&&node| above[node].is_empty()) {
        rank[node] = below[node].iter().map(|&lower| rank[lower] - 1).min().unwrap_or(rank[node]);
    }
    Ranked { rank, reversed }
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
        // 4 waits at 2: it stands just above it.
        check(5, &[(0, 1), (1, 2), (2, 3), (4, 3)], &[], &[0, 1, 2, 3, 2], 0);
    }
}
