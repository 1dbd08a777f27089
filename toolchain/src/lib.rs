//! Finds the toolchain that builds the BPF programs, and says how to call it.
//!
//! The build script of `lockwatch` and `cargo xtask setup` must agree on what is there, so both ask here. Nothing is
//! installed and nothing is written, but for [`remember`].

mod build;
mod find;
mod machine;

use std::{env, fs, io, path::Path, path::PathBuf, time::SystemTime};

pub use build::{command, object};
pub use find::{Compiler, Found, LINKER_LLVM, Missing, TARGET, Toolchain, find};

/// Where cargo puts this workspace's output: `CARGO_TARGET_DIR`, else `target` in the workspace. (`--target-dir` is
/// not visible from a build script; the BPF programs then go to `target` all the same.)
pub fn target_dir(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Where `cargo xtask setup` installs tools of its own (`bin` below it).
pub fn tools_dir(root: &Path) -> PathBuf {
    target_dir(root).join("tools")
}

/// Writes what was found to a file that changes when, and only when, the finding does, and returns its path.
///
/// A build script that found nothing watches this file: watching tools that are not there would make cargo run it at
/// every build. `made` is the file's time when it is new; a build script passes the epoch, because cargo takes a file
/// younger than the script's start for a change.
pub fn remember(root: &Path, found: &Found, made: Option<SystemTime>) -> io::Result<PathBuf> {
    let path = tools_dir(root).join("found");
    let text = format!("{found}\n");
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(path);
    }
    fs::create_dir_all(tools_dir(root))?;
    fs::write(&path, text)?;
    if let Some(time) = made {
        fs::File::options().write(true).open(&path)?.set_modified(time)?;
    }
    Ok(path)
}
