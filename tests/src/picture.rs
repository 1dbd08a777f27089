//! A terminal as a picture: what programs printed, colours included, as SVG.

use std::fmt::Write;

/// Of one character, in pixels.
const CELL: (f64, f64) = (8.0, 18.0);
/// Around the text, and above it for the title.
const EDGE: (f64, f64) = (16.0, 38.0);

const STYLE: &str = "text{font:13.3px ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;\
fill:#d6dde5;white-space:pre}.b{font-weight:700}.d{fill:#98a4b1}.c31{fill:#ff8178}.c32{fill:#6fd98a}.c33{fill:#f0c35a}\
.c34{fill:#7cb7ff}.c35{fill:#d7a6ff}.c36{fill:#6fd3e3}.prompt{fill:#6fd98a}.title{fill:#98a4b1;text-anchor:middle}";

/// Lines as a terminal of so many columns shows them; `title` stands above them. What follows a `$ ` was typed.
pub fn terminal(title: &str, columns: u16, text: &str) -> String {
    let lines: Vec<_> = text.trim_end().lines().map(|line| line.trim_end_matches('\r')).collect();
    let (width, height) = (f64::from(columns) * CELL.0 + 2.0 * EDGE.0, lines.len() as f64 * CELL.1 + EDGE.1 + EDGE.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{0}\">\n<style>{STYLE}</style>\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#10161d\"/>\n\
         <text class=\"title\" x=\"{1}\" y=\"22\">{0}</text>\n",
        escaped(title),
        width / 2.0,
    );
    for (n, line) in lines.iter().enumerate() {
        let y = EDGE.1 + (n as f64 + 0.75) * CELL.1;
        let mut column = 0;
        for (class, run) in runs(line) {
            let count = run.chars().count();
            if !run.trim().is_empty() {
                // Every run is as wide as its cells, whatever font there is.
                let (x, long) = (EDGE.0 + column as f64 * CELL.0, count as f64 * CELL.0);
                let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
                let _ = writeln!(
                    svg,
                    "<text{class} x=\"{x}\" y=\"{y}\" textLength=\"{long}\" xml:space=\"preserve\">{}</text>",
                    escaped(&run)
                );
            }
            column += count;
        }
    }
    svg + "</svg>\n"
}

/// The pieces of a line, each with the classes of its style.
fn runs(line: &str) -> Vec<(String, String)> {
    if let Some(typed) = line.strip_prefix("$ ") {
        return vec![("prompt".into(), "$ ".into()), ("b".into(), typed.into())];
    }
    let (mut runs, mut classes) = (Vec::new(), Vec::<String>::new());
    for (n, piece) in line.split("\x1b[").enumerate() {
        let text = match piece.split_once('m').filter(|_| n > 0) {
            None => piece,
            Some((codes, text)) => {
                for code in codes.split(';') {
                    match code {
                        "" | "0" => classes.clear(),
                        "1" => classes.push("b".into()),
                        "2" => classes.push("d".into()),
                        colour => classes.push(format!("c{colour}")),
                    }
                }
                text
            }
        };
        if !text.is_empty() {
            runs.push((classes.join(" "), text.to_owned()));
        }
    }
    runs
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_classes() {
        let check = |line: &str, expect: &[(&str, &str)]| {
            let runs = runs(line);
            let runs: Vec<_> = runs.iter().map(|(class, text)| (class.as_str(), text.as_str())).collect();
            assert_eq!(runs, expect, "{line:?}");
        };
        check("plain", &[("", "plain")]);
        check("\x1b[1;31mHOT\x1b[0m rest", &[("b c31", "HOT"), ("", " rest")]);
        check("a \x1b[1mb\x1b[m c", &[("", "a "), ("b", "b"), ("", " c")]);
        check("$ lockwatch list", &[("prompt", "$ "), ("b", "lockwatch list")]);
        check("", &[]);
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let svg = terminal("a & b", 20, "<script>\r\n\n\"x\"\n");
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script"), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("&quot;x&quot;") && !svg.contains('\r'), "{svg}");
        // Three lines of 18, the second empty.
        assert!(svg.contains("height=\"108\"") && svg.matches("<text").count() == 3, "{svg}");
    }
}
