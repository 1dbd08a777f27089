//! JSON strings that cannot disturb a terminal either.

use std::io::{self, Write};

use lockwatch_core::text::is_harmless;
use serde::Serialize;
use serde_json::ser::Formatter;

/// Writes a value as JSON in one line, without a newline at its end.
pub(crate) fn to_json<T: Serialize>(value: &T, out: &mut impl Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Escaping);
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// Compact JSON in which every character that [`is_harmless`] refuses stands as `\uXXXX`. The reader of the JSON gets
/// the same string; a terminal that shows it gets no direction mark, no C1 control and nothing invisible.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        // The common case: serde_json has escaped what is below 0x20 already. Without an early end the compiler looks
        // at many bytes at once.
        if fragment.bytes().fold(true, |plain, b| plain & (b < 0x7f)) {
            return out.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| !is_harmless(*c)) {
            out.write_all(&fragment.as_bytes()[plain..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            plain = at + c.len_utf8();
        }
        out.write_all(&fragment.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            to_json(&text, &mut out).unwrap();
            assert_eq!(String::from_utf8(out.clone()).unwrap(), expect);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        };
        check("/tmp/größe/日本", "\"/tmp/größe/日本\"");
        check("a\nb\"\x1b[31m", "\"a\\nb\\\"\\u001b[31m\"");
        check("x\u{9b}31m\u{7f}y", "\"x\\u009b31m\\u007fy\"");
        check("a\u{202e}gpj.exe", "\"a\\u202egpj.exe\"");
        check("tag \u{e0041}", "\"tag \\udb40\\udc41\"");
    }
}
