//! Where pictures come from.
pub mod bpf;
