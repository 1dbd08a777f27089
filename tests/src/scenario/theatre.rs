//! Stages scenes side by side and has them judged: by one watcher, by one look that comes too late, by one from inside
//! of a pid namespace.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Cast, DEADLOCK, PEACE, Part, Scenario,
    judge::{faults, is, is_of_file},
    scenes,
    through::differences,
};
use crate::{
    Event, HostAgent, Scene, Watcher, document, document_of, ghost, items, left_out, lockwatch_path,
    numbers_have_wrapped, plain, run, verdict,
};

/// After the last scene's ghost has been told, everything before it has been too, but for those deadlocks that get hot
/// only when somebody has waited for long.
const ENCORE: Duration = Duration::from_secs(15);

/// A stage with its audience.
pub struct Theatre {
    scenes: Vec<Scenario>,
    copies: usize,
    sources: Vec<&'static str>,
    /// `orphans --watch`, and `trace` of the files in `waits`.
    watchers: Option<(Watcher, Watcher)>,
    /// An agent, in a place of its own.
    agent: Option<(HostAgent, Scene)>,
    waits: Scene,
    runs: BTreeMap<&'static str, usize>,
    wrong: Vec<Wrong>,
}

/// A wrong answer.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// The scene.
    pub scene: &'static str,
    /// Who gave it: a source, `watched`, `inside`, `trace`, `stage`.
    pub who: String,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// What was said.
    pub said: Value,
}

struct Staged {
    scenario: Scenario,
    cast: Cast,
    _scene: Scene,
}

