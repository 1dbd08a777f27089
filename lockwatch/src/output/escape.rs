//! JSON strings that cannot disturb a terminal either.

use lockwatch_core::text::is_harmless;

/// Appends a JSON string, with its quotes.
///
/// Every character that [`is_harmless`] refuses stands as `\uXXXX`. The reader of the JSON gets the same string; a
/// terminal that shows it gets no direction mark, no control and nothing invisible.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // The common case. Without an early end the compiler looks at many bytes at once.
    match text.bytes().fold(true, |plain, byte| plain & is_plain(byte)) {
        true => out.extend_from_slice(text.as_bytes()),
        false => text.chars().for_each(|c| push_char(out, c)),
    }
    out.push(b'"');
}

/// Stands for itself in JSON and on a terminal.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

#[cold]
fn push_char(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' | '\\' => c,
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        _ if is_harmless(c) => return out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => {
            let units = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            return out.extend_from_slice(units.as_bytes());
        }
    };
    out.extend_from_slice(&[b'\\', short as u8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(String::from_utf8(out.clone()).unwrap(), expect);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        };
        check("/tmp/größe/日本", "\"/tmp/größe/日本\"");
        check("a\nb\"\x1b[31m", "\"a\\nb\\\"\\u001b[31m\"");
        check("\u{8}\u{c}\r\t\\", "\"\\b\\f\\r\\t\\\\\"");
        check("x\u{9b}31m\u{7f}y", "\"x\\u009b31m\\u007fy\"");
        check("a\u{202e}gpj.exe", "\"a\\u202egpj.exe\"");
        check("tag \u{e0041}", "\"tag \\udb40\\udc41\"");
    }
}
