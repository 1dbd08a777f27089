//! `lockwatch eyes`: looks for the one who acts, who has no right to look for itself.
//!
//! It reads one question a line and answers each with a look of its own, until its stdin ends. Nothing is attached, so
//! that every answer is that of a first look: a plan's code must not depend on how long somebody has watched.

use std::io::{self, BufRead, Write};

use anyhow::Context;
use lockwatch_control::{
    eyes::Sight,
    wire::{Answer, Question},
};
use lockwatch_core::{
    clear::Case,
    id::{self, LockId, Lookup},
    report::Report,
};

use crate::{exit::Exit, look::Looker, request::Request};

/// Answers until nobody asks any more.
pub fn run(request: &Request) -> anyhow::Result<Exit> {
    // Made when somebody asks: whoever connects to control and says nothing sensible does not cost this host a load.
    let mut looker = None;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let question = Question::read(&line.context("read a question")?).context("read a question")?;
        let looker = match &mut looker {
            Some(looker) => looker,
            none => none.insert(Looker::new(request.source, &request.proc_root)?),
        };
        let answer = match looker.look() {
            Ok(report) => answer(&report, &question),
            Err(error) => Answer::Blind(format!("{error:#}")),
        };
        writeln!(out, "{}", answer.line()).and_then(|()| out.flush()).context("answer")?;
    }
    Ok(Exit::Done)
}

fn answer(report: &Report, question: &Question) -> Answer {
    match question {
        Question::Look(id) => Answer::Sight(sight(report, id)),
        Question::LocksOn(file) => {
            let locks = report.locks.iter().filter(|lock| lock.file == *file);
            Answer::Locks(locks.map(|lock| Case::of(report, lock)).collect())
        }
    }
}

fn sight(report: &Report, id: &str) -> Sight {
    let ids: Vec<LockId> = report.locks.iter().map(|lock| lock.id.clone()).collect();
    match id::find(&ids, id) {
        Lookup::None => Sight::None,
        Lookup::One(i) => Sight::One(Box::new(Case::of(report, &report.locks[i]))),
        Lookup::Many(fits) => Sight::Many(fits.into_iter().map(|i| ids[i].clone()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn answers_come_through_the_pipe_as_they_were() {
        for report in [fixture::report(), fixture::hostile()] {
            let lock = &report.locks[0];
            let check = |question: Question| {
                let asked = Question::read(&question.line()).unwrap();
                assert_eq!(asked, question);
                let answer = answer(&report, &asked);
                let line = answer.line();
                assert!(!line.contains('\n'), "{line}");
                assert_eq!(Answer::read(&line).unwrap(), answer);
                answer
            };
            let case = Case::of(&report, lock);
            let seen = check(Question::Look(lock.id.0.clone()));
            assert_eq!(seen, Answer::Sight(Sight::One(Box::new(case.clone()))));
            let Answer::Locks(locks) = check(Question::LocksOn(lock.file)) else { panic!("locks") };
            assert!(locks.contains(&case));
            check(Question::Look("f3".into()));
            check(Question::Look("zzzz".into()));
        }
        let blind = Answer::Blind("no\nsight".into());
        assert_eq!(Answer::read(&blind.line()).unwrap(), blind);
        assert!(Answer::read("{\"one\":{}}").is_err());
    }
}
