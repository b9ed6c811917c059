//! The dependency graph as a picture: one box per resource, with dependencies to the left of their dependants.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, PreEscaped, html};
use moorfast_engine::configuration::GraphView;

use super::escaped::Escaped;
use super::layout::{Point, Size, layout};

/// Maximum number of boxes in a readable picture.
pub const LIMIT: usize = 400;

const MARGIN: f64 = 12.0;
/// The character widths of the name, and of the type above it.
const NAME: f64 = 7.9;
const KIND: f64 = 6.3;

const STYLE: &str = "
  .mf-graph { color-scheme: light dark; font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace;
    --ink: #1f2328; --dim: #59636e; --line: #8c959f; --paper: #ffffff; --plain: #f6f8fa;
    --add: #1a7f37; --change: #9a6700; --destroy: #cf222e; }
  @media (prefers-color-scheme: dark) { .mf-graph {
    --ink: #f0f6fc; --dim: #9198a1; --line: #656c76; --paper: #0d1117; --plain: #151b23;
    --add: #3fb950; --change: #d29922; --destroy: #f85149; } }
  .mf-graph .paper { fill: var(--paper); }
  .mf-graph .box rect { fill: var(--plain); stroke: var(--line); stroke-width: 1.2; }
  .mf-graph .box.value rect { stroke-dasharray: 4 3; }
  .mf-graph .box.add rect { stroke: var(--add); stroke-width: 2.2; }
  .mf-graph .box.change rect { stroke: var(--change); stroke-width: 2.2; }
  .mf-graph .box.destroy rect { stroke: var(--destroy); stroke-width: 2.6; }
  .mf-graph .kind { font-size: 10.5px; fill: var(--dim); }
  .mf-graph .name { font-size: 13px; font-weight: 600; fill: var(--ink); }
  .mf-graph .count { font-weight: 400; fill: var(--dim); }
  .mf-graph path { fill: none; stroke: var(--line); stroke-width: 1.3; }
  .mf-graph marker path { fill: var(--line); stroke: none; }
";

/// A picture of a dependency graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The boxes of the resources.
    pub boxes: Vec<PictureBox>,
    /// The arrows from a dependency to its dependant, as indexes of `boxes`.
    pub arrows: Vec<(usize, usize)>,
}

/// The box of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PictureBox {
    /// The address of the resource, for example `ssh_file.config`.
    pub name: String,
    /// The number of instances, or 0 if it is not a resource with instances.
    pub instances: usize,
    /// The CSS class: `add`, `change`, `destroy` or empty.
    pub class: &'static str,
    /// The target of a click.
    pub link: Option<String>,
}

impl Picture {
    /// Creates the picture of a graph.
    pub fn of(graph: &GraphView) -> Self {
        let mut picture = Self::default();
        let mut places = BTreeMap::new();
        for node in &graph.nodes {
            picture.put(&mut places, node);
        }
        for (after, before) in &graph.edges {
            let (Some(before), Some(after)) = (places.get(resource(before)), places.get(resource(after))) else {
                continue;
            };
            picture.arrow(*before, *after);
        }
        picture
    }

    /// Adds the instance `name` to the box of its resource. Returns the index of the box.
    pub fn put<'a>(&mut self, places: &mut BTreeMap<&'a str, usize>, name: &'a str) -> usize {
        let resource = resource(name);
        let place = *places.entry(resource).or_insert_with(|| {
            self.boxes.push(PictureBox { name: resource.to_owned(), ..PictureBox::default() });
            self.boxes.len() - 1
        });
        self.boxes[place].instances += usize::from(resource.len() < name.len());
        place
    }

    /// Adds an arrow, unless it exists.
    pub fn arrow(&mut self, before: usize, after: usize) {
        if before != after && !self.arrows.contains(&(before, after)) {
            self.arrows.push((before, after));
        }
    }

    /// Returns the picture as SVG, which can be a file or part of an HTML page.
    pub fn svg(&self) -> Markup {
        let sizes: Vec<_> = self.boxes.iter().map(PictureBox::size).collect();
        let layout = layout(&sizes, &self.arrows);
        let [width, height] =
            [layout.size.width, layout.size.height].map(|length| format!("{:.0}", length + 2.0 * MARGIN));
        html! {
            svg xmlns="http://www.w3.org/2000/svg" class="mf-graph" viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height)
                role="img" aria-label="The dependency graph"
            {
                style { (PreEscaped(STYLE)) }
                defs {
                    marker #mf-tip viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" {
                        path d="M0 0L8 4L0 8z" {}
                    }
                }
                rect.paper width="100%" height="100%" {}
                g transform={ "translate(" (MARGIN) " " (MARGIN) ")" } {
                    @for points in &layout.arrows { path d=(curve(points)) marker-end="url(#mf-tip)" {} }
                    @for ((shown, size), centre) in self.boxes.iter().zip(sizes).zip(&layout.boxes) { (shown.svg(size, *centre)) }
                }
            }
        }
    }
}

