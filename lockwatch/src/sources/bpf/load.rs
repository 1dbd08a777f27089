//! Loading the BPF programs and hanging them on their tracepoints, in the best way this kernel allows.

use std::mem::ManuallyDrop;

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::HashMap,
    programs::{BtfTracePoint, Program, RawTracePoint, TracePoint, links::FdLink},
};
use lockwatch_common::{Beat, Layout, TraceLayout, Wire, mode};
use lockwatch_core::lock::Device;

use super::{btf::Btf, hidden, sizes::Sizes, tracefs};
use crate::sources::remote;

/// The object that `build.rs` made; empty when there was no BPF toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lockwatch.bpf.o"));

/// Whether lockwatch was built with its BPF programs.
pub fn built() -> bool {
    !OBJECT.is_empty()
}

/// What the programs are loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// One look: no probe is attached, the tables stay empty and small.
    Look,
    /// Watching: deaths and waits.
    Watch,
    /// Watching every lock operation.
    Trace,
    /// Watching for as long as the host runs: durations are counted, and every lock operation can be watched for a while.
    Agent,
}

/// How probes hang on their tracepoints, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// tp_btf.
    Typed,
    /// Raw tracepoints.
    Raw,
    /// Classic tracepoints, through tracefs.
    Classic,
}

impl Way {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Way::Typed => "tp_btf",
            Way::Raw => "raw_tracepoint",
            Way::Classic => "tracepoint",
        }
    }
}

/// One tracepoint with the programs that serve it.
pub struct Probe {
    category: &'static str,
    point: &'static str,
    typed: &'static str,
    raw: &'static str,
    classic: Option<&'static str>,
    /// Without it there is no watching.
    required: bool,
    /// Only for a trace.
    on_demand: bool,
}

const fn probe(
    category: &'static str,
    point: &'static str,
    typed: &'static str,
    raw: &'static str,
    classic: Option<&'static str>,
    required: bool,
) -> Probe {
    Probe { category, point, typed, raw, classic, required, on_demand: false }
}

/// How the probes hang.
pub struct Attached {
    /// The way that works for all of them.
    pub way: Way,
    /// Which could not be attached, and why.
    pub without: Vec<String>,
    /// Those that are.
    pub hooks: Vec<Hook>,
    /// Those that are loaded, and attached while somebody traces.
    pub on_demand: Vec<&'static Probe>,
}

/// A probe that hangs on its tracepoint for as long as this lives.
pub struct Hook {
    /// Which.
    pub probe: &'static Probe,
    way: Way,
    link: ManuallyDrop<FdLink>,
    /// What the kernel calls the link.
    id: u32,
}

impl Hook {
    /// Attaches a probe whose program is loaded.
    pub fn new(ebpf: &mut Ebpf, probe: &'static Probe, way: Way) -> Result<Self> {
        let link = probe.attach(ebpf, way)?;
        let id = link.info().map(|info| info.id()).unwrap_or_default();
        Ok(Self { probe, way, link: ManuallyDrop::new(link), id })
    }

    /// Whether the descriptor still is the link that we made. A kernel that cannot tell (before 5.8) is believed.
    pub fn is_there(&self) -> bool {
        self.id == 0 || self.link.info().is_ok_and(|info| info.id() == self.id)
    }

    /// Attaches it once more, and lets go of what was there.
    pub fn renew(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        *self = Self::new(ebpf, self.probe, self.way)?;
        Ok(())
    }

    /// Detaches it behind our own back: closes the link's descriptor, as somebody with a debugger would. For tests.
    #[cfg(debug_assertions)]
    pub fn cut(&self) {
        let of_link = |fd: &str| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok())
        };
        for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(fd) = name.to_str().filter(|fd| of_link(fd) == Some(self.id)) {
                // SAFETY: its owner asks what it is before it closes it.
                unsafe { libc::close(fd.parse().unwrap_or(-1)) };
            }
        }
    }

    /// The tracepoint.
    pub fn point(&self) -> &'static str {
        self.probe.point
    }

    /// The program that runs there.
    pub fn program(&self) -> &'static str {
        self.probe.program(self.way).unwrap_or_default()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // A number that somebody has closed behind our back may be another file's by now.
        if self.is_there() {
            // SAFETY: never used again.
            unsafe { ManuallyDrop::drop(&mut self.link) }
        }
    }
}

