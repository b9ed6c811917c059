//! Places the boxes of a directed graph in columns, so that most arrows run from left to right and few of them cross.
//!
//! The steps are Sugiyama's: break cycles, drop what other arrows say already, columns by the longest way, order within a column by the
//! neighbours, and then heights as near to the neighbours' as the order allows.

/// Between two columns.
const COLUMN_GAP: f64 = 56.0;
/// Between two boxes of a column.
const ROW_GAP: f64 = 14.0;
/// An arrow that only passes through a column takes this much of its height.
const PASSING: f64 = 10.0;
/// How often the order is bettered.
const SWEEPS: usize = 12;

/// The width and height of a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

/// The centre of a box, or a point that an arrow goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The size of the whole.
    pub size: Size,
    /// The centre of each box.
    pub boxes: Vec<Point>,
    /// The points of each arrow, from the edge of one box to the edge of the other.
    pub arrows: Vec<Vec<Point>>,
}

/// A box, or the place where a long arrow passes a column.
struct Vertex {
    column: usize,
    size: Size,
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Lays out boxes of these sizes with arrows from the first to the second of each pair.
pub fn layout(sizes: &[Size], arrows: &[(usize, usize)]) -> Layout {
    let arrows = reduced(sizes.len(), &acyclic(sizes.len(), arrows));
    let columns = columns(sizes.len(), &arrows);
    let boxes = sizes.iter().zip(&columns);
    let mut vertices: Vec<_> = boxes.map(|(size, column)| Vertex::new(*column, *size)).collect();
    let ways: Vec<_> = arrows.iter().map(|(from, to)| connect(&mut vertices, *from, *to)).collect();
    let mut order = ordered(&vertices);
    place(&mut vertices, &mut order);
    let centres = column_centres(&vertices, &order);
    let point = |i: usize| Point { x: centres[vertices[i].column], y: vertices[i].y };
    let way = |way: &Vec<usize>| {
        let mut points: Vec<_> = way.iter().map(|i| point(*i)).collect();
        let (first, last) = (way[0], way[way.len() - 1]);
        let end = points.len() - 1;
        points[0].x += vertices[first].size.width / 2.0;
        points[end].x -= vertices[last].size.width / 2.0;
        points
    };
    let bottom = vertices.iter().map(|v| v.y + v.size.height / 2.0).fold(0.0, f64::max);
    let right = (0..sizes.len()).map(|i| point(i).x + sizes[i].width / 2.0).fold(0.0, f64::max);
    Layout {
        size: Size { width: right, height: bottom },
        boxes: (0..sizes.len()).map(point).collect(),
        arrows: ways.iter().map(way).collect(),
    }
}

impl Vertex {
    fn new(column: usize, size: Size) -> Self {
        Self { column, size, before: Vec::new(), after: Vec::new(), y: 0.0 }
    }

