//! Who stands left of whom: each layer is sorted by where its neighbours stand, down and up, and the order with the
//! fewest crossings is kept.

/// Rounds without a better order after which the search ends.
const PATIENCE: usize = 4;

/// Each layer's items from left to right.
pub(super) fn order(layer_of: &[usize], up: &[Vec<usize>], down: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut layers = first(layer_of, up, down);
    let mut place = places(&layers, layer_of.len());
    let (mut best, mut fewest) = (layers.clone(), crossings(&layers, &place, down));
    let mut in_vain = 0;
    for round in 0.. {
        if fewest == 0 || in_vain == PATIENCE {
            break;
        }
        let downwards = round % 2 == 0;
        let beside = if downwards { up } else { down };
        let count = layers.len();
        for i in 0..count {
            let layer = if downwards { i } else { count - 1 - i };
            sort(&mut layers[layer], beside, &mut place);
        }
        let now = crossings(&layers, &place, down);
        in_vain += 1;
        if now < fewest {
            (best, fewest, in_vain) = (layers.clone(), now, 0);
        }
    }
    best
}

/// As a search from the first item finds them: neighbours come near each other.
fn first(layer_of: &[usize], up: &[Vec<usize>], down: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut layers = vec![Vec::new(); layer_of.iter().max().map_or(0, |last| last + 1)];
    let mut seen = vec![false; layer_of.len()];
    let mut starts: Vec<usize> = (0..layer_of.len()).collect();
    starts.sort_by_key(|&item| (layer_of[item], item));
    for start in starts {
        let mut stack = vec![start];
        while let Some(item) = stack.pop() {
            if std::mem::replace(&mut seen[item], true) {
                continue;
            }
            layers[layer_of[item]].push(item);
            stack.extend(up[item].iter().rev());
            stack.extend(down[item].iter().rev());
        }
    }
    layers
}

fn places(layers: &[Vec<usize>], count: usize) -> Vec<f64> {
    let mut place = vec![0.0; count];
    for (i, &item) in layers.iter().flat_map(|layer| layer.iter().enumerate()) {
        place[item] = i as f64;
    }
    place
}

/// Sorts by the mean place of the neighbours; who has none keeps its own.
fn sort(layer: &mut [usize], beside: &[Vec<usize>], place: &mut [f64]) {
    let wish = |item: usize| match beside[item].as_slice() {
        [] => place[item],
        others => others.iter().map(|&other| place[other]).sum::<f64>() / others.len() as f64,
    };
    let mut wished: Vec<(f64, usize)> = layer.iter().map(|&item| (wish(item), item)).collect();
    wished.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (i, (_, item)) in wished.into_iter().enumerate() {
        layer[i] = item;
        place[item] = i as f64;
    }
}

/// How many pairs of lines cross: between two layers, the inversions of the lower ends when the lines are sorted by
/// their upper ends, counted with a Fenwick tree.
fn crossings(layers: &[Vec<usize>], place: &[f64], down: &[Vec<usize>]) -> usize {
    layers
        .windows(2)
        .map(|pair| {
            let mut tree = vec![0_usize; pair[1].len() + 1];
            let (mut count, mut lines) = (0, 0);
            for &item in &pair[0] {
                let mut ends: Vec<usize> = down[item].iter().map(|&lower| place[lower] as usize).collect();
                ends.sort_unstable();
                for &end in &ends {
                    let (mut i, mut not_right) = (end + 1, 0);
                    while i > 0 {
                        not_right += tree[i];
                        i &= i - 1;
                    }
                    count += lines - not_right;
                }
                for end in ends {
                    lines += 1;
                    let mut i = end + 1;
                    while i < tree.len() {
                        tree[i] += 1;
                        i += i & i.wrapping_neg();
                    }
                }
            }
            count
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbours(count: usize, lines: &[(usize, usize)]) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut up, mut down) = (vec![Vec::new(); count], vec![Vec::new(); count]);
        for &(a, b) in lines {
            down[a].push(b);
            up[b].push(a);
        }
        (up, down)
    }

    #[test]
    fn crossings_are_counted() {
        let check = |lines: &[(usize, usize)], expect| {
            let (_, down) = neighbours(6, lines);
            let layers = [vec![0, 1, 2], vec![3, 4, 5]];
            assert_eq!(crossings(&layers, &places(&layers, 6), &down), expect, "{lines:?}");
        };
        check(&[(0, 3), (1, 4), (2, 5)], 0);
        check(&[(0, 5), (1, 4), (2, 3)], 3);
        check(&[(0, 4), (1, 3), (1, 4)], 1);
        check(&[(0, 5), (0, 4), (1, 3), (2, 3)], 4);
    }

    #[test]
    fn what_can_be_untangled_is() {
        let (up, down) = neighbours(8, &[(0, 7), (1, 6), (2, 5), (3, 4)]);
        let layers = order(&[0, 0, 0, 0, 1, 1, 1, 1], &up, &down);
        assert_eq!(crossings(&layers, &places(&layers, 8), &down), 0);
    }
}
