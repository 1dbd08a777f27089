//! Cells in columns: how wide they are, and how they are cut to fit.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
pub(crate) const GAP: usize = 2;

/// How a column may give way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Give {
    /// Not at all.
    Never,
    /// Its middle may go, down to so many cells: both ends of a path tell something.
    Middle(usize),
    /// Its end may go, down to so many cells.
    End(usize),
}

/// Cells that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Narrows columns until all fit into `room`, the widest first; as far as they give.
pub(crate) fn fit(widths: &mut [usize], gives: &[Give], room: usize) {
    let least = |give: &Give| match give {
        Give::Never => usize::MAX,
        Give::Middle(least) | Give::End(least) => *least,
    };
    while total(widths) > room {
        let candidates = widths.iter_mut().zip(gives).filter(|(width, give)| **width > least(give));
        match candidates.max_by_key(|(width, _)| **width) {
            Some((width, _)) => *width -= 1,
            None => return,
        }
    }
}

/// What columns of these widths take together.
pub(crate) fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// A text cut to a width, with `…` where something is missing.
pub(crate) fn cut(text: &str, room: usize, give: Give) -> String {
    if width(text) <= room || give == Give::Never {
        return text.to_owned();
    }
    let Some(left) = room.checked_sub(1) else { return String::new() };
    let (head, tail) = match give {
        Give::Middle(_) => (left / 2, left - left / 2),
        _ => (left, 0),
    };
    let head = take(text.chars(), head);
    let tail: String = take(text.chars().rev(), tail).chars().rev().collect();
    format!("{head}…{tail}")
}

/// The first characters that fit.
fn take(chars: impl Iterator<Item = char>, room: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += c.width().unwrap_or(0);
            used <= room
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_where_it_hurts_least() {
        let check = |text: &str, room, give, expect: &str| {
            let cut = cut(text, room, give);
            assert_eq!(cut, expect);
            assert!(width(&cut) <= room.max(if give == Give::Never { usize::MAX } else { 0 }));
        };
        check("/var/lib/app/data.db", 20, Give::Middle(1), "/var/lib/app/data.db");
        check("/var/lib/app/data.db", 13, Give::Middle(1), "/var/l…ata.db");
        check("4711 locksmith, SIGKILL", 10, Give::End(1), "4711 lock…");
        check("日本日本日本", 5, Give::Middle(1), "日…本");
        check("abc", 1, Give::End(1), "…");
        check("abc", 0, Give::End(1), "");
        check("f3k9-27qd", 4, Give::Never, "f3k9-27qd");
    }

    #[test]
    fn the_widest_gives_first_and_nobody_more_than_it_can() {
        let check = |mut widths: Vec<usize>, gives: &[Give], room, expect: &[usize]| {
            fit(&mut widths, gives, room);
            assert_eq!(widths, expect);
        };
        let gives = [Give::Never, Give::Middle(10), Give::End(8)];
        check(vec![12, 60, 20], &gives, 100, &[12, 60, 20]);
        check(vec![12, 60, 20], &gives, 66, &[12, 30, 20]);
        check(vec![12, 60, 20], &gives, 46, &[12, 15, 15]);
        check(vec![12, 60, 20], &gives, 10, &[12, 10, 8]);
    }
}
