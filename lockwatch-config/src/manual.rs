//! Every key there is, for the documentation: made from the tables, so that it cannot lie.

use lockwatch_core::policy::Policy;

use crate::{Config, agent, control, key::Key, policies};

/// One part of the configuration.
#[derive(Clone, Debug)]
pub struct Part {
    /// How its table begins: `[control]`.
    pub title: &'static str,
    /// What it is about, in a sentence or two.
    pub words: &'static str,
    /// Its keys.
    pub entries: Vec<Entry>,
}

/// One key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name within the part.
    pub name: &'static str,
    /// What holds if nobody says it; `None` if nothing does.
    pub usual: Option<String>,
    /// What it says.
    pub about: &'static str,
    /// The variable that says it too.
    pub variable: Option<String>,
}

/// All parts, in the order in which they are shown.
pub fn parts() -> [Part; 3] {
    let usual = Config::default();
    [
        Part {
            title: "[control]",
            words: "What may be cleared, by whom, and how.",
            entries: control::KEYS.iter().map(|key| entry("control.", key, &usual)).collect(),
        },
        Part {
            title: "[agent]",
            words: "How `lockwatch agent` runs.",
            entries: agent::KEYS.iter().map(|key| entry("agent.", key, &usual)).collect(),
        },
        Part {
            title: "[[policy]]",
            words: "Standing orders, one table each: docs/policies.md. `match` must say something, and all that it says \
                    must fit.",
            entries: policies::KEYS.iter().map(|key| entry("", key, &Policy::default())).collect(),
        },
    ]
}

fn entry<T>(table: &str, key: &Key<T>, usual: &T) -> Entry {
    Entry {
        name: key.name.strip_prefix(table).unwrap_or(key.name),
        usual: (key.get)(usual).map(|value| value.to_string()),
        about: key.about,
        variable: key.variable(),
    }
}

#[cfg(test)]
mod tests {
    //! docs/configuration.md.

    use std::{env, fmt::Write, fs, path::Path};

    use super::*;

    const BEGIN: &str = "# Configuration

Every key there is, made from the code (`UPDATE_DOCS=1 cargo test -p lockwatch-config manual`).

Later layers win:

1. what holds anyway;
2. `/etc/lockwatch/config.toml`, then `/etc/lockwatch/config.d/*.toml` by name. They must be root's, and nobody else may be
   able to write to them or to a directory above them (sticky ones like `/tmp` excepted): else nothing is cleared, and the
   agent does not start;
3. for `[agent]` only, environment variables;
4. flags of `lockwatch agent`.

What several files say of `control.protect` adds up, and so do policies. An unknown key or variable is an error, and then
nothing of the new configuration holds: `lockwatch config check` says all that is wrong, by file and line; `lockwatch config
show --origin` what holds, and who says so. The agent reads everything anew at SIGHUP (`systemctl reload lockwatch`)
and takes all of it or nothing; `lockwatch_config_last_reload_successful` tells which.

Lengths of time are written like `500ms`, `90s`, `1m30s`; patterns have `*` for any run of characters, slashes too.
";

    fn table(part: &Part) -> String {
        let Part { title, words, entries } = part;
        let words = words.replace("docs/policies.md", "[policies.md](policies.md)");
        let mut text = format!("\n## `{title}`\n\n{words}\n\n| key | default | what it says |\n|---|---|---|\n");
        for Entry { name, usual, about, variable } in entries {
            let usual = usual.as_ref().map_or("not set".to_owned(), |value| format!("`{value}`"));
            let variable = variable.as_ref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
            writeln!(text, "| `{name}` | {usual} | {}{variable} |", about.replace('|', "\\|")).unwrap();
        }
        text
    }

    fn markdown() -> String {
        BEGIN.to_owned() + &parts().iter().map(table).collect::<String>()
    }

    #[test]
    fn the_documentation_is_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        if env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, markdown()).unwrap();
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(there == markdown(), "docs/configuration.md is of another time: UPDATE_DOCS=1 writes it anew");
    }
}
