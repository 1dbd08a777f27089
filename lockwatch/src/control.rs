//! `lockwatch control`: serves one request on its stdin, or listens and has a process of itself serve each.
//!
//! What it needs other rights for comes first: the configuration, the place where plans wait, the eyes. Then it gives up
//! everything but what acting takes, and only then it reads what somebody has sent.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use lockwatch_control::{
    config::Config,
    confine,
    eyes::Resident,
    listen::{Listener, Room, group},
    pending::{self, Pending},
    server::Caller,
    service::Service,
    turned_away::{self, Counter},
};

use crate::exit::Exit;

/// The program that is running, even if another has been put in its place since.
const OURSELVES: &str = "/proc/self/exe";

/// Serves whoever is connected to stdin.
pub fn serve() -> Result<Exit> {
    let caller = Caller::on_stdin()?;
    let mut counter = Counter::at(Path::new(turned_away::FILE));
    let (config, pending, mut eyes) = match prepare() {
        Ok(ready) => ready,
        Err(error) => {
            caller.fail(&error)?;
            return Ok(Exit::Failed);
        }
    };
    let mut service = Service { config: &config, pending: pending.as_ref(), eyes: &mut eyes };
    caller.serve(&mut counter, |request, peer, front| service.serve(request, peer, front))?;
    Ok(Exit::Done)
}

fn prepare() -> Result<(Config, Option<Pending>, Resident)> {
    let config = Config::load(None)?;
    let pending = (config.approvals > 1).then(|| Pending::open(Path::new(pending::DIRECTORY))).transpose()?;
    let eyes = Resident::start(Path::new(OURSELVES))?;
    confine::drop_to(confine::NEEDED).context("give up what acting does not need")?;
    Ok((config, pending, eyes))
}

/// Listens at this path for root and the members of this group, until it is ended.
pub fn listen(path: &PathBuf, group_name: &str) -> Result<Exit> {
    let members = group(group_name)?;
    if members.is_none() {
        log::warn!("there is no group {group_name}: only root can ask at {}", path.display());
    }
    let listener = Listener::bind(path, members)?;
    listener.run(Room::default(), || {
        let mut control = Command::new(OURSELVES);
        control.arg("control");
        control
    })?;
    Ok(Exit::Done)
}
