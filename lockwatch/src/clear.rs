//! `lockwatch clear` and `lockwatch approve`: the side that a human sits at. It has no rights of its own: it asks
//! `lockwatch control`, shows what that says, and carries the code back.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, Command},
};

use anyhow::{Context, Result};
use lockwatch_control::{
    client::Client,
    document::{Document, Outcome},
    protocol::Request,
};

use crate::{
    commands,
    exit::Exit,
    output::{self, Format},
    request::Errand,
};

/// Asks, shows the plan, carries the code, and tells the outcome by the exit code.
pub fn run(errand: &Errand) -> Result<Exit> {
    let (client, control) = reach(errand)?;
    let mut shown = false;
    let answer = client.ask(&errand.request, |plan| {
        shown = true;
        commands::print(|out| output::clear::plan(plan, &errand.options, out))?;
        ask(plan)
    });
    // Whatever it has to say on its way out comes before our last word.
    if let Some(mut control) = control {
        control.wait().context("wait for lockwatch control")?;
    }
    let document = answer?;
    commands::print(|out| match errand.format {
        Format::Text => {
            if !shown && !matches!(document.outcome, Outcome::Cleared | Outcome::StillHeld) {
                output::clear::plan(&document, &errand.options, out)?;
                writeln!(out)?;
            }
            output::clear::outcome(&document, &errand.options, out)
        }
        _ => output::clear::json(&document, out),
    })?;
    Ok(exit(&document, &errand.request))
}

/// Root starts a control process of its own; everybody else goes to the one that listens.
fn reach(errand: &Errand) -> Result<(Client, Option<Child>)> {
    if !rustix::process::geteuid().is_root() {
        return Ok((Client::connect(&errand.socket)?, None));
    }
    let mut control = Command::new("/proc/self/exe");
    // In a process group of its own: Ctrl-C is for us, and what control has begun it brings to its end.
    control.arg("control").process_group(0);
    let (client, child) = Client::start(&mut control)?;
    Ok((client, Some(child)))
}

/// The code that a human types; nothing typed is no.
fn ask(plan: &Document) -> Result<Option<String>> {
    let code = plan.plan.as_ref().and_then(|plan| plan.code.as_deref()).unwrap_or_default();
    let mut out = io::stdout().lock();
    write!(out, "\nTo do this, type {code} (anything else does nothing): ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("read the code")?;
    let typed = line.trim();
    Ok((!typed.is_empty()).then(|| typed.to_owned()))
}

fn exit(document: &Document, request: &Request) -> Exit {
    let only_a_plan = matches!(request, Request::Clear(clear) if clear.dry_run);
    match document.outcome {
        Outcome::Cleared => Exit::Done,
        Outcome::Planned if only_a_plan => Exit::Done,
        Outcome::Planned => Exit::Unconfirmed,
        Outcome::Refused => Exit::Refused,
        Outcome::StillHeld => Exit::StillHeld,
        Outcome::Changed => Exit::Changed,
    }
}
