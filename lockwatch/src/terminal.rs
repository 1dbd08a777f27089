//! What stands at the other end of stdout and stderr, and what may be sent there.

use std::{
    env,
    io::{self, IsTerminal},
};

use clap::ValueEnum;

/// What the user said about colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless NO_COLOR is set; CLICOLOR_FORCE turns it on anyway.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The facts about the outside that outputs depend on. [`Terminal::detect`] asks the system; tests make their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Columns of the terminal on stdout; `None` if there is none, and then nothing is cut.
    pub width: Option<usize>,
    /// Whether stdin is a terminal.
    pub stdin: bool,
    /// Whether stderr is a terminal.
    pub stderr: bool,
    /// NO_COLOR is set and not empty (no-color.org).
    pub no_color: bool,
    /// CLICOLOR_FORCE is set and neither empty nor 0 (bixense.com/clicolors).
    pub force_color: bool,
}

impl Terminal {
    /// Asks the system.
    pub fn detect() -> Self {
        let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty());
        Self {
            width: io::stdout().is_terminal().then(width),
            stdin: io::stdin().is_terminal(),
            stderr: io::stderr().is_terminal(),
            no_color: set("NO_COLOR").is_some(),
            force_color: set("CLICOLOR_FORCE").is_some_and(|v| v != "0"),
        }
    }

    /// Whether stdout gets colours.
    pub fn colour(&self, wish: Colour) -> bool {
        match wish {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if self.no_color => false,
            Colour::Auto => self.force_color || self.width.is_some(),
        }
    }
}

/// The terminal's own answer, else COLUMNS, else 80.
fn width() -> usize {
    let asked = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    let told = || env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    asked.filter(|w| *w > 0).or_else(told).unwrap_or(80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_follows_the_conventions() {
        let check = |wish, tty: bool, no_color, force_color, expect| {
            let terminal = Terminal { width: tty.then_some(80), no_color, force_color, ..Terminal::default() };
            assert_eq!(terminal.colour(wish), expect, "{wish:?} {terminal:?}");
        };
        check(Colour::Auto, true, false, false, true);
        check(Colour::Auto, false, false, false, false);
        check(Colour::Auto, true, true, false, false);
        check(Colour::Auto, false, false, true, true);
        check(Colour::Auto, true, true, true, false);
        check(Colour::Always, false, true, false, true);
        check(Colour::Never, true, false, true, false);
    }
}
