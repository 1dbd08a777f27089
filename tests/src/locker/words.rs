//! Words on a command line of the locker: separated by spaces, with `%XX` for every byte that could be mistaken.

/// A word as it travels: spaces, control characters, `%` and everything beyond ASCII become `%XX`.
pub fn encode(word: impl AsRef<[u8]>) -> String {
    word.as_ref().iter().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_graphic() && *byte != b'%' {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
        out
    })
}

/// The bytes that [`encode`] was given; `None` if they are not its work.
pub fn decode(word: &str) -> Option<Vec<u8>> {
    let mut bytes = word.bytes();
    let mut out = Vec::with_capacity(word.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_journey() {
        let check = |bytes: &[u8], expect: &str| {
            assert_eq!(encode(bytes), expect);
            assert_eq!(decode(expect).unwrap(), bytes);
        };
        check(b"/tmp/plain-file_1", "/tmp/plain-file_1");
        check(b"a b\n%", "a%20b%0a%25");
        check("\u{202e}".as_bytes(), "%e2%80%ae");
        check(b"\xff", "%ff");
    }

    #[test]
    fn broken_words_are_refused() {
        for word in ["%", "%4", "%zz"] {
            assert_eq!(decode(word), None, "{word}");
        }
    }
}
