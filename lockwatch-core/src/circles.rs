//! Circles in directed graphs.

use std::collections::VecDeque;

/// The strongly connected component of each node: Tarjan's algorithm, with a stack of its own instead of recursion,
/// because a chain of waiters may be as long as the host has processes.
pub fn components(graph: &[Vec<usize>]) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let mut component = vec![UNSEEN; graph.len()];
    let (mut number, mut low) = (vec![UNSEEN; graph.len()], vec![0; graph.len()]);
    let (mut open, mut path) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for root in 0..graph.len() {
        if number[root] == UNSEEN {
            path.push((root, 0));
        }
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                (number[node], low[node]) = (seen, seen);
                seen += 1;
                open.push(node);
            } else {
                low[node] = low[node].min(low[graph[node][edge - 1]]);
            }
            // Low numbers of finished components must not count, so those neighbours are passed over.
            let next = (edge..graph[node].len()).find(|&e| component[graph[node][e]] == UNSEEN);
            if let Some(e) = next {
                let to = graph[node][e];
                path.push((node, e + 1));
                if number[to] == UNSEEN {
                    path.push((to, 0));
                }
            } else if low[node] == number[node] {
                while let Some(member) = open.pop() {
                    component[member] = node;
                    if member == node {
                        break;
                    }
                }
            }
        }
    }
    component
}

/// The shortest way from one node to another as the nodes on it, both ends included: `None` if there is none. From a
/// node to itself it is the shortest circle, and the node stands at both ends.
pub fn shortest_way(graph: &[Vec<usize>], from: usize, to: usize) -> Option<Vec<usize>> {
    let mut came_from = vec![None; graph.len()];
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        for &next in &graph[node] {
            if came_from[next].is_none() {
                came_from[next] = Some(node);
                queue.push_back(next);
            }
        }
    }
    let mut way = vec![to];
    let mut node = came_from[to]?;
    while node != from {
        way.push(node);
        node = came_from[node]?;
    }
    way.push(from);
    way.reverse();
    Some(way)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ways_are_short() {
        let graph = [vec![1, 2], vec![2], vec![3], vec![0], vec![4]];
        let check = |from, to, expect: Option<&[usize]>| assert_eq!(shortest_way(&graph, from, to).as_deref(), expect);
        check(0, 3, Some(&[0, 2, 3]));
        check(0, 0, Some(&[0, 2, 3, 0]));
        check(4, 4, Some(&[4, 4]));
        check(0, 4, None);
    }

    proptest! {
        #[test]
        fn components_are_the_nodes_that_reach_each_other(
            edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..20)
        ) {
            let mut graph = vec![Vec::new(); 8];
            let mut reach = [[false; 8]; 8];
            for &(from, to) in &edges {
                graph[from].push(to);
                reach[from][to] = true;
            }
            for via in 0..8 {
                for from in 0..8 {
                    for to in 0..8 {
                        reach[from][to] |= reach[from][via] && reach[via][to];
                    }
                }
            }
            let component = components(&graph);
            for (a, b) in (0..8).flat_map(|a| (0..8).map(move |b| (a, b))) {
                prop_assert_eq!(component[a] == component[b], a == b || (reach[a][b] && reach[b][a]));
            }
        }
    }
}
