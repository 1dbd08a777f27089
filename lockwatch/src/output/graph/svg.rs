//! A picture that needs nothing but a browser: no script, no font, no link. Light and dark follow the reader's system.

mod layout;
mod measure;
mod scene;

use std::io::{self, Write};

use self::{
    layout::{Plan, Point, Route, Size},
    scene::{Arrow, Card, ICON, LABEL_HEIGHT, LINE_HEIGHT, PADDING, Scene, Shape, Tag},
};
use super::Drawn;
use crate::output::{Options, document::rfc3339};

/// Around everything.
const MARGIN: f64 = 28.0;
/// What the heading takes.
const HEAD: f64 = 84.0;
/// What the legend takes.
const FOOT: f64 = 52.0;
/// Room for the legend and a heading of usual length.
const LEAST_WIDTH: f64 = 640.0;
/// The length of an arrow's head.
const ARROW: f64 = 9.0;

/// The style sheet of the picture, for a document that it stands in.
pub(crate) const STYLE: &str = include_str!("svg/style.css");

/// Prints the picture.
pub fn write(drawn: &Drawn<'_>, _: &Options, out: &mut impl Write) -> io::Result<()> {
    picture(drawn, HEAD, out)
}

/// The picture for a document that has a heading and [`STYLE`] itself.
pub(crate) fn within(drawn: &Drawn<'_>, out: &mut impl Write) -> io::Result<()> {
    picture(drawn, 0.0, out)
}

fn picture(drawn: &Drawn<'_>, head: f64, out: &mut impl Write) -> io::Result<()> {
    let whole = head > 0.0;
    let scene = Scene::new(drawn);
    let sizes = scene.sizes();
    let plan = layout::layout(&sizes, &scene.edges(), &scene.rings);
    let headline = drawn.headline();
    let least = LEAST_WIDTH.max(measure::width(&headline, 20.0, true));
    let width = (plan.size.w.max(least) + 2.0 * MARGIN).ceil();
    let height = (plan.size.h + head + FOOT + 2.0 * MARGIN).ceil();
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc">"#
    )?;
    writeln!(out, "<title id=\"title\">{}</title>", xml(&headline))?;
    writeln!(out, "<desc id=\"desc\">{}</desc>", xml(&description(&scene)))?;
    if whole {
        writeln!(out, "<style>\n{STYLE}</style>")?;
    }
    writeln!(out, "<defs>")?;
    for class in ["waits", "holds", "deadlock"] {
        writeln!(
            out,
            r#"<marker id="{class}" viewBox="0 0 9 8" refX="0" refY="4" markerWidth="9" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path class="head {class}" d="M0 0L9 4L0 8Z"/></marker>"#
        )?;
    }
    writeln!(out, "</defs>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>")?;
    if whole {
        let tone = if scene.rings.is_empty() { "headline" } else { "headline bad" };
        writeln!(out, "<text class=\"{tone}\" x=\"{MARGIN}\" y=\"{}\">{}</text>", MARGIN + 18.0, xml(&headline))?;
        writeln!(out, "<text class=\"soft\" x=\"{MARGIN}\" y=\"{}\">{}</text>", MARGIN + 41.0, xml(&origin(drawn)))?;
    }
    let left = ((width - plan.size.w) / 2.0).round();
    writeln!(out, "<g transform=\"translate({left} {})\">", MARGIN + head)?;
    for (arrow, route) in scene.arrows.iter().zip(&plan.routes) {
        line(arrow, route, out)?;
    }
    // Words over lines, boxes over both.
    for ((arrow, route), edge) in scene.arrows.iter().zip(&plan.routes).zip(scene.edges()) {
        label(arrow, route, edge.label, out)?;
    }
    boxes(&scene, &plan, &sizes, out)?;
    writeln!(out, "</g>")?;
    legend(MARGIN, height - MARGIN - 8.0, out)?;
    writeln!(out, "</svg>")
}

/// The whole graph in sentences, for those who cannot see it.
fn description(scene: &Scene) -> String {
    const SAID: usize = 100;
    let name = |card: usize| scene.cards[card].tooltip.lines().next().unwrap_or_default().to_owned();
    let say = |arrow: &Arrow| {
        let verb = if arrow.waits { "waits for" } else { "is held by" };
        let mark = if arrow.deadlock { " (deadlock)" } else { "" };
        format!("{} {verb} {}{mark}.", name(arrow.from), name(arrow.to))
    };
    scene.arrows.iter().take(SAID).map(say).collect::<Vec<_>>().join(" ")
}

/// Where and when, and what is not sure about it.
fn origin(drawn: &Drawn<'_>) -> String {
    let report = drawn.report;
    let host = if report.host.hostname.is_empty() { String::new() } else { format!("{}, ", report.host.hostname) };
    let doubt = if report.exact { "" } else { ", not exact" };
    format!("{host}{}{doubt}", rfc3339(report.taken_at, 0).replace('T', " ").replace('Z', " UTC"))
}

fn class(arrow: &Arrow) -> &'static str {
    match (arrow.deadlock, arrow.waits) {
        (true, _) => "deadlock",
        (false, true) => "waits",
        (false, false) => "holds",
    }
}

