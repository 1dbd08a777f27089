//! Where things stand in a picture: a layered drawing, after K. Sugiyama, S. Tagawa and M. Toda, "Methods for visual
//! understanding of hierarchical system structures" (1981).
//!
//! Layers are full of boxes (even ones) or of labels (odd ones), so that a label has a place of its own and never lies
//! on something else. What an edge passes on its way takes room in each layer too.

mod order;
mod place;
mod rank;

/// How large something is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Size {
    pub(super) w: f64,
    pub(super) h: f64,
}

/// Where something is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

/// A line from one box to another, with room for words on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Size,
}

/// A finished layout.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The centre of each box.
    pub(super) places: Vec<Point>,
    /// The way of each edge.
    pub(super) routes: Vec<Route>,
    /// What all of it takes.
    pub(super) size: Size,
}

/// The way of an edge: it leaves and reaches every point of it going up or down.
#[derive(Clone, Debug, Default)]
pub(super) struct Route {
    pub(super) points: Vec<Point>,
    /// The centre of its label.
    pub(super) label: Point,
}

/// Between two things beside each other.
const GAP: f64 = 26.0;
/// Between two layers at least: a line needs room to turn.
const LAYER: f64 = 28.0;
/// Between two parts that have nothing to do with each other.
const ROOM: f64 = 48.0;
/// How wide a picture becomes before the next part begins a new row.
const WIDTH: f64 = 1100.0;
/// Between two edges at the side of a box.
const PORT: f64 = 22.0;

/// Lays out boxes of these sizes. Each of `rings`, a circle of boxes along the edges, is drawn as one.
pub(super) fn layout(boxes: &[Size], edges: &[Edge], rings: &[Vec<usize>]) -> Plan {
    let pairs: Vec<(usize, usize)> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let ranked = rank::rank(boxes.len(), &pairs, rings);
    let mut plan = Plan {
        places: vec![Point::default(); boxes.len()],
        routes: vec![Route::default(); edges.len()],
        size: Size::default(),
    };
    let mut parts = parts(boxes.len(), &pairs);
    // Circles first, then in the order of the boxes.
    parts.sort_by_key(|part| (!rings.iter().flatten().any(|member| part.contains(member)), part.first().copied()));
    let parts: Vec<Part> = parts.into_iter().map(|members| Part::new(&members, boxes, edges, &ranked)).collect();
    let widest = parts.iter().map(|part| part.size.w).fold(WIDTH, f64::max);
    let (mut at, mut row) = (Point::default(), 0.0_f64);
    for part in parts {
        if at.x > 0.0 && at.x + part.size.w > widest {
            at = Point { x: 0.0, y: at.y + row + ROOM };
            row = 0.0;
        }
        row = row.max(part.size.h);
        plan.size.w = plan.size.w.max(at.x + part.size.w);
        plan.size.h = plan.size.h.max(at.y + part.size.h);
        let next = at.x + part.size.w + ROOM;
        part.copy_to(&mut plan, at);
        at.x = next;
    }
    plan
}

/// The boxes that are connected, in ascending order.
fn parts(count: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut beside = vec![Vec::new(); count];
    for &(a, b) in edges {
        beside[a].push(b);
        beside[b].push(a);
    }
    let mut seen = vec![false; count];
    let mut parts = Vec::new();
    for start in 0..count {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut part = vec![start];
        let mut next = 0;
        while let Some(&node) = part.get(next) {
            next += 1;
            for &other in &beside[node] {
                if !std::mem::replace(&mut seen[other], true) {
                    part.push(other);
                }
            }
        }
        part.sort_unstable();
        parts.push(part);
    }
    parts
}

/// A connected part, laid out from (0, 0).
struct Part {
    members: Vec<usize>,
    /// With the edge's number.
    routes: Vec<(usize, Route)>,
    places: Vec<Point>,
    size: Size,
}