impl PictureBox {
    /// Returns the type, which is shown above, and the name.
    fn parts(&self) -> (&str, &str) {
        self.name.rsplit_once('.').unwrap_or(("", &self.name))
    }

    fn count(&self) -> String {
        if self.instances > 1 { format!(" ×{}", self.instances) } else { String::new() }
    }

    fn size(&self) -> Size {
        let (kind, name) = self.parts();
        let length = |text: &str, width: f64| text.chars().count() as f64 * width;
        Size { width: length(kind, KIND).max(length(name, NAME) + length(&self.count(), NAME)) + 20.0, height: 38.0 }
    }

    fn svg(&self, size: Size, centre: Point) -> Markup {
        let (kind, name) = self.parts();
        let is_value = ["var", "local", "output"].contains(&kind);
        let class = if is_value { "value" } else { self.class };
        let (left, top) = (centre.x - size.width / 2.0, centre.y - size.height / 2.0);
        let at = |length: f64| format!("{length:.1}");
        let shown = html! {
            g class={ "box " (class) } {
                title { (Escaped(&self.name)) }
                rect x=(at(left)) y=(at(top)) width=(at(size.width)) height=(at(size.height)) rx="6" {}
                text.kind x=(at(left + 10.0)) y=(at(top + 15.0)) { (Escaped(kind)) }
                text.name x=(at(left + 10.0)) y=(at(top + 30.0)) { (Escaped(name)) tspan.count { (self.count()) } }
            }
        };
        match &self.link {
            Some(link) => html! { a href=(link) { (shown) } },
            None => shown,
        }
    }
}

/// Returns the address of the resource of an instance.
fn resource(name: &str) -> &str {
    name.split_once('[').map_or(name, |(resource, _)| resource)
}

/// Returns the path of an arrow, which starts and ends horizontally.
fn curve(points: &[Point]) -> String {
    let Some(first) = points.first() else { return String::new() };
    let mut way = format!("M{:.1} {:.1}", first.x, first.y);
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let middle = (a.x + b.x) / 2.0;
        let _ = write!(way, "C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}", a.y, b.y, b.x, b.y);
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_share_the_box_of_their_resource() {
        let names = ["ssh_file.a[\"x<y\"]", "ssh_file.a[\"z\"]", "ssh_directory.d[\"z\"]", "var.region"];
        let edges = [(0, 2), (1, 2), (0, 3)].map(|(a, b): (usize, usize)| (names[a].to_owned(), names[b].to_owned()));
        let picture = Picture::of(&GraphView { nodes: names.map(str::to_owned).to_vec(), edges: edges.to_vec() });
        assert_eq!(
            picture.boxes.iter().map(|b| (b.name.as_str(), b.instances)).collect::<Vec<_>>(),
            [("ssh_file.a", 2), ("ssh_directory.d", 1), ("var.region", 0)]
        );
        assert_eq!(picture.arrows, [(1, 0), (2, 0)]);
        let svg = picture.svg().into_string();
        assert!(svg.contains("ssh_file.a") && svg.contains("×2") && svg.contains("marker-end"), "{svg}");
    }
}
