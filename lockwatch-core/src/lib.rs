//! The pure world of lockwatch: what a lock, a process and a verdict are, and how one follows from the other.
//!
//! Nothing here reads a file, a clock or a kernel. Sources turn the world into an [`observation::Picture`] and
//! [`observation::Event`]s, the [`table::Table`] remembers them, and a [`report::Report`] is what it makes of them.

pub mod age;
pub mod blocking;
pub mod census;
pub mod circles;
pub mod clear;
pub mod graph;
pub mod hash;
pub mod id;
pub mod lock;
pub mod lockfile;
pub mod moment;
pub mod observation;
pub mod parse;
pub mod policy;
pub mod portions;
pub mod process;
pub mod ranges;
pub mod report;
pub mod table;
pub mod text;
pub mod time;
pub mod timeline;
pub mod verdict;