static PROBES: [Probe; 13] = [
    probe("filelock", "flock_lock_inode", "flock_typed", "flock_raw", Some("flock_classic"), true),
    probe("filelock", "posix_lock_inode", "posix_typed", "posix_raw", Some("posix_classic"), true),
    probe("filelock", "generic_add_lease", "lease_typed", "lease_raw", None, false),
    probe("filelock", "generic_delete_lease", "unlease_typed", "unlease_raw", None, false),
    probe("filelock", "break_lease_block", "breaks_typed", "breaks_raw", None, false),
    probe("filelock", "break_lease_unblock", "broken_typed", "broken_raw", None, false),
    probe("sched", "sched_process_exit", "exit_typed", "exit_raw", Some("exit_classic"), true),
    probe("sched", "sched_process_fork", "fork_typed", "fork_raw", None, false),
    probe("sched", "sched_process_exec", "exec_typed", "exec_raw", Some("exec_classic"), false),
    probe("signal", "signal_deliver", "deliver_typed", "deliver_raw", Some("deliver_classic"), true),
    probe("signal", "signal_generate", "signal_typed", "signal_raw", None, false),
    probe("oom", "mark_victim", "victim_typed", "victim_raw", Some("victim_classic"), false),
    Probe { on_demand: true, ..probe("filelock", "fcntl_setlk", "setlk_typed", "setlk_raw", None, false) },
];

/// Loads the object: maps, and the offsets that the kernel's BTF tells. Programs are loaded one by one as they are
/// needed. Says also which of the fields that lockwatch can do without are missing.
pub fn open(purpose: Purpose, sizes: &Sizes, beat: Beat, btf: &Btf) -> Result<(Ebpf, Vec<&'static str>)> {
    if !built() {
        bail!("this lockwatch was built without eBPF");
    }
    let layout = resolve(btf)?;
    let missing = layout.missing().collect();
    let mode = match purpose {
        Purpose::Trace if !remote::mounts().is_empty() => mode::TRACE | mode::REMOTE,
        Purpose::Trace => mode::TRACE,
        Purpose::Agent => mode::TIME | mode::SWITCHED | mode::REMOTE,
        Purpose::Look | Purpose::Watch => 0,
    };
    let trace_layout = tracefs::layout().unwrap_or(TraceLayout::UNRESOLVED);
    let mut loader = EbpfLoader::new();
    let log_level = log_level();
    let slots = slots(purpose, sizes);
    // A refused program is tried again for the verifier's log: line by line it takes minutes for one that is too large.
    let lines = if log::log_enabled!(log::Level::Debug) { VerifierLogLevel::DEBUG } else { VerifierLogLevel::STATS };
    loader.verifier_log_level(lines);
    // Nothing in the object is relocated against the kernel's types: the offsets are globals.
    loader.btf(None);
    loader
        .override_global("LAYOUT", layout.bytes(), true)
        .override_global("TRACE_LAYOUT", trace_layout.bytes(), true)
        .override_global("MODE", &mode, true)
        .override_global("SLOT_COUNT", &slots, true)
        .override_global("BEAT", beat.bytes(), true)
        .override_global(aya_log::LEVEL, &log_level, false);
    if purpose == Purpose::Look {
        for map in ["HELD", "WAITS", "PROCESSES", "WATCHED", "VICTIMS", "REMOTE", "LOCAL"] {
            loader.map_max_entries(map, 1);
        }
    } else {
        let Sizes { held, waits, processes, watched, .. } = *sizes;
        loader.map_max_entries("SLOTS", slots.max(1));
        for (map, size) in [("HELD", held - slots), ("WAITS", waits), ("PROCESSES", processes), ("WATCHED", watched)] {
            loader.map_max_entries(map, size.max(1));
        }
        loader.map_max_entries(
            "EVENTS",
            if purpose == Purpose::Trace { sizes.ring().max(1 << 23) } else { sizes.ring() },
        );
    }
    if purpose != Purpose::Agent {
        loader.map_max_entries("BUDGETS", 1);
    }
    Ok((loader.load(OBJECT).context("load the BPF object")?, missing))
}

/// How many slots the notes of locks have.
pub fn slots(purpose: Purpose, sizes: &Sizes) -> u32 {
    if purpose == Purpose::Look { 0 } else { sizes.slots() }
}

fn log_level() -> u8 {
    log::max_level() as u8
}

fn resolve(btf: &Btf) -> Result<Layout> {
    let layout = Layout::resolve(|ty, path| match (btf.offset(ty, path), ty) {
        (None, "file_lease") => btf.offset("file_lock", path), // before 6.9 a lease was a lock like others
        (found, _) => found,
    });
    let optional = ["task_last_arrival", "lease_break_time", "lease_downgrade_time", "d_inode", "d_flags"];
    let is_optional = |name: &str| optional.contains(&name) || hidden::is_optional(name);
    let missing: Vec<_> = layout.missing().filter(|name| !is_optional(name)).collect();
    if !missing.is_empty() {
        bail!("this kernel's BTF lacks {}", missing.join(", "));
    }
    if layout.fl_size > 256 {
        bail!("this kernel's struct file_lock has {} bytes, more than the 256 that lockwatch expects", layout.fl_size);
    }
    Ok(layout)
}

