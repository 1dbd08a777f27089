//! The world, as lockwatch-core's vocabulary: whatever reads `/proc` or the kernel lives here.

pub mod clock;
pub mod mounts;
pub mod processes;
pub mod procfs;

mod cgroup;
mod fds;
mod files;
mod join;
mod kcmp;
mod peek;
mod procdir;
