//! How a process ended: its own exit, or a signal, and what raised that.

use std::fmt;

use crate::text::Text;

/// The end of a process: its own exit, or a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It called exit(2) with this code.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: u8,
        /// Whether a core was dumped.
        core_dumped: bool,
        /// Who sent it, if that was another process and was seen: pid and command name.
        sender: Option<(u32, Text)>,
        /// Whether it was the OOM killer's choice.
        oom: bool,
        /// What raised it, if that was seen.
        raised: Option<Raised>,
    },
}

/// What raised a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// Another process: kill(2) and its kin, a write to cgroup.kill, a parent's death.
    Process,
    /// The process itself: abort(3), raise(3), a write to a closed pipe.
    Itself,
    /// A fault of its own: memory that is not there, an illegal instruction.
    Fault,
    /// Its own timer: alarm(2), setitimer(2), timer_create(2).
    Timer,
    /// Its terminal: a key, or the end of the session.
    Terminal,
    /// The kernel, for a reason that the signal does not tell: a limit, the end of a pid namespace.
    Kernel,
}

impl Raised {
    /// Whatever may.
    pub const ALL: [Raised; 6] =
        [Raised::Process, Raised::Itself, Raised::Fault, Raised::Timer, Raised::Terminal, Raised::Kernel];

    /// What raised a signal with this `si_code`; `own` if the process was running then. Whoever runs while the kernel
    /// raises a signal for a timer or a terminal is an innocent (kernel/signal.c, 6.18; sigaction(2), codes of
    /// include/uapi/asm-generic/siginfo.h).
    pub fn of(signal: u8, code: i32, own: bool) -> Self {
        const SI_KERNEL: i32 = 0x80;
        const SI_TIMER: i32 = -2;
        const SI_SIGIO_TO_MESGQ: std::ops::RangeInclusive<i32> = -5..=-3;
        let fault = own && matches!(signal, 4 | 5 | 7 | 8 | 11 | 31); // ILL, TRAP, BUS, FPE, SEGV, SYS
        match (code, signal) {
            (1.., _) if fault => Raised::Fault,
            (SI_TIMER, _) | (SI_KERNEL, 14 | 26 | 27) => Raised::Timer, // ALRM, VTALRM, PROF
            (SI_KERNEL, 1..=3) => Raised::Terminal,                     // HUP, INT, QUIT
            (1.., _) => Raised::Kernel,
            (code, _) if SI_SIGIO_TO_MESGQ.contains(&code) => Raised::Kernel,
            _ if own => Raised::Itself,
            _ => Raised::Process,
        }
    }

    /// One word for documents.
    pub fn name(self) -> &'static str {
        match self {
            Raised::Process => "process",
            Raised::Itself => "itself",
            Raised::Fault => "fault",
            Raised::Timer => "timer",
            Raised::Terminal => "terminal",
            Raised::Kernel => "kernel",
        }
    }
}

/// `SIGKILL` for 9; `signal 40` for the real-time ones. Numbers of x86 and ARM (signal(7)).
pub fn signal_name(signal: u8) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    match usize::from(signal).checked_sub(1).and_then(|i| NAMES.get(i)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

/// `exited with code 1`, `was killed by SIGKILL from pid 900 (systemd)`, `was killed by SIGABRT, by itself (abort)`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SIGABRT: u8 = 6;
        const SIGPIPE: u8 = 13;
        match self {
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Signal { oom: true, .. } => write!(f, "was killed by the OOM killer"),
            Exit::Signal { signal, core_dumped, sender, raised, oom: false } => {
                write!(f, "was killed by {}", signal_name(*signal))?;
                match (sender, raised, *signal) {
                    (Some((pid, comm)), ..) => write!(f, " from pid {pid} ({comm})")?,
                    (_, Some(Raised::Itself), SIGABRT) => write!(f, ", by itself (abort)")?,
                    (_, Some(Raised::Itself), SIGPIPE) => write!(f, ": nobody read what it wrote")?,
                    (_, Some(Raised::Itself), _) => write!(f, ", by itself")?,
                    (_, Some(Raised::Fault), _) => write!(f, ", a fault of its own")?,
                    (_, Some(Raised::Timer), _) => write!(f, " from its own timer")?,
                    (_, Some(Raised::Terminal), _) => write!(f, " from its terminal")?,
                    (_, Some(Raised::Kernel), _) => write!(f, " from the kernel")?,
                    (None, Some(Raised::Process) | None, _) => {}
                }
                if *core_dumped { write!(f, ", core dumped") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_read_as_sentences() {
        let check = |signal, core_dumped, sender, oom, raised, expect: &str| {
            let exit = Exit::Signal { signal, core_dumped, sender, oom, raised };
            assert_eq!(exit.to_string(), expect);
        };
        assert_eq!(Exit::Code(1).to_string(), "exited with code 1");
        let systemd = || Some((900, Text::from("systemd")));
        check(9, false, None, false, None, "was killed by SIGKILL");
        check(9, false, systemd(), false, Some(Raised::Process), "was killed by SIGKILL from pid 900 (systemd)");
        check(9, false, None, true, Some(Raised::Kernel), "was killed by the OOM killer");
        check(6, true, None, false, Some(Raised::Itself), "was killed by SIGABRT, by itself (abort), core dumped");
        check(11, true, None, false, Some(Raised::Fault), "was killed by SIGSEGV, a fault of its own, core dumped");
        check(11, true, None, false, None, "was killed by SIGSEGV, core dumped");
        check(14, false, None, false, Some(Raised::Timer), "was killed by SIGALRM from its own timer");
        check(2, false, None, false, Some(Raised::Terminal), "was killed by SIGINT from its terminal");
        check(13, false, None, false, Some(Raised::Itself), "was killed by SIGPIPE: nobody read what it wrote");
        assert_eq!(signal_name(40), "signal 40");
    }

    #[test]
    fn codes_tell_what_raised_a_signal() {
        let check = |signal, code, own, expect| assert_eq!(Raised::of(signal, code, own), expect, "{signal} {code}");
        let (user, kernel, timer, queue, tkill, mapping) = (0, 0x80, -2, -1, -6, 1);
        check(15, user, false, Raised::Process);
        check(15, user, true, Raised::Itself);
        check(15, queue, false, Raised::Process);
        check(6, tkill, true, Raised::Itself);
        check(9, tkill, false, Raised::Process);
        check(11, mapping, true, Raised::Fault);
        check(11, kernel, true, Raised::Fault); // a general protection fault: arch/x86/kernel/traps.c, 6.18
        check(11, user, false, Raised::Process);
        check(14, kernel, false, Raised::Timer);
        check(14, kernel, true, Raised::Timer); // its own interrupt may come while it runs
        check(10, timer, false, Raised::Timer);
        check(2, kernel, false, Raised::Terminal);
        check(9, kernel, false, Raised::Kernel);
        check(24, kernel, true, Raised::Kernel);
        check(7, 5, false, Raised::Kernel); // memory failure, for another process
        check(29, -5, false, Raised::Kernel);
    }
}