impl Part {
    fn new(members: &[usize], boxes: &[Size], edges: &[Edge], ranked: &rank::Ranked) -> Self {
        let top = members.iter().map(|&m| ranked.rank[m]).min().unwrap_or(0);
        let mut items: Vec<Size> = members.iter().map(|&m| boxes[m]).collect();
        let mut layer_of: Vec<usize> = members.iter().map(|&m| 2 * (ranked.rank[m] - top)).collect();
        // Each edge becomes a chain of items from its upper to its lower end.
        let mut chains: Vec<(usize, Vec<usize>)> = Vec::new();
        for (number, edge) in edges.iter().enumerate() {
            let (Ok(from), Ok(to)) = (members.binary_search(&edge.from), members.binary_search(&edge.to)) else {
                continue;
            };
            let (upper, lower) = if ranked.reversed[number] { (to, from) } else { (from, to) };
            let mut chain = vec![upper];
            for layer in layer_of[upper] + 1..layer_of[lower] {
                let first = layer == layer_of[upper] + 1;
                chain.push(items.len());
                items.push(if first { edge.label } else { Size::default() });
                layer_of.push(layer);
            }
            chain.push(lower);
            chains.push((number, chain));
        }
        let (mut up, mut down) = (vec![Vec::new(); items.len()], vec![Vec::new(); items.len()]);
        for pair in chains.iter().flat_map(|(_, chain)| chain.windows(2)) {
            down[pair[0]].push(pair[1]);
            up[pair[1]].push(pair[0]);
        }
        let layers = order::order(&layer_of, &up, &down);
        let widths: Vec<f64> = items.iter().map(|item| item.w).collect();
        let xs = place::place(&layers, &widths, GAP, &up, &down);
        let (tops, heights, height) = rows(&layers, &items, &xs, &down);

        let middle = |item: usize| tops[layer_of[item]] + heights[layer_of[item]] / 2.0;
        let at = |item: usize| Point { x: xs[item], y: middle(item) };
        let port = |item: usize, others: &[usize], other: usize| {
            let mut others = others.to_vec();
            others.sort_by(|a, b| xs[*a].total_cmp(&xs[*b]).then(a.cmp(b)));
            let place = others.iter().position(|&o| o == other).unwrap_or(0);
            let step = PORT.min(items[item].w * 0.8 / others.len() as f64);
            xs[item] + (place as f64 - (others.len() - 1) as f64 / 2.0) * step
        };
        let route = |(number, chain): (usize, Vec<usize>)| {
            let (first, last) = (chain[0], chain[chain.len() - 1]);
            let inner = &chain[1..chain.len() - 1];
            let mut points =
                vec![Point { x: port(first, &down[first], chain[1]), y: middle(first) + items[first].h / 2.0 }];
            for &item in inner {
                let layer = layer_of[item];
                points.push(Point { x: xs[item], y: tops[layer] });
                points.push(Point { x: xs[item], y: tops[layer] + heights[layer] });
            }
            let end = port(last, &up[last], chain[chain.len() - 2]);
            points.push(Point { x: end, y: middle(last) - items[last].h / 2.0 });
            if ranked.reversed[number] {
                points.reverse();
            }
            (number, Route { points, label: inner.first().map_or_else(Point::default, |&item| at(item)) })
        };
        let width = items.iter().zip(&xs).map(|(item, x)| x + item.w / 2.0).fold(0.0, f64::max);
        Self {
            members: members.to_vec(),
            places: (0..members.len()).map(at).collect(),
            routes: chains.into_iter().map(route).collect(),
            size: Size { w: width, h: height },
        }
    }

    fn copy_to(self, plan: &mut Plan, by: Point) {
        let moved = |p: Point| Point { x: p.x + by.x, y: p.y + by.y };
        for (member, place) in self.members.into_iter().zip(self.places) {
            plan.places[member] = moved(place);
        }
        for (number, route) in self.routes {
            let points = route.points.into_iter().map(moved).collect();
            plan.routes[number] = Route { points, label: moved(route.label) };
        }
    }
}

