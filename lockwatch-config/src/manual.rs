//! docs/configuration.md, made from the tables of keys, so that it cannot lie.

use std::{env, fs, path::Path};

use lockwatch_core::policy::Policy;

use crate::{Config, agent, control, key::Key, policies};

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

/// A table of one part's keys.
fn table<T>(title: &str, words: &str, keys: &[Key<T>], usual: &T) -> String {
    let mut text = format!("\n## {title}\n\n{words}\n\n| key | default | what it says |\n|---|---|---|\n");
    for key in keys {
        let name = key.name.trim_start_matches("control.").trim_start_matches("agent.");
        let value = (key.get)(usual).map_or("not set".to_owned(), |value| format!("`{value}`"));
        let variable = key.variable().map(|name| format!(" (`{name}`)")).unwrap_or_default();
        text += &format!("| `{name}` | {value} | {}{variable} |\n", key.about.replace('|', "\\|"));
    }
    text
}

fn markdown() -> String {
    let usual = Config::default();
    let policy = Policy::default();
    BEGIN.to_owned()
        + &table("`[control]`", "What may be cleared, by whom, and how.", control::KEYS, &usual)
        + &table("`[agent]`", "How `lockwatch agent` runs.", agent::KEYS, &usual)
        + &table(
            "`[[policy]]`",
            "Standing orders, one table each: [policies.md](policies.md). `match` must say something, and all that it says \
             must fit.",
            policies::KEYS,
            &policy,
        )
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