    fn neighbours(&self, backwards: bool) -> &[usize] {
        if backwards { &self.after } else { &self.before }
    }
}

/// Without the arrows that would close a circle.
fn acyclic(count: usize, arrows: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut kept: Vec<(usize, usize)> = Vec::new();
    let mut after = vec![Vec::new(); count];
    for (from, to) in arrows.iter().copied() {
        if from != to && !after[from].contains(&to) && !reaches(&after, to, from) {
            after[from].push(to);
            kept.push((from, to));
        }
    }
    kept
}

/// Without the arrows whose order follows from the others.
fn reduced(count: usize, arrows: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut after = vec![Vec::new(); count];
    arrows.iter().for_each(|(from, to)| after[*from].push(*to));
    let follows = |from: usize, to: usize| after[from].iter().any(|next| *next != to && reaches(&after, *next, to));
    arrows.iter().copied().filter(|(from, to)| !follows(*from, *to)).collect()
}

fn reaches(after: &[Vec<usize>], from: usize, to: usize) -> bool {
    let mut seen = vec![false; after.len()];
    let mut queue = vec![from];
    while let Some(i) = queue.pop() {
        if i == to {
            return true;
        }
        if !std::mem::replace(&mut seen[i], true) {
            queue.extend(&after[i]);
        }
    }
    false
}

/// The column of each box: right of everything it comes after, and as near as can be to what comes after it.
fn columns(count: usize, arrows: &[(usize, usize)]) -> Vec<usize> {
    let mut columns = vec![0; count];
    // No way is longer than the number of boxes.
    for _ in 0..count {
        let mut changed = false;
        for (from, to) in arrows {
            changed |= columns[*to] <= columns[*from];
            columns[*to] = columns[*to].max(columns[*from] + 1);
        }
        if !changed {
            break;
        }
    }
    let has_before = |i: usize| arrows.iter().any(|(_, to)| *to == i);
    for i in (0..count).filter(|i| !has_before(*i)) {
        let nearest = arrows.iter().filter(|(from, _)| *from == i).map(|(_, to)| columns[*to]).min();
        columns[i] = nearest.map_or(0, |column| column - 1);
    }
    columns
}

/// Connects two boxes, with a vertex in each column between them; returns the way.
fn connect(vertices: &mut Vec<Vertex>, from: usize, to: usize) -> Vec<usize> {
    let mut way = vec![from];
    for column in vertices[from].column + 1..vertices[to].column {
        vertices.push(Vertex::new(column, Size { width: 0.0, height: PASSING }));
        way.push(vertices.len() - 1);
    }
    way.push(to);
    for pair in way.windows(2) {
        vertices[pair[0]].after.push(pair[1]);
        vertices[pair[1]].before.push(pair[0]);
    }
    way
}

/// The vertices of each column, in an order in which few arrows cross.
fn ordered(vertices: &[Vertex]) -> Vec<Vec<usize>> {
    let count = vertices.iter().map(|v| v.column + 1).max().unwrap_or(0);
    let mut order = vec![Vec::new(); count];
    vertices.iter().enumerate().for_each(|(i, v)| order[v.column].push(i));
    let mut best = order.clone();
    let mut fewest = crossings(vertices, &order);
    for sweep in 0..SWEEPS {
        let backwards = sweep % 2 == 1;
        let mut places = vec![0.0; vertices.len()];
        let mut way: Vec<_> = (0..count).collect();
        if backwards {
            way.reverse();
        }
        for column in way {
            let members = &mut order[column];
            let height = |i: usize| mean(vertices[i].neighbours(backwards).iter().map(|n| places[*n]));
            let mut keyed: Vec<_> =
                members.iter().enumerate().map(|(at, i)| (height(*i).unwrap_or(at as f64), *i)).collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            *members = keyed.into_iter().map(|(_, i)| i).collect();
            members.iter().enumerate().for_each(|(at, i)| places[*i] = at as f64);
        }
        let found = crossings(vertices, &order);
        if found < fewest {
            (fewest, best) = (found, order.clone());
        }
    }
    best
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

fn crossings(vertices: &[Vertex], order: &[Vec<usize>]) -> usize {
    let mut places = vec![0; vertices.len()];
    order.iter().flat_map(|column| column.iter().enumerate()).for_each(|(at, i)| places[*i] = at);
    let between = |column: &Vec<usize>| {
        let ends: Vec<_> =
            column.iter().flat_map(|i| vertices[*i].after.iter().map(|n| (places[*i], places[*n]))).collect();
        let crosses = |(k, a): (usize, &(usize, usize))| {
            ends[k + 1..].iter().filter(|b| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1)).count()
        };
        ends.iter().enumerate().map(crosses).sum::<usize>()
    };
    order.iter().map(between).sum()
}

/// Gives every vertex its height.
fn place(vertices: &mut [Vertex], order: &mut [Vec<usize>]) {
    for column in order.iter() {
        let wished: Vec<_> = column.iter().map(|_| 0.0).collect();
        settle(vertices, column, &wished);
    }
    for sweep in 0..SWEEPS {
        let backwards = sweep % 2 == 0;
        let mut way: Vec<_> = (0..order.len()).collect();
        if backwards {
            way.reverse();
        }
        for column in way {
            let wish = |i: &usize| {
                let near = vertices[*i].before.iter().chain(&vertices[*i].after).map(|n| vertices[*n].y);
                mean(near).unwrap_or(vertices[*i].y)
            };
            let wished: Vec<_> = order[column].iter().map(wish).collect();
            settle(vertices, &order[column], &wished);
        }
    }
    let top = vertices.iter().map(|v| v.y - v.size.height / 2.0).fold(f64::INFINITY, f64::min);
    vertices.iter_mut().for_each(|v| v.y -= top);
}

/// The heights nearest to the wished ones (by least squares) that keep the order and the gaps: isotonic regression by pooling neighbours.
fn settle(vertices: &mut [Vertex], column: &[usize], wished: &[f64]) {
    let mut offset = 0.0;
    let mut offsets = Vec::new();
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (k, i) in column.iter().enumerate() {
        if k > 0 {
            offset += (vertices[column[k - 1]].size.height + vertices[*i].size.height) / 2.0 + ROW_GAP;
        }
        offsets.push(offset);
        let mut pool = (wished[k] - offset, 1);
        while let Some(last) = pools.pop_if(|last| last.0 > pool.0) {
            let count = last.1 + pool.1;
            pool = ((last.0 * last.1 as f64 + pool.0 * pool.1 as f64) / count as f64, count);
        }
        pools.push(pool);
    }
    let heights = pools.iter().flat_map(|(height, count)| std::iter::repeat_n(height, *count));
    for ((i, offset), height) in column.iter().zip(offsets).zip(heights) {
        vertices[*i].y = height + offset;
    }
}

fn column_centres(vertices: &[Vertex], order: &[Vec<usize>]) -> Vec<f64> {
    let mut left = 0.0;
    let mut centres = Vec::new();
    for column in order {
        let width = column.iter().map(|i| vertices[*i].size.width).fold(0.0, f64::max);
        centres.push(left + width / 2.0);
        left += width + COLUMN_GAP;
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 100.0, height: 30.0 };

    #[test]
    fn arrows_run_from_left_to_right_and_no_boxes_overlap() {
        // A ladder with long arrows, a lonely box and a circle.
        let mut arrows: Vec<_> = (0..57).flat_map(|i| [(i, i + 1 + i % 3), (i / 2, i + 2)]).collect();
        arrows.push((20, 3));
        let layout = layout(&[SIZE; 60], &arrows);
        for arrow in &layout.arrows {
            assert!(arrow.windows(2).all(|pair| pair[0].x < pair[1].x), "{arrow:?}");
        }
        for (i, a) in layout.boxes.iter().enumerate() {
            for b in &layout.boxes[i + 1..] {
                assert!((a.x - b.x).abs() >= SIZE.width || (a.y - b.y).abs() >= SIZE.height, "{a:?} {b:?}");
            }
            assert!(a.x >= 0.0 && a.x <= layout.size.width && a.y >= 0.0 && a.y <= layout.size.height);
        }
    }

    #[test]
    fn what_follows_from_other_arrows_is_left_out() {
        assert_eq!(layout(&[SIZE; 3], &[(0, 1), (1, 2), (0, 2), (0, 1), (2, 2)]).arrows.len(), 2);
    }

    #[test]
    fn arrows_that_need_not_cross_do_not() {
        let layout = layout(&[SIZE; 4], &[(0, 3), (1, 2)]);
        let (a, b) = (&layout.arrows[0], &layout.arrows[1]);
        assert!((a[0].y < b[0].y) == (a[1].y < b[1].y));
    }

    #[test]
    fn nothing_is_laid_out_as_nothing() {
        assert_eq!(layout(&[], &[]).size, Size { width: 0.0, height: 0.0 });
    }
}
