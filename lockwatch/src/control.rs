//! `lockwatch control`: serves one request on its stdin, or listens and has a process of itself serve each.
//!
//! What it needs other rights for comes first: the configuration, the place where plans wait, the eyes. Then it gives up
//! everything but what acting takes, and only then it reads what somebody has sent.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use lockwatch_config::Config;
use lockwatch_control::{
    confine,
    eyes::Resident,
    listen::{Listener, Room, group, user},
    pending::Pending,
    server::Caller,
    service::Service,
    turned_away::Counter,
};

use crate::exit::Exit;

/// The program that is running, even if another has been put in its place since.
const OURSELVES: &str = "/proc/self/exe";

/// Serves whoever is connected to stdin.
pub fn serve(config: Option<&Path>) -> Result<Exit> {
    // Or it would go by the name of the link that it was started by.
    rustix::thread::set_name(c"lockwatch").context("set this process's name")?;
    let caller = Caller::on_stdin()?;
    let mut counter = Counter::of(&caller.peer().way);
    let Prepared { config, agent, pending, mut eyes } = match prepare(config) {
        Ok(ready) => ready,
        Err(error) => {
            caller.fail(&error)?;
            return Ok(Exit::Failed);
        }
    };
    let mut service = Service { config: &config, agent, pending: pending.as_ref(), eyes: &mut eyes };
    caller.serve(&mut counter, |request, peer, front| service.serve(request, peer, front))?;
    Ok(Exit::Done)
}

/// What is made with other rights than acting takes.
struct Prepared {
    config: Config,
    agent: Option<u32>,
    pending: Option<Pending>,
    eyes: Resident,
}

fn prepare(config: Option<&Path>) -> Result<Prepared> {
    // With a limit on the size of files a write fails, and is told. Else it would end us, perhaps after the act.
    // SAFETY: nothing of ours runs on that signal, before or after.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let config = Config::load(config)?;
    let control = &config.control;
    let agent = user(&control.agent_user)?;
    let pending = (control.approvals > 1).then(|| Pending::open(&control.pending)).transpose()?;
    let eyes = Resident::start(Path::new(OURSELVES))?;
    confine::drop_to(confine::NEEDED).context("give up what acting does not need")?;
    Ok(Prepared { config, agent, pending, eyes })
}

/// Listens at this path for root and the members of this group, until it is ended.
pub fn listen(path: &Path, group_name: &str, config: Option<&Path>) -> Result<Exit> {
    let members = group(group_name)?;
    if members.is_none() {
        log::warn!("there is no group {group_name}: only root can ask at {}", path.display());
    }
    // One that is no use is better known now than when somebody is in need.
    Config::load(config)?;
    let listener = Listener::bind(path, members)?;
    listener.run(Room::default(), || {
        let mut control = Command::new(OURSELVES);
        control.arg("control");
        if let Some(config) = config {
            control.arg("--config").arg(config);
        }
        control
    })?;
    Ok(Exit::Done)
}
