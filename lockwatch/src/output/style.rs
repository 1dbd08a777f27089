//! Colours, or none.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};
use lockwatch_core::report::LockReport;
use lockwatch_core::report::Verdict;

/// Bold: headings, and what is hot.
pub(crate) const STRONG: Style = Style::new().bold();
/// Hot: act now.
pub(crate) const HOT: Style = AnsiColor::Red.on_default().bold();
/// Orphaned, missing.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// Not known, degraded.
pub(crate) const DOUBT: Style = AnsiColor::Yellow.on_default();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Nothing to see.
pub(crate) const PLAIN: Style = Style::new();

/// The colour of a lock's verdict.
pub(crate) fn of(lock: &LockReport) -> Style {
    match lock.verdict {
        _ if lock.hot || lock.deadlock => HOT,
        Verdict::Orphaned => BAD,
        Verdict::Unknown => DOUBT,
        Verdict::HandedOver | Verdict::Held => PLAIN,
    }
}

/// A text in a style, if colours are wanted.
pub(crate) fn paint<T: Display>(on: bool, style: Style, text: T) -> impl Display {
    Painted { style: if on { style } else { PLAIN }, text }
}

struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = self.style;
        write!(f, "{style}{}{style:#}", self.text)
    }
}
