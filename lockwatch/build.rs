//! Builds the BPF programs into `OUT_DIR/lockwatch.bpf.o`, or puts an empty stub there when the machine has no
//! toolchain for them.
//!
//! The code learns by `cfg(bpf_built)` which of the two it is, and by the variable `LOCKWATCH_BPF_BUILD` (for
//! `env!`) what built it, or why nothing did.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use lockwatch_toolchain as toolchain;

fn main() -> Result<()> {
    println!("cargo:rustc-check-cfg=cfg(bpf_built)");
    println!("cargo:rerun-if-env-changed=LOCKWATCH_SKIP_BPF");
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_DIR");
    println!("cargo:rerun-if-changed=build.rs");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let root = here.parent().context("the package has no workspace around it")?;
    println!("cargo:rustc-env=LOCKWATCH_AYA={}", version_of("aya", &root.join("Cargo.lock"))?);
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?).join("lockwatch.bpf.o");

    if env::var_os("LOCKWATCH_SKIP_BPF").is_some_and(|v| !v.is_empty() && v != "0") {
        return stub(&out, "LOCKWATCH_SKIP_BPF is set");
    }
    let found = toolchain::find(root);
    match found.toolchain() {
        Some(complete) => build(root, &complete, &out),
        None => {
            let watched =
                toolchain::remember(root, &found, Some(SystemTime::UNIX_EPOCH)).context("write target/tools")?;
            println!("cargo:rerun-if-changed={}", watched.display());
            stub(&out, &found.to_string())
        }
    }
}

/// Which version of a package the workspace is locked to.
fn version_of(package: &str, lock: &Path) -> Result<String> {
    println!("cargo:rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(lock).with_context(|| format!("read {}", lock.display()))?;
    let after = text.split_once(&format!("name = \"{package}\"\nversion = \"")).map(|(_, after)| after);
    let version = after.and_then(|after| after.split('"').next());
    Ok(version.with_context(|| format!("{} has no {package}", lock.display()))?.to_owned())
}

/// A toolchain that is there and fails is an error: a stub would hide it.
fn build(root: &Path, complete: &toolchain::Toolchain, out: &Path) -> Result<()> {
    let package = root.join("lockwatch-ebpf");
    let common = root.join("lockwatch-common");
    for input in [package.join("src"), common.join("src"), common.join("Cargo.toml"), complete.linker.clone()] {
        println!("cargo:rerun-if-changed={}", input.display());
    }
    for input in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", package.join(input).display());
    }
    // One directory for every profile: the programs are the same in all of them.
    let target = toolchain::target_dir(root).join("ebpf");
    let mut command = toolchain::command(complete, &package, &target);
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "build {} with {} ({})\n{}",
        package.display(),
        complete.compiler,
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let object = toolchain::object(&target, "lockwatch-ebpf");
    fs::copy(&object, out).with_context(|| format!("copy {} to {}", object.display(), out.display()))?;
    println!("cargo:rustc-cfg=bpf_built");
    println!("cargo:rustc-env=LOCKWATCH_BPF_BUILD={}", complete.compiler);
    Ok(())
}

fn stub(out: &Path, reason: &str) -> Result<()> {
    fs::write(out, []).with_context(|| format!("write {}", out.display()))?;
    println!("cargo:warning=built without eBPF: {reason}. To have it, run: cargo xtask setup");
    println!("cargo:rustc-env=LOCKWATCH_BPF_BUILD={reason}");
    Ok(())
}
