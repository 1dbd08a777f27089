//! One look at the world: sources, table, report.

use std::{fs, mem::ManuallyDrop, path::Path, time::Instant};

use lockwatch_core::{
    report::{Host, Report, Settings, SourceState},
    table::Table,
    text::Text,
};

use crate::{
    progress::Progress,
    request::Request,
    sources::{self, bpf::Depth},
};

/// Asks the source that the request names and judges what it shows. Nothing is filtered here: a lock's verdict and ID
/// depend on the others.
pub fn look(request: &Request) -> anyhow::Result<Report> {
    let _progress = Progress::start(request.progress, "looking at locks and open files");
    let report = look_once(request, Depth::Usual)?;
    let by_bpf = report.sources.iter().any(|source| source.name == "bpf" && source.state == SourceState::Ok);
    if by_bpf && report.accuses_heirs() { look_once(request, Depth::Thorough) } else { Ok(report) }
}

fn look_once(request: &Request, depth: Depth) -> anyhow::Result<Report> {
    let (picture, statuses) = sources::take(request.source, &request.proc_root, depth)?;
    // A look or two is all that this process does: freeing the table would take time that nobody gains.
    let mut table = ManuallyDrop::new(Table::new(Settings::default()));
    let now = picture.taken_at;
    let watch = Instant::now();
    table.see(picture);
    let report = table.report(now, &host(&request.proc_root), &statuses);
    log::info!("judged {} locks, {:.1?}", report.locks.len(), watch.elapsed());
    Ok(report)
}

/// Where we are.
pub fn host(proc_root: &Path) -> Host {
    let uname = rustix::system::uname();
    // Without it an ID is still unique on this host, only not beyond its boot.
    let boot_id = fs::read_to_string(proc_root.join("sys/kernel/random/boot_id")).unwrap_or_default();
    Host {
        hostname: Text::new(uname.nodename().to_bytes()),
        kernel: Text::new(uname.release().to_bytes()),
        boot_id: boot_id.trim_end().to_owned(),
    }
}
