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
    sources::{Source, SourceChoice, bpf::Depth},
    through,
};

/// Asks the agent if one runs and may be asked, else the source that the request names, and judges what that shows. Nothing
/// is filtered here: a lock's verdict and ID depend on the others.
pub fn look(request: &Request) -> anyhow::Result<Report> {
    if let Some(report) = through::report(request) {
        return Ok(report);
    }
    let _progress = Progress::start(request.progress, "looking at locks and open files");
    // The process ends with it: freeing the table would take time that nobody gains.
    ManuallyDrop::new(Looker::new(request.source, &request.proc_root)?).look()
}

/// Looks as often as is wanted, each time as if it were the first.
pub struct Looker {
    source: Source,
    host: Host,
    /// Of the last look.
    table: Table,
}

impl Looker {
    /// Loads what it needs.
    pub fn new(source: SourceChoice, proc_root: &Path) -> anyhow::Result<Self> {
        let source = Source::open(source, proc_root)?;
        Ok(Self { source, host: host(proc_root), table: Table::new(Settings::default()) })
    }

    /// Everything that is, now.
    pub fn look(&mut self) -> anyhow::Result<Report> {
        let report = self.look_once(Depth::Usual)?;
        let by_bpf = report.sources.iter().any(|source| source.name == "bpf" && source.state == SourceState::Ok);
        if by_bpf && report.accuses_heirs() { self.look_once(Depth::Thorough) } else { Ok(report) }
    }

    fn look_once(&mut self, depth: Depth) -> anyhow::Result<Report> {
        let (picture, statuses) = self.source.take(depth)?;
        self.table = Table::new(Settings::default());
        let now = picture.taken_at;
        let watch = Instant::now();
        self.table.see(picture);
        let report = self.table.report(now, &self.host, &statuses);
        log::info!("judged {} locks, {:.1?}", report.locks.len(), watch.elapsed());
        Ok(report)
    }
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
