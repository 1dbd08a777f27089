//! The layout of classic tracepoint records, from tracefs `format` files.

use std::path::Path;

use anyhow::{Context, Result};
use lockwatch_common::TraceLayout;

/// Where tracefs may be mounted (Documentation/trace/ftrace.rst).
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where tracefs is mounted, if it is.
pub fn mount() -> Option<&'static Path> {
    MOUNTS.iter().map(Path::new).find(|path| path.join("events/filelock").is_dir())
}

/// Reads the layout of the `filelock_lock` class.
pub fn layout() -> Result<TraceLayout> {
    let root = mount().context("tracefs is not mounted at /sys/kernel/tracing")?;
    let path = root.join("events/filelock/flock_lock_inode/format");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} lacks a field", path.display()))
}

/// Lines such as `field:unsigned long i_ino; offset:16; size:8; signed:0;`, with tabs.
fn parse(text: &str) -> Option<TraceLayout> {
    // Before 6.9 the fields were called fl_*.
    let field = |names: &[&str]| {
        text.lines().find_map(|line| {
            let declaration = line.trim().strip_prefix("field:")?;
            let (declaration, rest) = declaration.split_once(';')?;
            let name = declaration.rsplit([' ', '*']).next()?;
            let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
            names.contains(&name).then(|| offset.parse().ok())?
        })
    };
    Some(TraceLayout {
        i_ino: field(&["i_ino"])?,
        s_dev: field(&["s_dev"])?,
        owner: field(&["owner", "fl_owner"])?,
        flags: field(&["flags", "fl_flags"])?,
        ty: field(&["type", "fl_type"])?,
        start: field(&["fl_start", "start"])?,
        end: field(&["fl_end", "end"])?,
        ret: field(&["ret"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_format_of_6_18() {
        let text = "name: flock_lock_inode\nID: 800\nformat:\n\
            \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
            \tfield:struct file_lock * fl;\toffset:8;\tsize:8;\tsigned:0;\n\
            \tfield:unsigned long i_ino;\toffset:16;\tsize:8;\tsigned:0;\n\
            \tfield:dev_t s_dev;\toffset:24;\tsize:4;\tsigned:0;\n\
            \tfield:fl_owner_t owner;\toffset:40;\tsize:8;\tsigned:0;\n\
            \tfield:unsigned int flags;\toffset:52;\tsize:4;\tsigned:0;\n\
            \tfield:unsigned char type;\toffset:56;\tsize:1;\tsigned:0;\n\
            \tfield:loff_t fl_start;\toffset:64;\tsize:8;\tsigned:1;\n\
            \tfield:loff_t fl_end;\toffset:72;\tsize:8;\tsigned:1;\n\
            \tfield:int ret;\toffset:80;\tsize:4;\tsigned:1;\n";
        let expect = TraceLayout { i_ino: 16, s_dev: 24, owner: 40, flags: 52, ty: 56, start: 64, end: 72, ret: 80 };
        assert_eq!(parse(text), Some(expect));
        assert_eq!(parse(&text.replace("ret", "out")), None);
    }
}
