//! The document of all locks, in pieces: whoever reads slowly keeps one piece of text in memory, not all of it.

use std::{io, sync::Arc};

use hyper::body::Bytes;

use crate::{
    agent::hub::Answer,
    output::{document::Memo, json},
};

/// How many locks are put into words at a time: about a millisecond's work.
const PIECE: usize = 512;

/// What is left to send of a document (schema lockwatch.locks/1).
#[derive(Debug)]
pub struct Pieces {
    answer: Arc<Answer>,
    /// The next lock; beyond the last when there is only the end to send.
    next: usize,
    head: Option<Vec<u8>>,
    tail: Option<Vec<u8>>,
}

impl Pieces {
    /// All of it.
    ///
    /// # Errors
    ///
    /// None is known.
    pub fn of(answer: Arc<Answer>) -> io::Result<Self> {
        let (head, tail) = json::frame(&answer.report)?;
        Ok(Self { answer, next: 0, head: Some(head), tail: Some(tail) })
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let Answer { report, histories } = &*self.answer;
        let mut text = self.head.take().unwrap_or_default();
        let memo = Memo::default();
        let last = report.locks.len().min(self.next + PIECE);
        for (i, lock) in report.locks.iter().enumerate().take(last).skip(self.next) {
            let history = histories.get(&lock.id).map_or(&lock.history[..], |history| history);
            if let Err(error) = json::push_row(lock, history, &memo, i == 0, &mut text) {
                return Some(Err(error));
            }
        }
        self.next = last;
        if last == report.locks.len() {
            text.extend(self.tail.take().unwrap_or_default());
        }
        (!text.is_empty()).then(|| Ok(text.into()))
    }
}
