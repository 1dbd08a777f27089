//! The commands of this repository: `cargo xtask COMMAND`.

mod command;
mod compare;
mod demo;
mod dist;
mod ghost;
mod lint;
mod pictures;
mod run;
mod setup;
mod soak;
mod test;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// The commands of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the eBPF build needs and this machine lacks
    Setup(setup::Args),
    /// Build lockwatch, eBPF included, and run it as root
    Run(run::Args),
    /// Make a real orphaned lock in a temporary directory and show what lockwatch says about it
    Demo(demo::Args),
    /// Run every test that this machine can run
    Test(test::Args),
    /// Stage every scene a hundred times, do a million random lock operations, watch real programs at work
    Soak(soak::Args),
    /// Ask lockwatch and its peers about the same real locks, and write README's table of what they say
    Compare(compare::Args),
    /// Make the pictures in docs/pictures anew, each of something real
    Pictures,
    /// Check format, lints, documentation and dependencies
    Lint,
    /// Make a Debian package and a tarball, with checksums
    Dist(dist::Args),
    /// The processes of the demo
    #[command(hide = true)]
    Ghost(ghost::Args),
}

fn main() -> ExitCode {
    let root = root();
    find_our_tools(&root);
    let done = match Cli::parse().command {
        Task::Setup(args) => setup::setup(&root, &args),
        Task::Run(args) => run::run(&root, &args),
        Task::Demo(args) => demo::demo(&root, &args),
        Task::Test(args) => test::test(&root, &args),
        Task::Soak(args) => soak::soak(&root, &args),
        Task::Compare(args) => compare::compare(&root, &args),
        Task::Pictures => pictures::pictures(&root),
        Task::Lint => lint::lint(&root),
        Task::Dist(args) => dist::dist(&root, &args),
        Task::Ghost(args) => ghost::ghost(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever `setup` has put under the target directory is found like what is installed, by us and by all that we start.
fn find_our_tools(root: &Path) {
    let ours = lockwatch_toolchain::tools_dir(root).join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = env::join_paths(env::split_paths(&path).chain([ours])) {
        // SAFETY: this process has one thread.
        unsafe { env::set_var("PATH", path) };
    }
}

/// The workspace that this program was built from.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}
