//! The one who asks: `lockwatch clear` and `lockwatch approve`.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::Shutdown,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use lockwatch_core::text::Text;

use crate::{
    document::Document,
    peer::uid_of,
    protocol::{Answer, Confirmation, Request},
};

/// Longer than any document: a plan names its holders and waiters.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A connection to `lockwatch control`.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the control socket.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or not for us, or somebody who is not root: with what to do about it.
    pub fn connect(path: &Path) -> anyhow::Result<Self> {
        let shown = Text::new(path.as_os_str().as_bytes());
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                anyhow::anyhow!("nobody listens at {shown}; as root: systemctl enable --now lockwatch-control.socket")
            }
            ErrorKind::PermissionDenied => anyhow::anyhow!(
                "{shown} is only for members of its group; as root: usermod -aG lockwatch USER, and log in again"
            ),
            _ => anyhow::Error::from(error).context(format!("connect to {shown}")),
        })?;
        let uid = uid_of(&stream).context("ask who listens")?;
        ensure!(uid == 0, "uid {uid} listens at {shown}, not root");
        Ok(Self::over(stream))
    }

    /// Starts `lockwatch control` with one end of a pair of sockets as its stdin, and keeps the other. Only root's own has
    /// any use for that.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(control: &mut Command) -> anyhow::Result<(Self, Child)> {
        let (ours, theirs) = UnixStream::pair().context("make a pair of sockets")?;
        let child = control.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn();
        // The command has its end until something else is its stdin, and we would never see that control has ended.
        control.stdin(Stdio::null());
        Ok((Self::over(ours), child.context("start lockwatch control")?))
    }

    /// A connection that is there already.
    pub fn over(stream: UnixStream) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// The same, which does not wait for ever: for somebody at whom no human sits who would lose patience.
    ///
    /// # Errors
    ///
    /// The kernel does not allow it.
    pub fn within(self, patience: Duration) -> anyhow::Result<Self> {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(patience)).context("set a time for answers")?;
        stream.set_write_timeout(Some(patience)).context("set a time for questions")?;
        Ok(self)
    }

    /// Asks, has `confirm` show the plan to a human and return the code if it is asked for, and returns how it ended.
    ///
    /// # Errors
    ///
    /// Control said that it failed, or ended without a word. What has become of the lock must then be looked at.
    pub fn ask(
        mut self,
        request: &Request,
        mut confirm: impl FnMut(&Document) -> anyhow::Result<Option<String>>,
    ) -> anyhow::Result<Document> {
        self.say(&serde_json::to_vec(request)?)?;
        loop {
            match self.hear()? {
                Answer::Done(document) => return Ok(document),
                Answer::Error(why) => bail!(why),
                Answer::Plan(plan) => {
                    let confirm = confirm(&plan)?;
                    self.say(&serde_json::to_vec(&Confirmation { confirm })?)?;
                }
            }
        }
    }

    fn say(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match self.stream.get_mut().write_all(&[line, b"\n"].concat()) {
            // It may have said why before it left.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            said => said.context("speak to lockwatch control"),
        }
    }

    fn hear(&mut self) -> anyhow::Result<Answer> {
        let mut line = Vec::new();
        let heard = self.stream.by_ref().take(LONGEST_ANSWER).read_until(b'\n', &mut line);
        match heard {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(_) => bail!(
                "lockwatch control has ended without an answer; its log tells why (journalctl -u 'lockwatch-control@*')"
            ),
            Err(error) => return Err(error).context("listen to lockwatch control"),
        }
        serde_json::from_slice(&line).context("understand lockwatch control (is it of another version?)")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.get_mut().shutdown(Shutdown::Both);
    }
}