impl Theatre {
    /// Looks with these sources, and watches if one of them is bpf. Each scene is staged `copies` times at once; only
    /// those whose name has `filter` in it.
    ///
    /// # Panics
    ///
    /// When no watcher can be started.
    pub fn open(sources: &[&'static str], copies: usize, filter: &str) -> Self {
        let scenes: Vec<_> = scenes().into_iter().filter(|s| s.name.contains(filter) && (s.needs)(s.name)).collect();
        let waits = Scene::new();
        let files: Vec<_> = scenes.iter().flat_map(|s| (0..copies).map(|copy| waits.file(wait(s, copy)))).collect();
        let watchers = sources.contains(&"bpf").then(|| {
            let paths: Vec<_> = files.iter().map(PathBuf::as_path).collect();
            (Watcher::orphans(&[]), Watcher::trace_all(&paths))
        });
        let agent = sources.contains(&"bpf").then(|| {
            let place = Scene::new();
            (HostAgent::start(&place, ""), place)
        });
        let sources = sources.to_vec();
        Self { scenes, copies, sources, watchers, agent, waits, runs: BTreeMap::new(), wrong: Vec::new() }
    }

    /// Stages everything once (each scene as often as there are copies) and judges it.
    pub fn play(&mut self) {
        let (alone, together): (Vec<_>, Vec<_>) = self.scenes.clone().into_iter().partition(|s| s.alone);
        self.act(&together);
        for scenario in alone {
            self.act(&[scenario]);
        }
    }

    /// Every wrong answer so far.
    pub fn wrong(&self) -> &[Wrong] {
        &self.wrong
    }

    fn act(&mut self, scenes: &[Scenario]) {
        let mut staged = Vec::new();
        let lost = self.agent.as_ref().map_or(0, |(agent, _)| agent.watcher().losses());
        for copy in 0..self.copies {
            for scenario in scenes {
                *self.runs.entry(scenario.name).or_default() += 1;
                let scene = Scene::new();
                let path = if scenario.traced { self.waits.file(wait(scenario, copy)) } else { scene.file("lock") };
                match catch_unwind(AssertUnwindSafe(|| (scenario.stage)(&scene, &path))) {
                    Ok(cast) => staged.push(Staged { scenario: *scenario, cast, _scene: scene }),
                    Err(_) => self.note(scenario, "stage", vec!["could not be staged".into()], Value::Null),
                }
            }
        }
        self.watched(&staged);
        self.through(&staged, lost);
        for source in self.sources.clone() {
            self.cold(source, &staged);
        }
        self.inside(&staged);
    }

    fn note(&mut self, scenario: &Scenario, who: &str, faults: Vec<String>, said: Value) {
        if !faults.is_empty() {
            self.wrong.push(Wrong { scene: scenario.name, who: who.to_owned(), faults, said });
        }
    }

    fn cold(&mut self, source: &str, staged: &[Staged]) {
        let document = document(source, &[]);
        let locks = items(&document["locks"]);
        for Staged { scenario, cast, .. } in staged {
            for part in &cast.parts {
                let expect = match part.verdicts {
                    Some([cold, _]) => cold,
                    None if source == "procfs" => scenario.procfs,
                    None => scenario.cold,
                };
                let said = locks.iter().filter(|lock| is(part, lock)).collect::<Vec<_>>();
                let (faults, said) = match said.as_slice() {
                    [lock] => (faults(part, lock, expect, scenario.says), (*lock).clone()),
                    others => (vec![format!("one lock expected, got {}", others.len())], Value::Null),
                };
                let ages_are_lost = verdict(&said) == "unknown/inherited" && numbers_have_wrapped();
                if ages_are_lost && expect != "unknown/inherited" && faults.len() <= 2 {
                    let reason = "process numbers have wrapped since boot: ages cannot be told";
                    left_out(&format!("{}, cold", scenario.name), reason);
                    continue;
                }
                self.note(scenario, source, faults, said);
            }
        }
    }

    /// With an agent there is one answer, by whatever way one asks; only the agent's own knows what has been.
    fn through(&mut self, staged: &[Staged], lost: usize) {
        let Some((agent, _)) = &self.agent else { return };
        let socket = agent.api_socket().as_os_str();
        let list = ["list", "--json", "--api-socket"].map(OsStr::new);
        let through = document_of(list.into_iter().chain([socket]));
        let without = document_of(list.into_iter().chain([socket, OsStr::new("--no-agent")]));
        let of = |document: &Value, part: &Part| {
            let mut locks = items(&document["locks"]).iter().filter(|lock| is(part, lock));
            locks.next().filter(|_| locks.next().is_none()).cloned()
        };
        let mut judged = Vec::new();
        for Staged { scenario, cast, .. } in staged {
            for part in &cast.parts {
                let expect = match part.verdicts.map_or(scenario.watched, |[_, watched]| watched) {
                    PEACE => scenario.known.unwrap_or(part.verdicts.map_or(scenario.cold, |[cold, _]| cold)),
                    DEADLOCK => "held",
                    verdict => verdict,
                };
                let (seen, own) = (of(&through, part), of(&without, part));
                let mut wrong = match (&seen, &own) {
                    (Some(seen), Some(own)) => [differences(seen, own), faults(part, seen, expect, &[])].concat(),
                    _ => vec!["one lock expected by both ways".into()],
                };
                for key in ["schema", "host", "sources", "exact"] {
                    if through[key] != without[key] {
                        wrong.push(format!("{key}: {} through the agent, {} without it", through[key], without[key]));
                    }
                }
                let seen = seen.unwrap_or_default();
                if !wrong.is_empty() && seen["verdict"] == "unknown" && agent.watcher().loses_more_than(lost) {
                    left_out(&format!("{}, through the agent", scenario.name), "it lost events, and has said so");
                    continue;
                }
                judged.push((scenario, wrong, seen));
            }
        }
        judged.into_iter().for_each(|(scenario, wrong, seen)| self.note(scenario, "through the agent", wrong, seen));
    }

    /// From inside a pid namespace nobody can tell whether these processes live: no lock may be called orphaned.
    fn inside(&mut self, staged: &[Staged]) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let mut unshare = plain("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc"]).arg(lockwatch_path()).args(["list", "--json"]);
        let run = run(&mut unshare);
        let document: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
        let found = items(&document["locks"]);
        let reasons = items(&document["sources"]).iter().map(|source| &source["reason"]);
        let mut reasons = reasons.chain(items(&document["warnings"])).filter_map(Value::as_str);
        let warned = reasons.any(|reason| reason.contains("namespace"));
        for Staged { scenario, cast, .. } in staged {
            if !warned {
                let said = String::from_utf8_lossy(&run.stdout).into_owned() + &run.stderr;
                self.note(scenario, "inside", vec!["no word of the namespace".into()], said.into());
            }
            for lock in cast.parts.iter().flat_map(|part| found.iter().filter(|lock| is_of_file(part, lock))) {
                let wrong =
                    (lock["verdict"] != "unknown").then(|| format!("verdict: unknown expected, got {}", verdict(lock)));
                self.note(scenario, "inside", wrong.into_iter().collect(), lock.clone());
            }
        }
    }

    fn watched(&mut self, staged: &[Staged]) {
        let Some((orphans, trace)) = self.watchers.take() else { return };
        let scene = Scene::new();
        let marker = scene.file("marker");
        let _marker = ghost(&scene, &marker);
        orphans.wait_about("orphaned", &marker);
        let deadline = Instant::now() + ENCORE;
        let told = |name: &str, part: &Part, events: &[Event]| {
            events.iter().find(|event| event.is(name) && is(part, &event.json["lock"])).cloned()
        };
        for Staged { scenario, cast, .. } in staged {
            for part in &cast.parts {
                let expect = part.verdicts.map_or(scenario.watched, |[_, watched]| watched);
                let (name, verdict) = match expect {
                    PEACE | DEADLOCK => ("hot", "held"),
                    verdict => ("orphaned", verdict),
                };
                let mut event = told(name, part, &orphans.events());
                while expect != PEACE && event.is_none() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(50));
                    event = told(name, part, &orphans.events());
                }
                let mut wrong = Vec::new();
                match (&event, expect) {
                    (None, PEACE) => {}
                    (None, _) => wrong.push(format!("no {name} event")),
                    (Some(event), _) => {
                        let lock = &event.json["lock"];
                        wrong = faults(part, lock, verdict, scenario.says);
                        if expect == DEADLOCK && lock["deadlock"] != true {
                            wrong.push("no deadlock".into());
                        }
                    }
                }
                let mut said = event.map_or(Value::Null, |event| event.json["lock"].clone());
                if let Some(event) = told("orphaned", part, &orphans.events()).filter(|_| name != "orphaned") {
                    wrong.push(format!("false orphan: {}", crate::verdict(&event.json["lock"])));
                    said = event.json["lock"].clone();
                }
                self.note(scenario, "watched", wrong, said);
            }
            for pid in &cast.waited {
                let by = |event: &Event| event.by(*pid);
                let names: Vec<_> = trace
                    .events()
                    .into_iter()
                    .filter(by)
                    .filter_map(|event| event.json["event"].as_str().map(str::to_owned))
                    .filter(|name| name.starts_with("wait"))
                    .collect();
                let wrong = (names != ["waiting", "wait_ended"])
                    .then(|| format!("waiting, wait_ended expected, got {names:?}"));
                self.note(scenario, "trace", wrong.into_iter().collect(), Value::Null);
            }
        }
        orphans.forget();
        trace.forget();
        self.watchers = Some((orphans, trace));
    }
}

/// One line a scene, and what was wrong.
impl fmt::Display for Theatre {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>5} {:>6}", "SCENE", "RUNS", "WRONG")?;
        for scenario in &self.scenes {
            let runs = self.runs.get(scenario.name).copied().unwrap_or(0);
            let wrong = self.wrong.iter().filter(|wrong| wrong.scene == scenario.name);
            writeln!(f, "{:<44} {runs:>5} {:>6}", scenario.name, wrong.clone().count())?;
            let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
            for wrong in wrong {
                let faults = wrong.faults.iter().map(|fault| fault.split(": [").next().unwrap_or(fault));
                *kinds.entry(format!("{}: {}", wrong.who, faults.collect::<Vec<_>>().join("; "))).or_default() += 1;
            }
            for (kind, count) in kinds {
                writeln!(f, "    {count} x {kind}")?;
            }
        }
        Ok(())
    }
}

fn wait(scenario: &Scenario, copy: usize) -> String {
    format!("{}-{copy}", scenario.name.replace([' ', '/'], "-"))
}
