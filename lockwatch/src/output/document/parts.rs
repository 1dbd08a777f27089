//! What documents are made of: moments, ranges, bytes that are not text.

use std::fmt::Display;

use jiff::fmt::temporal::DateTimePrinter;
use lockwatch_core::{lock::Range, text::Text, time::Timestamp};
use serde::{Serialize, Serializer};

/// A sequence whose elements exist only while they are written.
pub(crate) struct Seq<F>(pub(crate) F);

impl<F: Fn() -> I, I: IntoIterator<Item: Serialize>> Serialize for Seq<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// RFC 3339 in UTC with nanoseconds.
pub(crate) struct At(pub(crate) Timestamp);

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0, 9))
    }
}

/// A moment with so many digits after the second.
pub(crate) fn rfc3339(at: Timestamp, digits: u8) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new();
    // Nanoseconds since 1970 in a u64 end in the year 2554: always within jiff's years.
    let time = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(jiff::Timestamp::MAX);
    PRINTER.precision(Some(digits)).timestamp_to_string(&time)
}

/// The bytes of a text that is not UTF-8.
pub(crate) fn lost(text: &Text) -> Option<Base64<'_>> {
    str::from_utf8(text.as_bytes()).is_err().then(|| Base64(text.as_bytes()))
}

/// Bytes as base64 (RFC 4648 section 4, with padding).
pub(crate) struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::with_capacity(self.0.len().div_ceil(3) * 4);
        for chunk in self.0.chunks(3) {
            let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
                out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
            }
        }
        serializer.serialize_str(&out)
    }
}

/// The bytes that [`Base64`] has written; `None` if it did not write this.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in text.as_bytes().chunks(4) {
        let padding = chunk.iter().rev().take_while(|c| **c == b'=').count();
        let digits = chunk.len().checked_sub(padding).filter(|digits| chunk.len() == 4 && *digits >= 2)?;
        let bits = chunk[..digits].iter().try_fold(0u32, |bits, c| Some(bits << 6 | u32::from(digit(*c)?)))?;
        let bits = (bits << (6 * padding)).to_be_bytes();
        bytes.extend_from_slice(&bits[1..digits]);
    }
    Some(bytes)
}

/// A value in its own words.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[derive(Serialize)]
pub(crate) struct RangeObject {
    start: u64,
    end: Option<u64>,
}

impl RangeObject {
    pub(crate) fn new(range: Range) -> Self {
        Self { start: range.start, end: range.end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64() {
        // The vectors of RFC 4648 section 10, and one that is not text.
        let check = |bytes: &[u8], expect: &str| {
            assert_eq!(serde_json::to_value(Base64(bytes)).unwrap(), expect);
            assert_eq!(from_base64(expect).as_deref(), Some(bytes));
        };
        check(b"", "");
        check(b"f", "Zg==");
        check(b"fo", "Zm8=");
        check(b"foo", "Zm9v");
        check(b"foobar", "Zm9vYmFy");
        check(b"\xff\xfe\xfd\xfc", "//79/A==");
        for other in ["Zg", "Zg=", "Z===", "====", "Z\u{e9}==", "Zm9v Zm9v", "Z=g="] {
            assert_eq!(from_base64(other), None, "{other}");
        }
    }

    #[test]
    fn moments_have_nanoseconds() {
        let check = |ns, expect: &str| assert_eq!(rfc3339(Timestamp(ns), 9), expect);
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_795_317_127_123_456_789, "2026-11-22T03:12:07.123456789Z");
        check(u64::MAX, "2554-07-21T23:34:33.709551615Z");
    }
}
