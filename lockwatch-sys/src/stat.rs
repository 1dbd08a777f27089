//! `/proc/PID/stat`.

use lockwatch_core::{text::Text, time::StartTime};

use crate::timens;

/// The part of `/proc/PID/stat` that is needed (proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The command name.
    pub comm: Text,
    /// The state's letter.
    pub state: u8,
    /// The parent's number; 0 if it has none in this pid namespace.
    pub parent: u32,
    /// The session's number.
    pub session: i64,
    /// The controlling terminal's device; 0 for none.
    pub tty: i64,
    /// `task_struct.flags`.
    pub flags: u32,
    /// How many threads there are.
    pub threads: u32,
    /// When it started.
    pub start: StartTime,
    /// Which program it runs.
    pub image: Image,
}

/// Where the kernel has put the program's text, data and stack: execve(2) chooses anew, at random where addresses are
/// randomized. All zero for a process without memory of its own (a zombie leader, a kernel thread), and meaningless
/// without ptrace access (fs/proc/array.c do_task_stat, 6.18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image([u64; 5]);

impl Stat {
    /// A command name may hold anything, `)` and line feeds too: it ends at the last `)`.
    pub fn parse(stat: &[u8]) -> Option<Self> {
        let open = stat.iter().position(|b| *b == b'(')?;
        let close = stat.iter().rposition(|b| *b == b')').filter(|close| *close > open)?;
        let rest: Vec<&str> = str::from_utf8(&stat[close + 1..]).ok()?.split_ascii_whitespace().collect();
        // The manual counts the fields from 1, and the third, the state, is the first one here.
        let field = |n: usize| rest.get(n - 3).copied();
        // startcode, endcode, startstack, start_data, end_data.
        let place = |n: usize| field(n).and_then(|place| place.parse().ok()).unwrap_or(0);
        Some(Self {
            comm: Text::new(&stat[open + 1..close]),
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            tty: field(7)?.parse().ok()?,
            flags: field(9)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start: timens::start_of(field(22)?.parse().ok()?),
            image: Image([26, 27, 28, 45, 46].map(place)),
        })
    }

    /// Dead but not yet buried.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// On its way out, or dead: PF_EXITING, include/linux/sched.h (6.18).
    pub fn is_ending(&self) -> bool {
        self.is_zombie() || self.flags & 4 != 0
    }

    /// Whether it is a thread of the kernel's, which has no descriptors: PF_KTHREAD, include/linux/sched.h (6.18).
    pub fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn broken_lines_are_not_believed() {
        for text in ["", "1", "1 (", "1 )x( S", "1 (x)", "1 (x) S 1 2 3", "1 (x) S -1 2 3 4 5 6\n"] {
            assert!(Stat::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(
            Stat::parse(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0").unwrap().is_kernel_thread()
        );
    }

    #[test]
    fn another_program_has_another_image() {
        let of = |pid: u32| Stat::parse(&std::fs::read(format!("/proc/{pid}/stat")).unwrap()).unwrap();
        let me = of(std::process::id());
        assert_eq!(me, Stat { state: me.state, threads: me.threads, ..of(std::process::id()) });
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // The places are known only some time after execve(2) has begun: a program that answers has them.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let its = of(child.id());
        assert_ne!(its.image, me.image);
        assert_eq!(its.image, of(child.id()).image);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
