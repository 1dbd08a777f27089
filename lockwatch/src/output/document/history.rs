//! What has happened to a lock, in documents and events.

use std::time::Duration;

use lockwatch_core::{
    process::{Death, Life},
    timeline::Moment,
};
use serde::Serialize;

use super::{
    parts::At,
    people::{Acquirer, AnyProcess, ExitObject, Named},
};

/// One thing that has happened to it.
#[derive(Serialize)]
pub(crate) struct MomentObject<'a> {
    at: At,
    event: &'static str,
    process: Option<AnyProcess<'a>>,
    waited_ns: Option<u64>,
    /// How the process ended, if it has and somebody saw it.
    exit: Option<ExitObject<'a>>,
}

impl<'a> MomentObject<'a> {
    pub(crate) fn new(moment: &'a Moment) -> Self {
        let process = moment.who.as_deref().map(|who| match &who.comm {
            Some(comm) => AnyProcess::Named(Named::new(who.id.pid, comm)),
            None => AnyProcess::Full(Box::new(Acquirer::new(who))),
        });
        let exit = match moment.who.as_deref().map(|who| &who.life) {
            Some(Life::Dead(Death { exit, .. })) => exit.as_ref().map(ExitObject::new),
            _ => None,
        };
        Self { at: At(moment.at), event: moment.what.name(), process, waited_ns: moment.waited.map(nanos), exit }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
