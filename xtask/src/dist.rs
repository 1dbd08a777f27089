//! `cargo xtask dist`: what is installed elsewhere, as a Debian package and as a tarball, with checksums.
//!
//! `dpkg-deb` and `tar` make both from one tree; they are on every Debian, and write the same bytes for the same tree,
//! owner and time, which is that of the last commit.

mod check;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use lockwatch_toolchain::target_dir;

use crate::command::{cargo, output, run, say, which};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Pack this program instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Check them too: made again they are the same, lintian, and a clean root (debootstrap) after install, start, upgrade
    /// and purge
    #[arg(long)]
    check: bool,
    /// Fail when a check had to be left out
    #[arg(long, requires = "check")]
    all: bool,
}

/// What is packed.
struct Release<'a> {
    /// The repository.
    root: &'a Path,
    /// The program.
    program: &'a Path,
    version: &'a str,
    /// Seconds since 1970.
    time: &'a str,
}

/// What was made.
struct Made {
    deb: PathBuf,
    tarball: PathBuf,
}

/// Builds, packs, and tells where it is.
pub(crate) fn dist(root: &Path, args: &Args) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => build(root)?,
    };
    let time = output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))?;
    let release = Release { root, program: &program, version: env!("CARGO_PKG_VERSION"), time: time.trim() };
    let dir = target_dir(root).join("dist");
    say("packing");
    let made = pack(&release, &dir)?;
    sums(&dir, &made)?;
    if args.check {
        check::check(&release, &made, &target_dir(root), args.all)?;
    }
    say(format!("{} and {}", made.deb.display(), made.tarball.display()));
    Ok(())
}

/// A program for this machine's processor and any Linux distribution, and for an empty root: it brings its C library along.
/// Paths of the machine that it was built on are not in it.
fn build(root: &Path) -> Result<PathBuf> {
    let target = static_target()?;
    say(format!("building lockwatch for {target} (a minute or two)"));
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")));
    let mut flags = format!("-C target-feature=+crt-static --remap-path-prefix={}=.", root.display());
    if let Ok(home) = home {
        flags += &format!(" --remap-path-prefix={home}=cargo");
    }
    let mut command = cargo(root, &["build", "--release", "--locked", "--package", "lockwatch", "--target", &target]);
    run(command.env("RUSTFLAGS", flags))?;
    Ok(target_dir(root).join(target).join("release/lockwatch"))
}

/// musl, which is made to be linked statically, where Rust has it or rustup can fetch it; else the machine's own library.
fn static_target() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let musl = host.replace("-gnu", "-musl");
    let has = || -> Result<bool> {
        let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", &musl]))?;
        Ok(Path::new(libraries.trim()).exists())
    };
    if !has()? && which("rustup").is_some() {
        run(Command::new("rustup").args(["target", "add", &musl]))?;
    }
    let target = if has()? { musl } else { host.to_owned() };
    Ok(target)
}

/// Makes both in that directory.
fn pack(release: &Release<'_>, dir: &Path) -> Result<Made> {
    let Release { version, time, .. } = release;
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let arch = output(Command::new("dpkg").arg("--print-architecture")).context("find the architecture")?;
    let arch = arch.trim();
    let name = format!("lockwatch-{version}-linux-{arch}");
    let made = Made {
        deb: dir.join(format!("lockwatch_{version}-1_{arch}.deb")),
        tarball: dir.join(format!("{name}.tar.gz")),
    };
    let stage = tempfile::tempdir_in(dir).context("make a place for the tree")?;
    let tree = stage.path().join(&name);
    tree::fill(release, &tree)?;
    run(Command::new("tar")
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=gnu",
            "--use-compress-program=gzip -9n",
        ])
        .arg(format!("--mtime=@{time}"))
        .arg("-C")
        .arg(stage.path())
        .arg("-cf")
        .arg(&made.tarball)
        .arg(&name))?;
    tree::control(release, &tree, arch)?;
    build_deb(release, &tree, "-Zxz", &made.deb)?;
    Ok(made)
}

/// Makes only the package, and does not take the time to make it small.
fn pack_roughly(release: &Release<'_>, deb: &Path) -> Result<()> {
    let arch = output(Command::new("dpkg").arg("--print-architecture")).context("find the architecture")?;
    let tree = tempfile::tempdir().context("make a place for the tree")?;
    tree::fill(release, tree.path())?;
    tree::control(release, tree.path(), arch.trim())?;
    build_deb(release, tree.path(), "-Znone", deb)
}

fn build_deb(release: &Release<'_>, tree: &Path, compression: &str, deb: &Path) -> Result<()> {
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", compression, "--build"]).arg(tree).arg(deb);
    run(command.env("SOURCE_DATE_EPOCH", release.time))
}

/// SHA256SUMS beside them, which `sha256sum -c` reads.
fn sums(dir: &Path, made: &Made) -> Result<()> {
    let names = [&made.deb, &made.tarball].map(|path| path.file_name().unwrap_or_default().to_owned());
    let text = output(Command::new("sha256sum").args(names).current_dir(dir))?;
    ensure!(text.lines().count() == 2, "sha256sum has not seen both: {text}");
    eprint!("{text}");
    fs::write(dir.join("SHA256SUMS"), text).context("write SHA256SUMS")
}
