//! A lockwatch that watches while a test acts.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    lines::{Heard, Lines},
    process::Process,
    program::lockwatch_command,
};

/// A running `orphans --watch` or `trace`; it ends when this value does.
pub struct Watcher {
    process: Process,
    lines: Lines,
}

/// One line that it printed.
#[derive(Clone, Debug)]
pub struct Event {
    /// When the line was read.
    pub heard: Instant,
    /// The object on it.
    pub json: Value,
}

impl Watcher {
    /// `lockwatch orphans --watch --ndjson PATH`, once it watches.
    pub fn orphans(paths: &[&Path]) -> Self {
        let mut args = vec![OsStr::new("orphans"), OsStr::new("--watch"), OsStr::new("--ndjson")];
        args.extend(paths.iter().map(|path| path.as_os_str()));
        Self::start(&args, None)
    }

    /// `lockwatch trace --ndjson --path PATH`, once it watches.
    pub fn trace(path: &Path) -> Self {
        Self::start(&Self::trace_args(path), None)
    }

    /// The same with its probes attached in one way: `tp_btf`, `raw_tracepoint` or `tracepoint`.
    pub fn trace_by(way: &str, path: &Path) -> Self {
        Self::start(&Self::trace_args(path), Some(way))
    }

    fn trace_args(path: &Path) -> [&OsStr; 4] {
        [OsStr::new("trace"), OsStr::new("--ndjson"), OsStr::new("--path"), path.as_os_str()]
    }

    /// The same for several files.
    pub fn trace_all(paths: &[&Path]) -> Self {
        let mut args = vec![OsStr::new("trace"), OsStr::new("--ndjson")];
        args.extend(paths.iter().flat_map(|path| [OsStr::new("--path"), path.as_os_str()]));
        Self::start(&args, None)
    }

    fn start(args: &[&OsStr], way: Option<&str>) -> Self {
        let mut command = lockwatch_command();
        command.args(args).envs(way.map(|way| ("LOCKWATCH_PROBES", way)));
        Self::of(command)
    }

    /// Starts something that prints events. Returns after the `watching` event: probes are attached, and the first
    /// picture is complete.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn of(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("lockwatch has no standard output"));
        let watcher = Self { process: Process::of_child(child), lines: Lines::from(stdout) };
        watcher.wait_for("watching", |event| event.is("watching"));
        watcher
    }

    /// Waits for an event, past or to come, that `wanted` accepts.
    ///
    /// # Panics
    ///
    /// When it does not come; `what` names it.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let found = self.lines.find(|lines| lines.iter().map(Event::parse).find(&wanted));
        found.unwrap_or_else(|| panic!("no {what} event in:\n{}", self.lines.heard().join("\n")))
    }

    /// Waits for the event of this name about a lock of this file, past or to come.
    ///
    /// # Panics
    ///
    /// When it does not come.
    pub fn wait_about(&self, name: &str, path: &Path) -> Event {
        self.wait_for(name, |event| event.is(name) && event.about(path))
    }

    /// Waits until each of these has come, by name and process, in this order; others may come between them.
    ///
    /// # Panics
    ///
    /// When they do not.
    pub fn wait_for_each(&self, wanted: &[(&str, u32)]) -> Vec<Event> {
        let found = self.lines.find(|lines| {
            let mut events = lines.iter().map(Event::parse);
            wanted.iter().map(|(name, pid)| events.find(|event| event.is(name) && event.by(*pid))).collect()
        });
        found.unwrap_or_else(|| panic!("no {wanted:?} in this order in:\n{}", self.lines.heard().join("\n")))
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.lines.find(|lines| Some(lines.iter().map(Event::parse).collect())).unwrap_or_default()
    }

    /// All events since it was last asked for them.
    pub fn take_events(&self) -> Vec<Event> {
        self.lines.drain().iter().map(Event::parse).collect()
    }

    /// How often it has said that events were lost.
    pub fn losses(&self) -> usize {
        self.events().iter().filter(|event| event.is("lost")).count()
    }

    /// Whether it has said so more often than this, or does so soon: it notices within two seconds. A probe does not run
    /// where another task on its CPU is in the same one (kernel/trace/bpf_trace.c `__bpf_trace_run`, 6.18), which happens
    /// on a busy machine.
    pub fn loses_more_than(&self, before: usize) -> bool {
        let patience = Instant::now() + Duration::from_secs(3);
        while self.losses() <= before && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        self.losses() > before
    }

    /// Forgets all events so far.
    pub fn forget(&self) {
        self.lines.forget();
    }

    /// The process, to be ended.
    pub fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

impl Event {
    fn parse((heard, line): &Heard) -> Self {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in the event {line}"));
        assert_eq!(json["schema"], "lockwatch.event/1", "{line}");
        Self { heard: *heard, json }
    }

    /// Whether it is called so.
    pub fn is(&self, name: &str) -> bool {
        self.json["event"] == name
    }

    /// Whether it is about a lock of this file.
    pub fn about(&self, path: &Path) -> bool {
        self.json["lock"]["file"]["path"].as_str().is_some_and(|p| Path::new(p) == path)
    }

    /// Whether its process has this number.
    pub fn by(&self, pid: u32) -> bool {
        self.json["process"]["pid"] == pid
    }
}
