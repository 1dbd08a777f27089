//! lockwatch-config(5): the manual page of the configuration, made from its tables of keys.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use lockwatch_config::manual::{Entry, Part, parts};

/// What the page is asked for by.
pub const NAME: &str = "config.toml";

const DESCRIPTION: &[&str] = &[
    "Later layers win: what holds anyway; the file, then its drop-ins by name; for [agent] only, environment variables; flags \
     of lockwatch agent. What several files say of control.protect adds up, and so do policies.",
    "The files must be root's, and nobody else may be able to write to them or to a directory above them (sticky ones like \
     /tmp excepted): else nothing is cleared, and the agent does not start. An unknown key or variable is an error, and then \
     nothing of the new configuration holds.",
    "The agent reads everything anew at SIGHUP (systemctl reload lockwatch) and takes all of it or nothing; the metric \
     lockwatch_config_last_reload_successful tells which.",
    "Lengths of time are written like 500ms, 90s, 1m30s; patterns have * for any run of characters, slashes too.",
];

const EXAMPLES: &[(&str, &str)] = &[
    ("lockwatch config check", "all that is wrong, by file and line"),
    ("lockwatch config show --origin", "what holds, and which file, variable or flag says so"),
    ("systemctl reload lockwatch", "have the agent read it anew"),
];

/// The page.
pub fn page() -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", ["LOCKWATCH-CONFIG", "5", "", "", "lockwatch manual"]);
    section(&mut roff, "NAME", &[]);
    roff.text([roman("lockwatch-config - configuration of lockwatch")]);
    section(&mut roff, "SYNOPSIS", &[]);
    roff.text([italic(lockwatch_config::FILE)]);
    roff.control("br", []);
    roff.text([italic("/etc/lockwatch/config.d/*.toml")]);
    section(&mut roff, "DESCRIPTION", DESCRIPTION);
    for Part { title, words, entries } in parts() {
        section(&mut roff, title, &[words]);
        for entry in &entries {
            roff.control("TP", []).text(head(entry)).text(body(entry));
        }
    }
    section(&mut roff, "EXAMPLES", &[]);
    for (line, what) in EXAMPLES {
        roff.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
    section(&mut roff, "SEE ALSO", &[]);
    let seen = ["lockwatch", "lockwatch-agent", "lockwatch-config", "lockwatch-control"];
    roff.text(
        seen.iter()
            .flat_map(|name| [bold(*name), roman(if *name == seen[3] { "(1)" } else { "(1), " })])
            .collect::<Vec<_>>(),
    );
    roff
}

fn section(roff: &mut Roff, title: &str, paragraphs: &[&str]) {
    roff.control("SH", [title]);
    for (n, words) in paragraphs.iter().enumerate() {
        if n > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(words.replace('`', ""))]);
    }
}

fn head(Entry { name, usual, .. }: &Entry) -> Vec<Inline> {
    let mut head = vec![bold(*name)];
    head.extend(usual.as_ref().map(|value| roman(format!(" = {value}"))));
    head
}

fn body(Entry { about, variable, .. }: &Entry) -> Vec<Inline> {
    let variable = variable.as_ref().map(|name| format!(" (variable {name})")).unwrap_or_default();
    vec![roman(format!("{}.{variable}", about.replace('`', "")))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let text = page().to_roff();
        for entry in parts().iter().flat_map(|part| &part.entries) {
            let name = entry.name.replace('-', "\\-");
            assert!(text.contains(&format!("\n.TP\n\\fB{name}\\fR")), "{name} in {text}");
        }
        for section in
            ["NAME", "SYNOPSIS", "DESCRIPTION", "[control]", "[agent]", "[[policy]]", "EXAMPLES", "\"SEE ALSO\""]
        {
            assert!(text.contains(&format!(".SH {section}\n")), "{section} in {text}");
        }
    }
}
