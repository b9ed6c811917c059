//! Layout of a directed graph in columns, so that arrows run from left to right and few of them cross.
//!
//! It uses Sugiyama's method: break cycles, remove redundant arrows, assign columns by the longest path, order each column by its neighbours, and move
//! each box as near to its neighbours as the order allows.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::acyclic::Acyclic;
use petgraph::algo::tred::{dag_to_toposorted_adjacency_list, dag_transitive_reduction_closure};
use petgraph::data::Build;
use petgraph::graph::{DiGraph, NodeIndex};

type Graph = DiGraph<(), ()>;

/// The gap between two columns.
const COLUMN_GAP: f64 = 56.0;
/// The gap between two boxes of a column.
const ROW_GAP: f64 = 14.0;
/// The height of an arrow that passes through a column.
const PASSING: f64 = 10.0;
/// The number of iterations that improve the order.
const SWEEPS: usize = 12;

/// The width and height of a box.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Size {
    /// From left to right.
    pub width: f64,
    /// From top to bottom.
    pub height: f64,
}

/// The centre of a box, or a point of an arrow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

/// The positions of boxes and arrows.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The total size.
    pub size: Size,
    /// The centre of each box.
    pub boxes: Vec<Point>,
    /// The points of each arrow, from the edge of one box to the edge of the other.
    pub arrows: Vec<Vec<Point>>,
}

