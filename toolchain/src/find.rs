//! Looks for a Rust compiler with a `core` for BPF, and for bpf-linker.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{machine::Machine, machine::ThisMachine, tools_dir};

/// The BPF target with this machine's byte order.
pub const TARGET: &str = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// The LLVM that `cargo xtask setup` links bpf-linker with. It cannot read the bitcode of a newer one.
pub const LINKER_LLVM: u32 = 22;

/// The first rustc of Debian whose aya-ebpf build was seen to work.
const DEBIAN_RUSTC: (u32, u32) = (1, 96);

/// What this machine has for building BPF programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A compiler with a `core` for BPF, or what each way to one lacks.
    pub compiler: Result<Compiler, Vec<Missing>>,
    /// A bpf-linker that runs.
    pub linker: Result<PathBuf, Missing>,
}

/// A complete toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Compiles.
    pub compiler: Compiler,
    /// Links.
    pub linker: PathBuf,
}

/// One of the two ways to a `core` for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// rustup's nightly with the component rust-src: cargo builds `core` itself.
    Nightly,
    /// Debian's packages rustc-web, cargo-web and libstd-rust-web-dev-bpf: `core` comes built.
    Debian,
}

/// A piece that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// rustup has no nightly, or there is no rustup.
    Nightly,
    /// The nightly's sources of `core` are not below this sysroot.
    RustSrc(PathBuf),
    /// The nightly's LLVM has this number; ours reads nothing newer than [`LINKER_LLVM`].
    NightlyTooNew(u32),
    /// `/usr/bin/rustc` or `/usr/bin/cargo` is not there.
    DebianRustc,
    /// `/usr/bin/rustc` has this release, which is too old.
    DebianTooOld(String),
    /// `/usr/bin/rustc` has no `core` for BPF in this directory.
    DebianCore(PathBuf),
    /// bpf-linker is neither on the PATH nor here, or does not run.
    Linker(PathBuf),
}

/// Looks for both ways, the rustup way first, and for bpf-linker on the PATH and below [`tools_dir`].
pub fn find(root: &Path) -> Found {
    find_on(&ThisMachine, &tools_dir(root).join("bin"))
}

impl Found {
    /// The toolchain, when nothing is missing.
    pub fn toolchain(&self) -> Option<Toolchain> {
        let (Ok(compiler), Ok(linker)) = (&self.compiler, &self.linker) else { return None };
        Some(Toolchain { compiler: *compiler, linker: linker.clone() })
    }

    /// What is missing, in the order in which it was looked for. Either way to a compiler would do.
    pub fn missing(&self) -> Vec<&Missing> {
        let compiler = self.compiler.as_ref().err().into_iter().flatten();
        compiler.chain(self.linker.as_ref().err()).collect()
    }
}

fn find_on(machine: &impl Machine, own_tools: &Path) -> Found {
    let on_path = machine.search_path().into_iter().map(|dir| dir.join("bpf-linker"));
    let own = own_tools.join("bpf-linker");
    let linker = on_path
        .chain([own.clone()])
        .find(|linker| machine.output(linker, &["--version"]).is_some())
        .ok_or_else(|| Missing::Linker(own.clone()));
    let foreign_linker = linker.as_ref().is_ok_and(|linker| *linker != own);
    let compiler =
        nightly(machine, foreign_linker).or_else(|first| debian(machine).map_err(|second| vec![first, second]));
    Found { compiler, linker }
}

/// `rustup run` rather than `rustc +nightly`: it never installs anything behind one's back.
fn nightly(machine: &impl Machine, foreign_linker: bool) -> Result<Compiler, Missing> {
    let rustup = |args: &[&str]| machine.output(Path::new("rustup"), &[&["run", "nightly", "rustc"], args].concat());
    let sysroot = rustup(&["--print", "sysroot"]).ok_or(Missing::Nightly)?;
    let sysroot = PathBuf::from(sysroot.trim_end());
    if machine.names(&sysroot.join("lib/rustlib/src/rust/library/core/src")).is_empty() {
        return Err(Missing::RustSrc(sysroot));
    }
    // Who brings a bpf-linker of their own has chosen its LLVM.
    match rustup(&["-vV"]).and_then(|v| number(field(&v, "LLVM version:")?)) {
        Some(llvm) if llvm > LINKER_LLVM && !foreign_linker => Err(Missing::NightlyTooNew(llvm)),
        _ => Ok(Compiler::Nightly),
    }
}

fn debian(machine: &impl Machine) -> Result<Compiler, Missing> {
    let rustc = Path::new("/usr/bin/rustc");
    let version = machine.output(rustc, &["-vV"]).ok_or(Missing::DebianRustc)?;
    machine.output(Path::new("/usr/bin/cargo"), &["-V"]).ok_or(Missing::DebianRustc)?;
    let release = field(&version, "release:").unwrap_or_default();
    let mut numbers = release.split('.').map(number);
    if (numbers.next().flatten(), numbers.next().flatten()) < (Some(DEBIAN_RUSTC.0), Some(DEBIAN_RUSTC.1)) {
        return Err(Missing::DebianTooOld(release.to_owned()));
    }
    let sysroot = machine.output(rustc, &["--print", "sysroot"]).ok_or(Missing::DebianRustc)?;
    let core = Path::new(sysroot.trim_end()).join("lib/rustlib").join(TARGET).join("lib");
    let is_core = |name: &String| name.starts_with("libcore-") && name.ends_with(".rlib");
    if machine.names(&core).iter().any(is_core) { Ok(Compiler::Debian) } else { Err(Missing::DebianCore(core)) }
}

