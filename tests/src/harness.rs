//! What tests hold in their hands; `lib.rs` names it.

pub(crate) mod agent;
pub(crate) mod bpf_objects;
pub(crate) mod browser;
pub(crate) mod case;
pub(crate) mod control_group;
pub(crate) mod door;
pub(crate) mod echo;
pub(crate) mod http;
pub(crate) mod left_out;
pub(crate) mod lines;
pub(crate) mod locker;
pub(crate) mod look;
pub(crate) mod metrics;
pub(crate) mod percentile;
pub(crate) mod proc_locks;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod prometheus;
pub(crate) mod ready_made;
pub(crate) mod resident;
pub(crate) mod scene;
pub(crate) mod service;
pub(crate) mod until;
pub(crate) mod watcher;
