//! How far right things stand: as near as possible to their neighbours above and below, in a given order.

/// Sweeps over all layers. Each moves everything nearer to its neighbours, and there is nothing to be seen after these.
const SWEEPS: usize = 24;

/// The centre of each item. Between two items of a layer there are at least `gap`.
pub(super) fn place(
    layers: &[Vec<usize>],
    widths: &[f64],
    gap: f64,
    up: &[Vec<usize>],
    down: &[Vec<usize>],
) -> Vec<f64> {
    let mut xs = vec![0.0; widths.len()];
    for layer in layers {
        let mut x = 0.0;
        for &item in layer {
            xs[item] = x + widths[item] / 2.0;
            x += widths[item] + gap;
        }
    }
    for sweep in 0..SWEEPS {
        let both = sweep + SWEEPS / 3 >= SWEEPS;
        let downwards = sweep % 2 == 0;
        for i in 0..layers.len() {
            let layer = &layers[if downwards { i } else { layers.len() - 1 - i }];
            let wish = |item: usize| {
                let near: Vec<f64> = match (both, downwards) {
                    (true, _) => up[item].iter().chain(&down[item]).map(|&other| xs[other]).collect(),
                    (_, true) => up[item].iter().map(|&other| xs[other]).collect(),
                    (_, false) => down[item].iter().map(|&other| xs[other]).collect(),
                };
                match near.len() {
                    0 => (xs[item], 0.1),
                    n => (near.iter().sum::<f64>() / n as f64, 1.0),
                }
            };
            let wishes: Vec<(f64, f64)> = layer.iter().map(|&item| wish(item)).collect();
            let widths: Vec<f64> = layer.iter().map(|&item| widths[item]).collect();
            for (&item, x) in layer.iter().zip(settle(&wishes, &widths, gap)) {
                xs[item] = x;
            }
        }
    }
    let left = xs.iter().zip(widths).map(|(x, w)| x - w / 2.0).fold(f64::INFINITY, f64::min);
    xs.iter().map(|x| x - left).collect()
}

/// The places nearest to the wished ones (place and weight) that keep order and distance: least squares, by pooling
/// adjacent violators (isotonic regression) on what remains when the distances are taken out.
fn settle(wishes: &[(f64, f64)], widths: &[f64], gap: f64) -> Vec<f64> {
    let mut offset = 0.0;
    let offsets: Vec<f64> = (0..widths.len())
        .map(|i| {
            if i > 0 {
                offset += (widths[i - 1] + widths[i]) / 2.0 + gap;
            }
            offset
        })
        .collect();
    // Pools of neighbours that touch: mean, weight, how many.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (&(wish, weight), offset) in wishes.iter().zip(&offsets) {
        let mut pool = (wish - offset, weight, 1);
        while let Some(&(mean, weight, count)) = pools.last()
            && mean > pool.0
        {
            pools.pop();
            let both = weight + pool.1;
            pool = ((mean * weight + pool.0 * pool.1) / both, both, count + pool.2);
        }
        pools.push(pool);
    }
    let bases = pools.into_iter().flat_map(|(mean, _, count)| std::iter::repeat_n(mean, count));
    bases.zip(&offsets).map(|(base, offset)| base + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_granted_as_far_as_there_is_room() {
        let check = |wishes: &[f64], expect: &[f64]| {
            let weighted: Vec<(f64, f64)> = wishes.iter().map(|w| (*w, 1.0)).collect();
            assert_eq!(settle(&weighted, &vec![8.0; wishes.len()], 2.0), expect);
        };
        check(&[], &[]);
        check(&[5.0, 50.0], &[5.0, 50.0]);
        check(&[5.0, 5.0], &[0.0, 10.0]);
        check(&[20.0, 10.0, 100.0], &[10.0, 20.0, 100.0]);
        check(&[0.0, 0.0, 0.0], &[-10.0, 0.0, 10.0]);
    }
}