/// Attaches every probe in the first way that works for all that are required.
pub fn attach(ebpf: &mut Ebpf, btf: &aya::Btf, purpose: Purpose, only: Option<Way>) -> Result<Attached> {
    let ways = [Way::Typed, Way::Raw, Way::Classic];
    let mut refused = Vec::new();
    for way in ways.into_iter().filter(|way| only.is_none_or(|only| only == *way)) {
        match attach_all(ebpf, purpose, way, btf) {
            Ok(attached) => return Ok(attached),
            Err(error) => refused.push(format!("{}: {error:#}", way.name())),
        }
    }
    Err(anyhow!("no kind of tracepoint program works here: {}", refused.join("; ")))
}

fn attach_all(ebpf: &mut Ebpf, purpose: Purpose, way: Way, btf: &aya::Btf) -> Result<Attached> {
    let mut attached = Attached { way, without: Vec::new(), hooks: Vec::new(), on_demand: Vec::new() };
    if purpose == Purpose::Trace {
        note_remote(ebpf)?;
    }
    let loads = matches!(purpose, Purpose::Trace | Purpose::Agent);
    for probe in PROBES.iter().filter(|probe| !probe.on_demand || loads) {
        let mut hang = || {
            probe.load(ebpf, way, btf)?;
            match probe.on_demand && purpose == Purpose::Agent {
                true => attached.on_demand.push(probe),
                false => attached.hooks.push(Hook::new(ebpf, probe, way)?),
            }
            anyhow::Ok(())
        };
        match hang().with_context(|| format!("probe {}", probe.point)) {
            Ok(()) => {}
            Err(error) if probe.required => {
                attached.hooks.clear();
                unload_all(ebpf);
                return Err(error);
            }
            Err(error) => attached.without.push(format!("{error:#}")),
        }
    }
    Ok(attached)
}

/// Tells the probes which file systems may keep locks to themselves.
pub fn note_remote(ebpf: &mut Ebpf) -> Result<()> {
    let map = ebpf.map_mut("REMOTE").context("map REMOTE")?;
    let mut devices: HashMap<_, u32, u32> = HashMap::try_from(map)?;
    for Device { major, minor } in remote::mounts().into_iter().map(|mount| mount.device) {
        // The kernel's own encoding: MKDEV of include/linux/kdev_t.h. Where the table is full, the rest is not told of.
        let _ = devices.insert(major << 20 | minor, 1, 0);
    }
    Ok(())
}

impl Probe {
    /// The program that serves it.
    fn program(&self, way: Way) -> Result<&'static str> {
        match way {
            Way::Typed => Ok(self.typed),
            Way::Raw => Ok(self.raw),
            Way::Classic => self.classic.context("not offered as a classic tracepoint"),
        }
    }

    fn load(&self, ebpf: &mut Ebpf, way: Way, btf: &aya::Btf) -> Result<()> {
        let name = self.program(way)?;
        let program = ebpf.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
        match way {
            Way::Typed => <&mut BtfTracePoint>::try_from(program)?.load(self.point, btf)?,
            Way::Raw => <&mut RawTracePoint>::try_from(program)?.load()?,
            Way::Classic => {
                tracefs::layout()?;
                <&mut TracePoint>::try_from(program)?.load()?;
            }
        }
        Ok(())
    }

    fn attach(&self, ebpf: &mut Ebpf, way: Way) -> Result<FdLink> {
        let name = self.program(way)?;
        let program = ebpf.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
        Ok(match way {
            Way::Typed => {
                let program: &mut BtfTracePoint = program.try_into()?;
                let link = program.attach()?;
                program.take_link(link)?.into()
            }
            Way::Raw => {
                let program: &mut RawTracePoint = program.try_into()?;
                let link = program.attach(self.point)?;
                program.take_link(link)?.into()
            }
            Way::Classic => {
                let program: &mut TracePoint = program.try_into()?;
                let link = program.attach(self.category, self.point)?;
                program.take_link(link)?.try_into()?
            }
        })
    }
}

/// Unloads what a failed attempt has left.
fn unload_all(ebpf: &mut Ebpf) {
    for (_, program) in ebpf.programs_mut() {
        let _ = match program {
            Program::BtfTracePoint(program) => program.unload(),
            Program::RawTracePoint(program) => program.unload(),
            Program::TracePoint(program) => program.unload(),
            _ => Ok(()),
        };
    }
}
