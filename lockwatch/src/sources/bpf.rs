//! The kernel, seen through BPF: the only place that names wire types.

pub mod btf;
pub mod fds;
pub mod load;
pub mod tracefs;
pub mod walk;
