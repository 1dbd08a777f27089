//! `cargo xtask demo`: a real ghost, seen by lockwatch and by lslocks.

mod event;
mod scene;

use std::{
    env,
    ffi::OsStr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{become_root, is_root, line, output, which},
    run, setup,
};
use event::Death;
use scene::{Ghost, Scene, Watcher};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The lockwatch to show; built when not given
    #[arg(long, hide = true)]
    program: Option<PathBuf>,
}

/// Exit codes of `lockwatch clear` (CONTRACT section 1).
const DONE: i32 = 0;
const PLANNED: i32 = 4;

/// How long the watcher may take to attach its probes, which one sees from outside only by what it reports.
const WATCHER_STARTS: Duration = Duration::from_secs(30);
/// How long a watcher that is up may take to report a death.
const WATCHER_REPORTS: Duration = Duration::from_secs(2);

/// Builds lockwatch, then shows it a ghost. Whatever happens, nothing is left behind.
pub(crate) fn demo(root: &Path, args: &Args) -> Result<()> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => {
            setup::or_go_on(root, setup::For::Build);
            run::build(root)?
        }
    };
    if !is_root() {
        let own = env::current_exe().context("find the running xtask")?;
        let words = [OsStr::new("demo"), "--program".as_ref(), program.as_os_str()];
        return become_root(&own, &words);
    }
    let scene = Scene::new(program)?;
    let (ghost, death) = make_ghost(&scene)?;
    show(&scene, &ghost, &death)
}

/// Makes ghosts until the watcher reports one with its death: a watcher that was not up yet has seen nothing.
fn make_ghost(scene: &Scene) -> Result<(Ghost, Death)> {
    println!("# lockwatch watches; locksmith takes a lock, starts sleep, is killed; updater wants the lock");
    let watcher = Watcher::start(scene)?;
    let deadline = Instant::now() + WATCHER_STARTS;
    loop {
        let ghost = Ghost::make(scene)?;
        while let Some(event) = watcher.event(Instant::now() + WATCHER_REPORTS)? {
            if let Some(death) = event::death(&event, ghost.acquirer) {
                return Ok((ghost, death));
            }
        }
        if Instant::now() > deadline {
            bail!("the watcher did not report the death of pid {}; why: lockwatch doctor", ghost.acquirer);
        }
    }
}

fn show(scene: &Scene, ghost: &Ghost, death: &Death) -> Result<()> {
    println!("\n{death}\n");
    let file = scene.file.display().to_string();
    scene.run(&["orphans", &file], DONE)?;
    scene.run(&["explain", &file], DONE)?;
    lslocks(&scene.file, ghost)?;
    clear(scene, ghost, death)
}

/// Clears the lock as a human would: the plan first, then its code. Nobody is ended, and updater gets the lock.
fn clear(scene: &Scene, ghost: &Ghost, death: &Death) -> Result<()> {
    let id = death.id.as_deref().context("lockwatch did not name the lock")?;
    let log = scene.log().display().to_string();
    let clear = ["clear", id, "--reason", "a demo", "--audit-log", &log];
    scene.run(&clear, PLANNED)?;
    let plan = scene.json(&[&clear[..], &["--dry-run", "--json"]].concat())?;
    let code = plan["plan"]["code"].as_str().context("the plan has no code")?;
    scene.run(&[&clear[..], &["--confirm", code]].concat(), DONE)?;
    ghost.updater_has_the_lock(scene)?;
    println!("updater says that it has the lock; pid {} (sleep) lives on and was not touched", ghost.heir_pid());
    scene.run(&["audit", "--audit-log", &log], DONE)
}

/// What lslocks says of the same lock. It finds it by inode: it has no path for the lock of a dead process.
fn lslocks(file: &Path, ghost: &Ghost) -> Result<()> {
    if which("lslocks").is_none() {
        println!("lslocks (of util-linux) is not installed: nothing to compare with");
        return Ok(());
    }
    let inode = file.metadata().with_context(|| format!("stat {}", file.display()))?.ino().to_string();
    let mut command = Command::new("lslocks");
    command.args(["--raw", "--output", "INODE,COMMAND,PID,TYPE,MODE,PATH"]);
    println!("\n$ {}  (the lines of this file)", line(&command));
    let text = output(&mut command)?;
    let rows: Vec<_> = text.lines().filter(|row| row.split(' ').next() == Some(&inode)).collect();
    for row in text.lines().take(1).chain(rows.iter().copied()) {
        println!("{row}");
    }
    let names = |pid: u32| rows.iter().any(|row| row.split(' ').nth(2) == Some(&pid.to_string()));
    println!("{}", comparison(rows.len(), names(ghost.acquirer), names(ghost.heir_pid()), ghost));
    Ok(())
}

/// Says what was seen, not what was hoped for.
fn comparison(rows: usize, names_acquirer: bool, names_heir: bool, ghost: &Ghost) -> String {
    let (dead, holder) = (ghost.acquirer, ghost.heir_pid());
    match (rows, names_acquirer, names_heir) {
        (0, _, _) => format!("lslocks does not show the lock at all; pid {holder} (sleep) holds it"),
        (_, true, false) => {
            format!("lslocks names pid {dead}, which is dead, and not pid {holder} (sleep), which holds it")
        }
        (_, false, false) => {
            format!("lslocks names neither pid {dead}, which took it, nor pid {holder} (sleep), which holds it")
        }
        (_, _, true) => format!("lslocks names the holder, pid {holder} (sleep)"),
    }
}