/// A box, or the point where a long arrow passes a column.
struct Vertex {
    column: usize,
    size: Size,
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Returns the layout of boxes of these sizes, with arrows from the first to the second box of each pair.
pub fn layout(sizes: &[Size], arrows: &[(usize, usize)]) -> Layout {
    let graph = acyclic(sizes.len(), arrows);
    let sorted: Vec<_> = graph.nodes_iter().collect();
    let arrows = reduced(graph.inner(), &sorted);
    let columns = columns(graph.inner(), &sorted);
    let boxes = sizes.iter().zip(&columns);
    let mut vertices: Vec<_> = boxes.map(|(size, column)| Vertex::new(*column, *size)).collect();
    let paths: Vec<_> = arrows.iter().map(|(from, to)| connect(&mut vertices, *from, *to)).collect();
    let mut order = ordered(&vertices);
    place(&mut vertices, &mut order);
    let centres = column_centres(&vertices, &order);
    let point = |i: usize| Point { x: centres[vertices[i].column], y: vertices[i].y };
    let arrow = |path: &Vec<usize>| {
        let mut points: Vec<_> = path.iter().map(|i| point(*i)).collect();
        let (first, last) = (path[0], path[path.len() - 1]);
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
        arrows: paths.iter().map(arrow).collect(),
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

/// Returns the graph of `count` boxes, without the arrows that would close a cycle.
fn acyclic(count: usize, arrows: &[(usize, usize)]) -> Acyclic<Graph> {
    let mut graph = Acyclic::<Graph>::new();
    let boxes: Vec<_> = (0..count).map(|_| graph.add_node(())).collect();
    for (from, to) in arrows {
        // An error means that the arrow would close a cycle.
        let _ = graph.try_update_edge(boxes[*from], boxes[*to], ());
    }
    graph
}

/// Returns the arrows that do not follow from the others.
fn reduced(graph: &Graph, sorted: &[NodeIndex]) -> Vec<(usize, usize)> {
    let (list, places) = dag_to_toposorted_adjacency_list::<_, usize>(graph, sorted);
    let (reduction, _) = dag_transitive_reduction_closure(&list);
    let arrows = graph.raw_edges().iter().map(|arrow| (arrow.source().index(), arrow.target().index()));
    arrows.filter(|(from, to)| reduction.contains_edge(places[*from], places[*to])).collect()
}

/// Returns the column of each box: right of its dependencies, and as near as possible to its dependants.
fn columns(graph: &Graph, sorted: &[NodeIndex]) -> Vec<usize> {
    let mut columns = vec![0; sorted.len()];
    for i in sorted {
        let before = graph.neighbors_directed(*i, Incoming).map(|before| columns[before.index()] + 1);
        columns[i.index()] = before.max().unwrap_or(0);
    }
    for i in graph.externals(Incoming) {
        let nearest = graph.neighbors_directed(i, Outgoing).map(|after| columns[after.index()]).min();
        columns[i.index()] = nearest.map_or(0, |column| column - 1);
    }
    columns
}

/// Connects two boxes, with a vertex in each column between them. Returns the path.
fn connect(vertices: &mut Vec<Vertex>, from: usize, to: usize) -> Vec<usize> {
    let mut path = vec![from];
    for column in vertices[from].column + 1..vertices[to].column {
        vertices.push(Vertex::new(column, Size { width: 0.0, height: PASSING }));
        path.push(vertices.len() - 1);
    }
    path.push(to);
    for pair in path.windows(2) {
        vertices[pair[0]].after.push(pair[1]);
        vertices[pair[1]].before.push(pair[0]);
    }
    path
}

/// Returns the vertices of each column, in an order in which few arrows cross.
fn ordered(vertices: &[Vertex]) -> Vec<Vec<usize>> {
    let count = vertices.iter().map(|v| v.column + 1).max().unwrap_or(0);
    let mut order = vec![Vec::new(); count];
    vertices.iter().enumerate().for_each(|(i, v)| order[v.column].push(i));
    let mut best = order.clone();
    let mut fewest = crossings(vertices, &order);
    for sweep in 0..SWEEPS {
        let backwards = sweep % 2 == 1;
        let mut places = vec![0.0; vertices.len()];
        let mut sequence: Vec<_> = (0..count).collect();
        if backwards {
            sequence.reverse();
        }
        for column in sequence {
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

/// Sets the vertical position of every vertex.
fn place(vertices: &mut [Vertex], order: &mut [Vec<usize>]) {
    for column in order.iter() {
        let desired: Vec<_> = column.iter().map(|_| 0.0).collect();
        fit(vertices, column, &desired);
    }
    for sweep in 0..SWEEPS {
        let backwards = sweep % 2 == 0;
        let mut sequence: Vec<_> = (0..order.len()).collect();
        if backwards {
            sequence.reverse();
        }
        for column in sequence {
            let position = |i: &usize| {
                let near = vertices[*i].before.iter().chain(&vertices[*i].after).map(|n| vertices[*n].y);
                mean(near).unwrap_or(vertices[*i].y)
            };
            let desired: Vec<_> = order[column].iter().map(position).collect();
            fit(vertices, &order[column], &desired);
        }
    }
    let top = vertices.iter().map(|v| v.y - v.size.height / 2.0).fold(f64::INFINITY, f64::min);
    vertices.iter_mut().for_each(|v| v.y -= top);
}

/// Sets the positions of a column to the nearest ones to the desired ones (by least squares) that keep the order and the gaps: isotonic regression by
/// pooling neighbours.
fn fit(vertices: &mut [Vertex], column: &[usize], desired: &[f64]) {
    let mut offset = 0.0;
    let mut offsets = Vec::new();
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (k, i) in column.iter().enumerate() {
        if k > 0 {
            offset += (vertices[column[k - 1]].size.height + vertices[*i].size.height) / 2.0 + ROW_GAP;
        }
        offsets.push(offset);
        let mut pool = (desired[k] - offset, 1);
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
        // A ladder with long arrows, an isolated box and a cycle.
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
    fn redundant_arrows_are_removed() {
        assert_eq!(layout(&[SIZE; 3], &[(0, 1), (1, 2), (0, 2), (0, 1), (2, 2)]).arrows.len(), 2);
    }

    #[test]
    fn arrows_do_not_cross_if_avoidable() {
        let layout = layout(&[SIZE; 4], &[(0, 3), (1, 2)]);
        let (a, b) = (&layout.arrows[0], &layout.arrows[1]);
        assert!((a[0].y < b[0].y) == (a[1].y < b[1].y));
    }

    #[test]
    fn an_empty_graph_has_an_empty_layout() {
        assert_eq!(layout(&[], &[]).size, Size { width: 0.0, height: 0.0 });
    }
}
