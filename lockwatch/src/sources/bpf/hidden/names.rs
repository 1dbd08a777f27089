//! What files without a descriptor are called.

use anyhow::{Context, Result};
use aya::{
    Ebpf,
    maps::{Array, MapData, RingBuf},
    programs::{RawTracePoint, TestRun},
};
use lockwatch_common::{NameRecord, Wire};
use lockwatch_core::text::Text;

/// How many files are asked for at most: each is one system call.
const MOST: usize = 256;

/// Asks for the path of each of these open files, by address. It is what the kernel would print, ` (deleted)` behind a
/// name that is gone; one that could not be followed to the root is left out.
///
/// `named` is the map of the program, which is taken and loaded with the first call.
pub fn of(
    named: &mut Option<Array<MapData, u64>>,
    ebpf: &mut Ebpf,
    ring: &mut RingBuf<MapData>,
    files: impl Iterator<Item = u64>,
) -> Result<Vec<(u64, Text)>> {
    load(named, ebpf)?;
    let (Some(named), program) = (named, program(ebpf)?) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for file in files.take(MOST) {
        named.set(0, file, 0)?;
        program.test_run(Default::default())?;
        let mut steps = Vec::new();
        while let Some(item) = ring.next() {
            steps.extend(NameRecord::read(&item));
        }
        found.extend(path(&steps).map(|path| (file, path)));
    }
    Ok(found)
}

/// Loads the program, once, and takes its map.
pub fn load(named: &mut Option<Array<MapData, u64>>, ebpf: &mut Ebpf) -> Result<()> {
    if named.is_none() {
        let map = ebpf.take_map("NAMED").context("map NAMED")?;
        program(ebpf)?.load()?;
        *named = Some(Array::try_from(map)?);
    }
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> Result<&mut RawTracePoint> {
    Ok(ebpf.program_mut("names").context("program names")?.try_into()?)
}

/// From the names on the way up to a path. The last has to be empty: the root.
fn path(steps: &[NameRecord]) -> Option<Text> {
    let (root, names) = steps.split_last()?;
    let name = |record: &NameRecord| record.name.iter().copied().take_while(|b| *b != 0).collect::<Vec<u8>>();
    if !name(root).is_empty() || names.is_empty() {
        return None;
    }
    let mut path: Vec<u8> = names.iter().rev().flat_map(|record| [b"/".to_vec(), name(record)].concat()).collect();
    if names[0].unhashed != 0 {
        path.extend(b" (deleted)");
    }
    Some(Text::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_whole_or_none() {
        let record = |text: &str, unhashed| {
            let mut name = [0; 256];
            name[..text.len()].copy_from_slice(text.as_bytes());
            NameRecord { unhashed, name, pad: 0 }
        };
        let check = |names: &[(&str, u32)], expect: Option<&str>| {
            let steps: Vec<_> = names.iter().map(|(text, unhashed)| record(text, *unhashed)).collect();
            assert_eq!(path(&steps), expect.map(Text::from), "{names:?}");
        };
        check(&[], None);
        check(&[("", 0)], None);
        check(&[("lock", 0), ("run", 0), ("", 0)], Some("/run/lock"));
        check(&[("lock", 0), ("run", 0)], None);
        check(&[("lock", 1), ("run", 0), ("", 0)], Some("/run/lock (deleted)"));
    }
}
