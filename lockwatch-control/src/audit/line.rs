//! One line of the log: schema `lockwatch.audit/1`.

use std::io;

use anyhow::{Result, ensure};
use jiff::fmt::temporal::DateTimePrinter;
use lockwatch_core::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::Formatter;
use sha2::{Digest, Sha256};

use super::{Record, SCHEMA};

/// What the first line of a log has for the line before it.
pub const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Bytes in a line at most, so that the last one is found in a bounded read.
pub(super) const MOST: usize = 1 << 16;

/// How every line begins, whichever number its schema has.
pub(super) const BEGIN: &[u8] = br#"{"schema":"lockwatch.audit/"#;

/// Whether a file with these bytes at its start may be a log: one that begins otherwise is somebody else's. Its first
/// line may have been cut short.
pub(super) fn begins(start: &[u8]) -> bool {
    start.starts_with(BEGIN) || BEGIN.starts_with(start)
}

/// A line, borrowed to be written or owned after it was read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line<R> {
    schema: String,
    /// Second, so that a line that was cut short still tells it.
    pub(super) previous: String,
    #[serde(serialize_with = "write_at", deserialize_with = "read_at")]
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) record: R,
}

impl Line<&Record> {
    /// The line of a record that follows another, without a newline.
    pub(super) fn write(record: &Record, at: Timestamp, previous: String) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut out = serde_json::Serializer::with_formatter(&mut line, Ascii);
        Line { schema: SCHEMA.to_owned(), previous, at, record }.serialize(&mut out)?;
        ensure!(line.len() <= MOST, "a record of {} bytes is longer than the {MOST} that a line may have", line.len());
        Ok(line)
    }
}

impl Line<Record> {
    /// A line of a log; `None` if it is none that this program writes.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().filter(|line: &Self| line.schema == SCHEMA)
    }
}

/// The hash of the line before that a line carries, also of one that was cut short or is of a later schema.
pub(super) fn previous(line: &[u8]) -> Option<&str> {
    let rest = str::from_utf8(line.strip_prefix(BEGIN)?).ok()?;
    let (_, rest) = rest.split_once(r#"","previous":""#)?;
    rest.get(..ZEROS.len()).filter(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The SHA-256 of a line's bytes, without its newline, as the next line carries it.
pub(super) fn hash(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compact JSON of nothing but printable ASCII: whatever bytes a name has, no tool can take them for something else.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        // serde_json itself escapes what is below 0x20.
        for c in fragment.chars() {
            match c {
                ' '..='~' => out.write_all(&[c as u8])?,
                c => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
            }
        }
        Ok(())
    }
}

/// RFC 3339 in UTC with nanoseconds.
fn write_at<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));
    let time = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(jiff::Timestamp::MAX);
    serializer.serialize_str(&PRINTER.timestamp_to_string(&time))
}

fn read_at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let time: jiff::Timestamp = String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)?;
    let at = u64::try_from(time.as_nanosecond()).map_err(|_| serde::de::Error::custom("a time before 1970"))?;
    Ok(Timestamp(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::samples::{hostile, record},
        *,
    };
    use crate::audit::{Actor, Phase};

    #[test]
    fn a_line_as_the_contract_has_it() {
        let line = Line::write(&record(7), Timestamp(1_795_317_127_123_456_789), ZEROS.to_owned()).unwrap();
        let expect = concat!(
            r#"{"schema":"lockwatch.audit/1","#,
            r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","#,
            r#""at":"2026-11-22T03:12:07.123456789Z","#,
            r#""actor":{"uid":0,"pid":7,"comm":"bash","tty":"pts/3"},"approved_by":[],"id":"f3k9-27qd","#,
            r#""file":"/srv/x.lock","method":"release","reason":"ticket 7","phase":"outcome","outcome":"cleared","#,
            r#""plan_hash":"7","notes":[]}"#,
        );
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expect);
        assert_eq!(previous(&line), Some(ZEROS));
        assert_eq!(previous(&line[..120]), Some(ZEROS));
        assert_eq!(previous(&line[..100]), None);
    }

    #[test]
    fn a_reader_that_is_older_goes_on() {
        let line = Line::write(&record(7), Timestamp(1), ZEROS.to_owned()).unwrap();
        let text = String::from_utf8(line).unwrap();
        let more = text.replace(r#""notes":[]"#, r#""notes":[],"weather":"fine""#);
        assert_eq!(Line::read(more.as_bytes()).unwrap().record, record(7));
        let without = text.replace(r#","notes":[]"#, "");
        assert_eq!(Line::read(without.as_bytes()).unwrap().record, record(7));
        let later = text.replace("lockwatch.audit/1", "lockwatch.audit/2");
        assert!(Line::read(later.as_bytes()).is_none() && previous(later.as_bytes()) == Some(ZEROS));
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let long = Record { reason: Some("x".repeat(MOST)), ..record(1) };
        let error = Line::write(&long, Timestamp(1), ZEROS.to_owned()).unwrap_err().to_string();
        assert!(error.contains("is longer than"), "{error}");
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let text = proptest::option::of(any::<String>());
        let actor = (any::<u32>(), any::<u32>(), text.clone(), text.clone()).prop_map(|(uid, pid, comm, tty)| Actor {
            uid,
            pid,
            comm,
            tty,
        });
        let phase = proptest::sample::select(Phase::ALL.to_vec());
        (proptest::collection::vec(actor, 1..3), any::<String>(), text.clone(), text.clone(), text, phase).prop_map(
            |(mut actors, id, file, reason, plan_hash, phase)| Record {
                actor: actors.remove(0),
                approved_by: actors,
                id,
                file,
                method: None,
                reason,
                phase,
                outcome: None,
                plan_hash,
                notes: Vec::new(),
            },
        )
    }

    fn comes_back(record: &Record, at: u64, previous: &str) {
        let line = Line::write(record, Timestamp(at), previous.to_owned()).unwrap();
        assert!(line.iter().all(|b| matches!(b, b' '..=b'~')), "{}", String::from_utf8_lossy(&line));
        let read = Line::read(&line).unwrap();
        assert_eq!((&read.record, read.at, &*read.previous), (record, Timestamp(at), previous));
    }

    #[test]
    fn hostile_bytes_stay_in_their_place() {
        comes_back(&hostile(), 1, ZEROS);
    }

    proptest! {
        #[test]
        fn every_record_comes_back_as_it_was(record in any_record(), at: u64, before: Vec<u8>) {
            comes_back(&record, at, &hash(&before));
        }
    }
}
