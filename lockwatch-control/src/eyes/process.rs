//! Eyes in a process of their own: it keeps the rights to look, this one those to act.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lockwatch_core::{clear::Case, lock::FileId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Eyes, Sight};
use crate::wire::{Answer, Question};

/// How long one look may take: a hundred thousand locks take one second.
const PATIENCE: Duration = Duration::from_secs(60);

/// `lockwatch eyes`, as long as this lives.
pub struct Resident {
    child: Child,
    /// Closed first: then it ends by itself.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Resident {
    /// Starts the program's eyes. To be called while this process still has the rights that they need.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .arg("eyes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {} eyes", program.display()))?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().context("the eyes have no stdout")?;
        Ok(Self { child, questions, answers: BufReader::new(answers) })
    }

    fn ask(&mut self, question: &Question) -> Result<Answer> {
        let questions = self.questions.as_mut().context("the eyes are closed")?;
        writeln!(questions, "{}", question.line()).context("ask the eyes")?;
        let patience = Timespec::try_from(PATIENCE)?;
        let mut ready = [PollFd::new(self.answers.get_ref(), PollFlags::IN)];
        if self.answers.buffer().is_empty() && poll(&mut ready, Some(&patience)).context("wait for the eyes")? == 0 {
            bail!("a look took longer than {PATIENCE:?}");
        }
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("read what the eyes saw")? == 0 {
            bail!("whoever looks has ended (lockwatch doctor)");
        }
        Answer::read(&line).context("read what the eyes saw")
    }
}

impl Eyes for Resident {
    fn look(&mut self, id: &str) -> Result<Sight> {
        match self.ask(&Question::Look(id.to_owned()))? {
            Answer::Sight(sight) => Ok(sight),
            Answer::Blind(why) => bail!(why),
            Answer::Locks(_) => bail!("the eyes answer another question"),
        }
    }

    fn locks_on(&mut self, file: FileId) -> Result<Vec<Case>> {
        match self.ask(&Question::LocksOn(file))? {
            Answer::Locks(locks) => Ok(locks),
            Answer::Blind(why) => bail!(why),
            Answer::Sight(_) => bail!("the eyes answer another question"),
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}