/// A smooth line that leaves and reaches each point vertically.
fn line(arrow: &Arrow, route: &Route, out: &mut impl Write) -> io::Result<()> {
    let [first, rest @ ..] = route.points.as_slice() else { return Ok(()) };
    let mut path = format!("M{:.1} {:.1}", first.x, first.y);
    let mut from = *first;
    for (i, &to) in rest.iter().enumerate() {
        let last = i + 1 == rest.len();
        // The head takes the end of the way.
        let y = if last { to.y - ARROW * (to.y - from.y).signum() } else { to.y };
        let to = Point { y, ..to };
        let middle = f64::midpoint(from.y, to.y);
        path += &match (to.x - from.x).abs() < 4.0 {
            true => format!("L{:.1} {:.1}", to.x, to.y),
            false => format!("C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}", from.x, to.x, to.x, to.y),
        };
        from = to;
    }
    let class = class(arrow);
    writeln!(out, "<path class=\"line {class}\" d=\"{path}\" marker-end=\"url(#{class})\"/>")
}

fn label(arrow: &Arrow, route: &Route, size: Size, out: &mut impl Write) -> io::Result<()> {
    if arrow.words.is_empty() {
        return Ok(());
    }
    let Point { x, y } = route.label;
    let (left, top) = (x - size.w / 2.0, y - size.h / 2.0);
    writeln!(
        out,
        "<rect class=\"paper\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        size.w, size.h
    )?;
    let red = if arrow.deadlock { " bad" } else { "" };
    for (i, words) in arrow.words.iter().enumerate() {
        let y = top + 12.0 + LABEL_HEIGHT * i as f64;
        writeln!(out, "<text class=\"label{red}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", xml(words))?;
    }
    Ok(())
}

fn boxes(scene: &Scene, plan: &Plan, sizes: &[Size], out: &mut impl Write) -> io::Result<()> {
    for ((card, place), size) in scene.cards.iter().zip(&plan.places).zip(sizes) {
        let at = Point { x: place.x - size.w / 2.0, y: place.y - size.h / 2.0 };
        writeln!(out, "<g class=\"card\" transform=\"translate({:.1} {:.1})\">", at.x, at.y)?;
        writeln!(out, "<title>{}</title>", xml(&card.tooltip))?;
        frame(card, *size, out)?;
        let y = PADDING + 12.0;
        writeln!(out, "<text class=\"name\" x=\"{ICON}\" y=\"{y}\">{}</text>", xml(&card.title))?;
        for (i, line) in card.lines.iter().enumerate() {
            let y = y + LINE_HEIGHT * (i + 1) as f64;
            writeln!(out, "<text class=\"soft\" x=\"{ICON}\" y=\"{y}\">{}</text>", xml(line))?;
        }
        if let Some(tag) = card.tag {
            self::tag(tag, size.w, out)?;
        }
        writeln!(out, "</g>")?;
    }
    Ok(())
}

fn frame(card: &Card, Size { w, h }: Size, out: &mut impl Write) -> io::Result<()> {
    let mark = match card.tag {
        Some(Tag::Deadlock) => " deadlock",
        Some(Tag::Hot | Tag::Orphaned) => " orphaned",
        None => "",
    };
    let (shape, radius) = match card.shape {
        Shape::Process => ("process", 14),
        Shape::Other => ("other", 14),
        Shape::Lock => ("lock", 4),
    };
    writeln!(out, "<rect class=\"{shape}{mark}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{radius}\"/>")?;
    icon(card.shape, PADDING, PADDING, out)
}

/// A padlock, or a terminal's prompt: 16 by 16.
fn icon(shape: Shape, x: f64, y: f64, out: &mut impl Write) -> io::Result<()> {
    let path = match shape {
        Shape::Lock => "M4.5 7V4.8a3.5 3.5 0 0 1 7 0V7M3 7h10v7.5H3zM8 9.8v2",
        Shape::Process => "M1.5 2.5h13v11h-13zM4.2 6l2.4 2.2-2.4 2.2M8.4 10.8h3.2",
        Shape::Other => "M8 1.5a6.5 6.5 0 1 0 .01 0M6 6.3a2 2 0 1 1 2.6 1.9q-.6.2-.6 1.2M8 11.4v.3",
    };
    writeln!(out, "<path class=\"icon\" transform=\"translate({x} {y})\" d=\"{path}\"/>")
}

/// A word in the upper right corner.
fn tag(tag: Tag, width: f64, out: &mut impl Write) -> io::Result<()> {
    let w = tag.width();
    let (x, y) = (width - w - 9.0, 10.5);
    writeln!(out, "<rect class=\"tag\" x=\"{x:.1}\" y=\"{y}\" width=\"{w:.1}\" height=\"16\" rx=\"8\"/>")?;
    writeln!(out, "<text class=\"tagged\" x=\"{:.1}\" y=\"{}\">{}</text>", x + w / 2.0, y + 11.5, tag.word())
}

fn legend(x: f64, y: f64, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "<g transform=\"translate({x} {y})\">")?;
    writeln!(out, "<rect class=\"process\" x=\"0.5\" y=\"-11\" width=\"24\" height=\"15\" rx=\"6\"/>")?;
    writeln!(out, "<text class=\"soft\" x=\"32\" y=\"1\">process</text>")?;
    writeln!(out, "<rect class=\"lock\" x=\"98.5\" y=\"-11\" width=\"24\" height=\"15\" rx=\"2\"/>")?;
    writeln!(out, "<text class=\"soft\" x=\"130\" y=\"1\">lock</text>")?;
    let arrows = [(178, "waits", "waits for"), (300, "holds", "held by"), (410, "deadlock", "part of a deadlock")];
    for (x, class, words) in arrows {
        let end = x + 26;
        writeln!(out, "<path class=\"line {class}\" d=\"M{x} -3.5H{end}\" marker-end=\"url(#{class})\"/>")?;
        writeln!(out, "<text class=\"soft\" x=\"{}\" y=\"1\">{words}</text>", end + 17)?;
    }
    writeln!(out, "</g>")
}

/// Text of XML. What a terminal could not stand is escaped before; two more characters are none in XML at all.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
