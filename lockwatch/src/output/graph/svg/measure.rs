//! How wide a text will be, without a font at hand.

use unicode_width::UnicodeWidthChar;

/// Pixels that a text takes at most in the sans-serif fonts that browsers choose, at this size. The measures are those
/// of DejaVu Sans, which is wider than the others; a bold text takes a tenth more.
pub(super) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let em: f64 = text.chars().map(em).sum();
    em * size * if bold { 1.1 } else { 1.0 }
}

fn em(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '\'' | '|' => 0.29,
        ' ' | '.' | ',' | ':' | ';' | '/' | '\\' | 't' | 'f' | '(' | ')' | '[' | ']' | 'I' | '-' | '!' => 0.38,
        'r' | 's' | 'c' | 'k' | 'v' | 'x' | 'y' | 'z' | 'J' => 0.56,
        'm' | 'M' | 'w' | 'W' | '@' | '%' | '#' | '+' | '=' | '<' | '>' | '~' | '…' => 0.98,
        'A'..='Z' => 0.76,
        '\0'..='\u{7f}' => 0.64,
        c if c.width().unwrap_or(1) > 1 => 1.05,
        _ => 0.75,
    }
}
