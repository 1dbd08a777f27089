//! Tests of lockwatch against the real kernel, and what they are made of.
//!
//! A [`Locker`] is a process that takes any lock in any way when it is told to; a [`Scene`] is the directory in which
//! it does so; [`lockwatch`] and [`Watcher`] run the program under test. [`proc_locks`], [`contract`] and [`holders`]
//! know what the answer should be, and share no code with lockwatch: two readers of one truth must not share an error.
//!
//! Nothing here waits for time: a locker answers every command, a watcher says when it watches, and every wait for a
//! state of the kernel has a deadline ([`PATIENCE`]) after which the test fails.
//! Failures of the harness panic: they fail the test that met them, and everything it started ends with it.

pub mod compare;
pub mod contract;
pub mod day;
mod dice;
mod harness;
pub mod locker;
pub mod picture;
pub mod race;
pub mod scenario;
pub mod soak;
pub mod sys;

pub use harness::{
    agent::{HostAgent, free_port},
    bpf_objects::{BpfObject, bpf_objects},
    browser::{Browser, CHROMIUM},
    case::{case_of, keeper, person},
    control_group::{ControlGroup, Hierarchy},
    door::{Caller, Door, User},
    echo::Echo,
    http::{Answer, ask_tcp, ask_unix, connect_unix},
    left_out::{
        left_out, needs_bpf, needs_loop, needs_program, needs_root, numbers_have_wrapped, sources, sources_that_see_all,
    },
    lines::Lines,
    locker::{Locker, LoopDevice, Wait},
    look::{document, document_of, items, list, only, pids, verdict},
    metrics::Metrics,
    percentile::percentile,
    proc_locks::{ProcLock, becomes_free, holders, proc_locks, proc_locks_of},
    process::Process,
    program::{Run, lockwatch, lockwatch_command, lockwatch_path, plain, program, run},
    prometheus::Prometheus,
    ready_made::{KINDS, ghost, in_flight, opened, taken},
    resident::Resident,
    scene::Scene,
    service::Service,
    until::{PATIENCE, until},
    watcher::{Event, Watcher},
};
