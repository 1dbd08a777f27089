//! Text that comes from the system: paths, command names, units. Anybody may have chosen its bytes.

use std::{
    borrow::Cow,
    fmt::{self, Write},
    sync::Arc,
};

/// Bytes from the system that cannot be printed unescaped.
///
/// `Display` escapes whatever could disturb a terminal or mislead its reader: control characters, bidi marks,
/// invisible characters and invalid UTF-8 (as `\xNN`). [`Text::lossy`] is for JSON, which has its own escapes.
///
/// A clone shares the bytes: one path may stand in many rows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Arc<[u8]>);

impl Text {
    /// Takes bytes as they are.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(bytes.as_ref().into())
    }

    /// Takes a NUL-terminated buffer, such as the kernel's `comm`: everything before the first NUL.
    pub fn from_nul_terminated(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Self::new(&bytes[..end])
    }

    /// The bytes as the system gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For JSON: invalid UTF-8 becomes U+FFFD. `Cow::Owned` says that bytes were lost.
    pub fn lossy(&self) -> Cow<'_, str> {
        // The common case first: whole texts are checked much faster than chunks.
        str::from_utf8(&self.0).map_or_else(|_| String::from_utf8_lossy(&self.0), Cow::Borrowed)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(s: &str) -> Self {
        Self::new(s)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |b: &u8| matches!(b, b' '..=b'~') && *b != b'\\';
        if let Ok(text) = str::from_utf8(&self.0)
            && self.0.iter().all(plain)
        {
            return f.pad(text);
        }
        // Padding and alignment must count the escaped form, so it is written to a buffer first.
        let mut out = String::with_capacity(self.0.len());
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\t' => out.push_str("\\t"),
                    '\r' => out.push_str("\\r"),
                    c if is_harmless(c) => out.push(c),
                    c if (c as u32) < 0x100 => write!(out, "\\x{:02x}", c as u32)?,
                    c => write!(out, "\\u{{{:x}}}", c as u32)?,
                }
            }
            for b in chunk.invalid() {
                write!(out, "\\x{b:02x}")?;
            }
        }
        f.pad(&out)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Whether a character shows as itself on a terminal: no control, no direction mark, nothing that takes no room.
pub fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{10ffff}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expect: &str) {
        assert_eq!(Text::new(bytes).to_string(), expect);
    }

    #[test]
    fn escapes_what_disturbs_a_terminal() {
        check(b"/var/lib/plain", "/var/lib/plain");
        check("/tmp/größe/日本".as_bytes(), "/tmp/größe/日本");
        check(b"a\nb\tc\\", "a\\nb\\tc\\\\");
        check(b"\x1b[31mred", "\\x1b[31mred");
        check("a\u{202e}gpj.exe".as_bytes(), "a\\u{202e}gpj.exe");
        check("zero\u{200b}width".as_bytes(), "zero\\u{200b}width");
        check(b"bad\xff\xc3", "bad\\xff\\xc3");
        check("c1\u{9b}31m".as_bytes(), "c1\\x9b31m");
    }

    #[test]
    fn pads_by_what_is_shown() {
        assert_eq!(format!("[{:>6}]", Text::from("ab")), "[    ab]");
    }

    #[test]
    fn kernel_buffers_end_at_the_first_nul() {
        assert_eq!(Text::from_nul_terminated(b"sleep\0junk").as_bytes(), b"sleep");
        assert_eq!(Text::from_nul_terminated(b"full").as_bytes(), b"full");
    }
}
