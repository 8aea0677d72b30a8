//! A graph as a picture: steps in rows below what they need, drawn without help from outside.

use std::fmt::Write as _;

use super::dump::label;
use super::{Graph, Op};

const ROW: usize = 74;
const BOX: usize = 34;
const GAP: usize = 24;
const MARGIN: usize = 20;
/// Width of a letter of the font, about.
const LETTER: usize = 7;
/// Longer names are cut.
const LETTERS: usize = 44;
/// Passes that bring steps near to what they are connected with.
const PASSES: usize = 8;

/// Where a step is drawn.
#[derive(Debug, Clone, Default)]
struct Place {
    row: usize,
    left: usize,
    width: usize,
    text: String,
}

impl Graph {
    /// The graph as an SVG document.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (places, rows) = self.places();
        let width = places.iter().map(|place| place.left + place.width).max().unwrap_or(0) + MARGIN;
        let height = rows * ROW + MARGIN;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"12\">\n"
        );
        out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n");
        // Writing to a String cannot fail.
        for (vertex, place) in self.vertices().iter().zip(&places) {
            for input in &vertex.inputs {
                let from = &places[input.index()];
                let (x1, y1) = (from.left + from.width / 2, MARGIN + from.row * ROW + BOX);
                let (x2, y2) = (place.left + place.width / 2, MARGIN + place.row * ROW);
                let bend = (y2.saturating_sub(y1) / 2).max(10);
                let _ = writeln!(
                    out,
                    "<path d=\"M{x1} {y1} C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#777\"/>",
                    y1 + bend,
                    y2 - bend
                );
            }
        }
        for (vertex, place) in self.vertices().iter().zip(&places) {
            let (x, y) = (place.left, MARGIN + place.row * ROW);
            let fill = match &vertex.op {
                Op::Source(_) => "#e8eef7",
                Op::Exec(_) => "#fbeedb",
                Op::File(_) => "#e9f5e6",
                Op::Merge => "#eeeeee",
            };
            let _ = writeln!(
                out,
                "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{BOX}\" rx=\"4\" fill=\"{fill}\" stroke=\"#555\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text></g>",
                escape(label(vertex)),
                place.width,
                x + place.width / 2,
                y + BOX / 2 + 4,
                escape(&place.text)
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// A row below all inputs, an order within the row by the middle of what is connected, and room for the text.
    fn places(&self) -> (Vec<Place>, usize) {
        let mut places: Vec<Place> = Vec::with_capacity(self.vertices().len());
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.vertices().len()];
        for (index, vertex) in self.vertices().iter().enumerate() {
            let row = vertex.inputs.iter().map(|input| places[input.index()].row + 1).max().unwrap_or(0);
            for input in &vertex.inputs {
                users[input.index()].push(index);
            }
            let text = shorten(label(vertex));
            let width = text.chars().count() * LETTER + 16;
            places.push(Place { row, left: 0, width, text });
        }
        let count = places.iter().map(|place| place.row + 1).max().unwrap_or(0);
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (index, place) in places.iter().enumerate() {
            rows[place.row].push(index);
        }
        for pass in 0..PASSES {
            for row in &mut rows {
                let middle = |index: &usize| {
                    let inputs = self.vertices()[*index].inputs.iter().map(|input| input.index());
                    let near: Vec<usize> = match pass % 2 {
                        0 => inputs.collect(),
                        _ => inputs.chain(users[*index].iter().copied()).collect(),
                    };
                    let sum: usize = near.iter().map(|other| places[*other].left + places[*other].width / 2).sum();
                    sum.checked_div(near.len()).unwrap_or(places[*index].left)
                };
                let mut order: Vec<(usize, usize)> = row.iter().map(|index| (middle(index), *index)).collect();
                order.sort_unstable();
                *row = order.iter().map(|(_, index)| *index).collect();
                let mut left = MARGIN;
                for (middle, index) in order {
                    let place = &mut places[index];
                    place.left = left.max(middle.saturating_sub(place.width / 2));
                    left = place.left + place.width + GAP;
                }
            }
        }
        (places, count)
    }
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= LETTERS {
        return line.to_owned();
    }
    line.chars().take(LETTERS - 1).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML has no other control characters.
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Builder, Metadata, Source};
    use super::*;

    #[test]
    fn rows_follow_the_arrows_and_boxes_do_not_overlap() {
        let mut builder = Builder::new();
        let named = |name: &str| Metadata { name: name.into(), ..Metadata::default() };
        let source = |name: &str| Op::Source(Source::Local { name: name.into() });
        let a = builder.add(source("a"), vec![], named("a <&> \"b\"\u{1}"));
        let b = builder.add(source("b"), vec![], named(&"long ".repeat(30)));
        let c = builder.add(Op::Merge, vec![a, b], named("c"));
        builder.add(Op::Merge, vec![a, c], named("d"));
        let graph = builder.finish();
        let (places, rows) = graph.places();
        assert_eq!((places.iter().map(|place| place.row).collect::<Vec<_>>(), rows), (vec![0, 0, 1, 2], 3));
        let (left, right) = if places[0].left < places[1].left { (0, 1) } else { (1, 0) };
        assert!(places[left].left + places[left].width < places[right].left);
        let svg = graph.to_svg();
        assert!(svg.contains("a &lt;&amp;&gt; &quot;b&quot;\u{fffd}") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(svg.matches("<path").count(), 4);
        assert!(Graph::default().to_svg().contains("<svg"));
    }
}
