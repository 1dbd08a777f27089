//! What is added to a log from now on, for whoever counts it. Nothing is verified: that takes the whole log.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use lockwatch_core::time::Timestamp;

use super::{Record, line};

/// Bytes that are read at once, and lines' worth of memory that one call takes.
const CHUNK: usize = 1 << 16;

/// How many of them one call reads at most, so that it never takes long.
const CHUNKS: usize = 16;

/// A place in a log, which goes on with the log's name when the file is rotated away.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    /// A line that has no end yet.
    begun: Vec<u8>,
    /// Whether the line that is being read is longer than any record, and thrown away.
    overlong: bool,
}

impl Tail {
    /// At the end of what is there now. There need be nothing.
    ///
    /// # Errors
    ///
    /// It is there and cannot be read.
    pub fn from_now(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let at = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|meta| meta.len()))?;
        Ok(Self { path: path.to_owned(), file, at, begun: Vec::new(), overlong: false })
    }

    /// So many bytes before its end, at the first line that begins there.
    ///
    /// # Errors
    ///
    /// As [`Tail::from_now`].
    pub fn before_end(path: &Path, bytes: u64) -> io::Result<Self> {
        let mut tail = Self::from_now(path)?;
        tail.at = tail.at.saturating_sub(bytes);
        // The rest of a line is none.
        tail.overlong = tail.at > 0;
        Ok(tail)
    }

    /// Hands over each record that was added since the last call with its time, and `None` for a line that is no record.
    ///
    /// # Errors
    ///
    /// It cannot be read. It may be tried again.
    pub fn read(&mut self, mut each: impl FnMut(Option<(Timestamp, Record)>)) -> io::Result<()> {
        for _ in 0..CHUNKS {
            if self.chunk(&mut each)? {
                continue;
            }
            if !self.moves_on()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads a piece; whether there was any.
    fn chunk(&mut self, each: &mut impl FnMut(Option<(Timestamp, Record)>)) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let mut buffer = vec![0; CHUNK];
        let length = match file.read_at(&mut buffer, self.at) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            length => length?,
        };
        self.at += length as u64;
        for part in buffer[..length].split_inclusive(|b| *b == b'\n') {
            self.begun.extend_from_slice(part);
            if self.begun.pop_if(|b| *b == b'\n').is_some() {
                let whole = !std::mem::take(&mut self.overlong);
                let line = line::Line::read(&self.begun).filter(|_| whole);
                each(line.map(|line| (line.at, line.record)));
                self.begun.clear();
            } else if self.begun.len() > line::MOST {
                self.overlong = true;
                self.begun.clear();
            }
        }
        Ok(length > 0)
    }

    /// Goes on with the file that the name leads to now, if that is another one, or one that was cut; whether it is.
    fn moves_on(&mut self) -> io::Result<bool> {
        let now = match fs::symlink_metadata(&self.path) {
            // Rotated, and nothing was recorded since.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            now => now?,
        };
        if let Some(file) = &self.file {
            let same = file.metadata().map(|then| (then.dev(), then.ino()) == (now.dev(), now.ino()))?;
            if same && now.len() >= self.at {
                return Ok(false);
            }
        }
        self.file = open(&self.path)?;
        self.at = 0;
        self.begun.clear();
        self.overlong = false;
        Ok(self.file.is_some())
    }
}

/// Opens a log without waiting for anything, should it be something else.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        super::{ZEROS, line::Line, samples::record},
        *,
    };

    /// The line of a record, with its end.
    fn line(n: u8) -> Vec<u8> {
        let mut line = Line::write(&record(n.into()), Timestamp(0), ZEROS.to_owned()).unwrap();
        line.push(b'\n');
        line
    }

    fn append(path: &Path, bytes: &[u8]) {
        OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn what_is_added_is_read_once_whatever_happens_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        append(&path, &line(0));
        let mut tail = Tail::from_now(&path).unwrap();
        let mut check = |what: &str, expect: &[Option<u8>]| {
            let mut read = Vec::new();
            tail.read(|record| read.push(record.map(|(_, record)| record))).unwrap();
            let expect: Vec<_> = expect.iter().map(|n| n.map(|n| record(n.into()))).collect();
            assert_eq!(read, expect, "{what}");
        };
        check("what was there before", &[]);
        append(&path, &[line(1), line(2)].concat());
        check("two lines", &[Some(1), Some(2)]);
        let third = line(3);
        append(&path, &third[..20]);
        check("a line that is being written", &[]);
        append(&path, &third[20..]);
        check("its end", &[Some(3)]);
        append(&path, b"no record\n");
        append(&path, &line(4));
        check("a bad line", &[None, Some(4)]);
        append(&path, &vec![b'x'; 3 * CHUNK]);
        append(&path, &[b"\n".to_vec(), line(5)].concat());
        check("an overlong line", &[None, Some(5)]);
        append(&path, &line(6));
        fs::rename(&path, dir.path().join("audit.jsonl.1")).unwrap();
        check("rotated away, and nothing new", &[Some(6)]);
        check("still nothing new", &[]);
        append(&dir.path().join("audit.jsonl.1"), &line(7));
        append(&path, &line(8));
        check("the end of the old one, and the new one", &[Some(7), Some(8)]);
        fs::write(&path, line(9).split_at(30).0).unwrap();
        check("cut, and shorter than it was", &[]);
        append(&path, line(9).split_at(30).1);
        check("cut, and its first line", &[Some(9)]);
        fs::remove_file(&path).unwrap();
        check("gone", &[]);
    }

    #[test]
    fn the_last_lines_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        append(&path, &[line(1), line(2), line(3)].concat());
        let check = |bytes: usize, expect: &[Option<u8>]| {
            let mut read = Vec::new();
            let mut tail = Tail::before_end(&path, bytes as u64).unwrap();
            tail.read(|record| read.push(record)).unwrap();
            let expect: Vec<_> = expect.iter().map(|n| n.map(|n| (Timestamp(0), record(n.into())))).collect();
            assert_eq!(read, expect, "{bytes}");
        };
        check(usize::MAX, &[Some(1), Some(2), Some(3)]);
        check(line(2).len() + line(3).len() + 1, &[None, Some(2), Some(3)]);
        check(line(3).len() - 1, &[None]);
        check(0, &[]);
    }

    #[test]
    fn a_log_may_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut tail = Tail::from_now(&path).unwrap();
        let mut count = 0;
        tail.read(|_| count += 1).unwrap();
        append(&path, &line(1));
        tail.read(|record| count += usize::from(record.is_some())).unwrap();
        assert_eq!(count, 1);
    }
}