/// The value behind a name in what `rustc -vV` prints.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// The number that a text begins with.
fn number(text: &str) -> Option<u32> {
    text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compiler::Nightly => "rustup's nightly with rust-src",
            Compiler::Debian => "Debian's rustc with libstd-rust-web-dev-bpf",
        })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Nightly => write!(f, "rustup has no nightly"),
            Missing::RustSrc(sysroot) => write!(f, "no rust-src in {}", sysroot.display()),
            Missing::NightlyTooNew(llvm) => {
                write!(f, "the nightly has LLVM {llvm}, bpf-linker of `cargo xtask setup` has LLVM {LINKER_LLVM}")
            }
            Missing::DebianRustc => write!(f, "no Debian rustc and cargo in /usr/bin"),
            Missing::DebianTooOld(release) => {
                write!(f, "/usr/bin/rustc is {release}, older than {}.{}", DEBIAN_RUSTC.0, DEBIAN_RUSTC.1)
            }
            Missing::DebianCore(dir) => write!(f, "/usr/bin/rustc has no core for BPF in {}", dir.display()),
            Missing::Linker(own) => write!(f, "no bpf-linker that runs, neither on the PATH nor at {}", own.display()),
        }
    }
}

/// One line: `rustup's nightly with rust-src, bpf-linker /usr/bin/bpf-linker`, or what is missing.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.toolchain() {
            Some(Toolchain { compiler, linker }) => write!(f, "{compiler}, bpf-linker {}", linker.display()),
            None => {
                let missing: Vec<_> = self.missing().into_iter().map(Missing::to_string).collect();
                f.write_str(&missing.join("; "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Answers from a table: `program args` gives its output, `dir/` its names.
    struct Fake(HashMap<&'static str, &'static str>);

    impl Machine for Fake {
        fn output(&self, program: &Path, args: &[&str]) -> Option<String> {
            let line = format!("{} {}", program.display(), args.join(" "));
            self.0.get(line.as_str()).map(|text| (*text).to_owned())
        }

        fn names(&self, dir: &Path) -> Vec<String> {
            let names = self.0.get(format!("{}/", dir.display()).as_str());
            names.into_iter().flat_map(|names| names.split(' ')).map(str::to_owned).collect()
        }

        fn search_path(&self) -> Vec<PathBuf> {
            vec!["/bin".into()]
        }
    }

    const NIGHTLY: (&str, &str) = ("rustup run nightly rustc --print sysroot", "/n\n");
    const NIGHTLY_22: (&str, &str) =
        ("rustup run nightly rustc -vV", "release: 1.97.0-nightly\nLLVM version: 22.1.4\n");
    const NIGHTLY_23: (&str, &str) =
        ("rustup run nightly rustc -vV", "release: 1.99.0-nightly\nLLVM version: 23.0.1\n");
    const RUST_SRC: (&str, &str) = ("/n/lib/rustlib/src/rust/library/core/src/", "lib.rs mem");
    const DEBIAN: [(&str, &str); 3] = [
        ("/usr/bin/rustc -vV", "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"),
        ("/usr/bin/rustc --print sysroot", "/usr\n"),
        ("/usr/bin/cargo -V", "cargo 1.96.0"),
    ];
    const DEBIAN_OLD: (&str, &str) = ("/usr/bin/rustc -vV", "release: 1.85.0\n");
    const CORE: (&str, &str) = ("/usr/lib/rustlib/bpfel-unknown-none/lib/", "liballoc-1.rlib libcore-1.rlib");
    const LINKER: (&str, &str) = ("/bin/bpf-linker --version", "bpf-linker 0.13.0");
    const OWN_LINKER: (&str, &str) = ("/t/bpf-linker --version", "bpf-linker 0.13.0");

    fn check(has: &[(&'static str, &'static str)], expect: &str) {
        let found = find_on(&Fake(has.iter().copied().collect()), Path::new("/t"));
        assert_eq!(found.to_string(), expect);
        assert_eq!(found.toolchain().is_some(), found.missing().is_empty());
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn names_what_is_there_and_what_is_not() {
        let [d1, d2, d3] = DEBIAN;
        let no_linker = "no bpf-linker that runs, neither on the PATH nor at /t/bpf-linker";
        check(&[], &format!("rustup has no nightly; no Debian rustc and cargo in /usr/bin; {no_linker}"));
        check(&[NIGHTLY, NIGHTLY_22, RUST_SRC, LINKER], "rustup's nightly with rust-src, bpf-linker /bin/bpf-linker");
        check(&[NIGHTLY, NIGHTLY_22, RUST_SRC], no_linker);
        check(&[NIGHTLY, NIGHTLY_22, LINKER], "no rust-src in /n; no Debian rustc and cargo in /usr/bin");
        let debian = "Debian's rustc with libstd-rust-web-dev-bpf, bpf-linker /t/bpf-linker";
        check(&[NIGHTLY, d1, d2, d3, CORE, OWN_LINKER], debian);
        check(
            &[d1, d2, d3, LINKER],
            "rustup has no nightly; /usr/bin/rustc has no core for BPF in /usr/lib/rustlib/bpfel-unknown-none/lib",
        );
        check(&[DEBIAN_OLD, d2, d3, CORE, LINKER], "rustup has no nightly; /usr/bin/rustc is 1.85.0, older than 1.96");
        // The bpf-linker on the PATH comes first, and its owner has chosen its LLVM; ours has LLVM 22.
        check(
            &[NIGHTLY, NIGHTLY_23, RUST_SRC, LINKER, OWN_LINKER],
            "rustup's nightly with rust-src, bpf-linker /bin/bpf-linker",
        );
        check(&[NIGHTLY, NIGHTLY_23, RUST_SRC, OWN_LINKER, d1, d2, d3, CORE], debian);
    }
}