/// Where each layer begins, how high it is, and where all of them end. The further an edge goes to the side, the more
/// room it gets to do so.
fn rows(layers: &[Vec<usize>], items: &[Size], xs: &[f64], down: &[Vec<usize>]) -> (Vec<f64>, Vec<f64>, f64) {
    let heights: Vec<f64> = layers.iter().map(|layer| layer.iter().map(|&i| items[i].h).fold(0.0, f64::max)).collect();
    let mut tops = Vec::with_capacity(layers.len());
    let mut y = 0.0;
    for (layer, height) in layers.iter().zip(&heights) {
        tops.push(y);
        let aside = |&i: &usize| down[i].iter().map(|&j| (xs[i] - xs[j]).abs()).fold(0.0, f64::max);
        let widest = layer.iter().map(aside).fold(0.0, f64::max);
        y += height + (LAYER + widest * 0.12).min(90.0);
    }
    let end = tops.last().copied().unwrap_or(0.0) + heights.last().copied().unwrap_or(0.0);
    (tops, heights, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Size as S;

    const BOX: Size = S { w: 100.0, h: 40.0 };
    const LABEL: Size = S { w: 60.0, h: 20.0 };

    fn plan(count: usize, pairs: &[(usize, usize)], rings: &[Vec<usize>]) -> Plan {
        let edges: Vec<Edge> = pairs.iter().map(|&(from, to)| Edge { from, to, label: LABEL }).collect();
        let plan = layout(&vec![BOX; count], &edges, rings);
        // Nothing lies on anything else, and all is inside.
        let boxes = plan.places.iter().map(|p| (*p, BOX));
        let labels = plan.routes.iter().map(|r| (r.label, LABEL));
        let all: Vec<(Point, Size)> = boxes.chain(labels).collect();
        for (i, (p, s)) in all.iter().enumerate() {
            assert!(p.x - s.w / 2.0 >= -0.01 && p.x + s.w / 2.0 <= plan.size.w + 0.01, "{i} is beside the picture");
            assert!(p.y - s.h / 2.0 >= -0.01 && p.y + s.h / 2.0 <= plan.size.h + 0.01, "{i} is beside the picture");
            for (j, (q, t)) in all.iter().enumerate().skip(i + 1) {
                let apart =
                    (p.x - q.x).abs() >= (s.w + t.w) / 2.0 - 0.01 || (p.y - q.y).abs() >= (s.h + t.h) / 2.0 - 0.01;
                assert!(apart, "{i} lies on {j}");
            }
        }
        for (route, (from, to)) in plan.routes.iter().zip(pairs) {
            let touches = |p: Point, of: usize| {
                (plan.places[of].y - p.y).abs() <= 20.01 && (plan.places[of].x - p.x).abs() <= 50.0
            };
            assert!(touches(route.points[0], *from) && touches(route.points[route.points.len() - 1], *to));
        }
        plan
    }

    #[test]
    fn a_chain_is_a_column() {
        let plan = plan(3, &[(0, 1), (1, 2)], &[]);
        assert!(plan.places.iter().all(|p| (p.x - plan.places[0].x).abs() < 0.1));
        assert!(plan.places[0].y < plan.places[1].y && plan.places[1].y < plan.places[2].y);
    }

    #[test]
    fn a_ring_is_round() {
        let ring: Vec<usize> = (0..6).collect();
        let plan = plan(6, &[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)], &[ring]);
        let y = |i: usize| plan.places[i].y;
        assert!(y(1) == y(5) && y(2) == y(4) && y(0) < y(1) && y(2) < y(3), "{:?}", plan.places);
        assert!((plan.places[0].x - plan.places[3].x).abs() < 1.0, "{:?}", plan.places);
    }

    #[test]
    fn whatever_comes_is_laid_out() {
        plan(0, &[], &[]);
        plan(5, &[], &[]);
        plan(2, &[(0, 1), (1, 0)], &[vec![0, 1]]);
        plan(4, &[(0, 1), (1, 0), (1, 2), (2, 3), (3, 0), (0, 2)], &[]);
        plan(6, &[(0, 1), (1, 2), (2, 3), (0, 3), (4, 3), (0, 5)], &[]);
        let star: Vec<(usize, usize)> = (1..60).map(|i| (i, 0)).collect();
        plan(60, &star, &[]);
        let chain: Vec<(usize, usize)> = (0..199).map(|i| (i, i + 1)).collect();
        plan(200, &chain, &[]);
        let mut mesh = Vec::new();
        for i in 0..40_usize {
            mesh.extend([(i, (i * 7 + 3) % 40), (i, (i * 11 + 5) % 40)]);
        }
        mesh.retain(|(a, b)| a != b);
        plan(40, &mesh, &[vec![0, 3, 24, 11]]);
    }
}
