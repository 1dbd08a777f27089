//! Parsers of the kernel's text formats. Each takes bytes, never a path.

pub mod cgroup;
pub mod fdinfo;
pub mod lockfile;
pub mod locks;
pub mod maps;
