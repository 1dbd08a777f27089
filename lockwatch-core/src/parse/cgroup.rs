//! `/proc/PID/cgroup`: which systemd unit, container and pod a process belongs to.

mod container;
#[cfg(test)]
mod tests;

use crate::{process::Origin, text::Text};

/// Reads the file: `0::/path` with version 2, `7:memory:/path` a line for each hierarchy with version 1, both on a
/// hybrid host (cgroups(7)). What does not match exactly stays `None`; nothing is cut out of a longer name.
///
/// systemd keeps its tree in the hierarchy `name=systemd` or in version 2, so units come from there; a container may
/// show in any hierarchy.
pub fn parse(bytes: &[u8]) -> Origin {
    let mut paths: Vec<(bool, &[u8])> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut columns = line.splitn(3, |b| *b == b':');
            let (_, controllers, path) = (columns.next()?, columns.next()?, columns.next()?);
            Some((controllers.is_empty() || controllers == b"name=systemd", path))
        })
        .collect();
    paths.sort_by_key(|(systemd, _)| !systemd);
    let mut origin = Origin::default();
    for (systemd, path) in paths {
        let found = of_path(path);
        if systemd && origin.unit.is_none() && origin.slice.is_none() {
            (origin.unit, origin.user_unit, origin.slice) = (found.unit, found.user_unit, found.slice);
        }
        if origin.container.is_none() {
            (origin.container, origin.runtime) = (found.container, found.runtime);
        }
        origin.pod = origin.pod.or(found.pod);
    }
    origin
}

/// What one path in the tree of systemd says. A group that was removed under its process is marked ` (deleted)`
/// (proc_cgroup_show in kernel/cgroup/cgroup.c, 6.18); that text cannot be part of a unit's name.
///
/// From inside a cgroup namespace the groups outside of it are shown with leading `..` (cgroup_namespaces(7)): what
/// stands above them is hidden, so they name no unit. A container's own component is as exact there as anywhere.
pub fn of_path(path: &[u8]) -> Origin {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let components: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
    let mut origin = Origin::default();
    if let Some((id, runtime)) = container::container(&components) {
        (origin.container, origin.runtime) = (Some(id), runtime);
    }
    origin.pod = container::pod(&components);
    if components.contains(&&b".."[..]) {
        return origin;
    }
    let slices = components.iter().take_while(|c| is_slice(c)).count();
    origin.slice = slices.checked_sub(1).map(|last| Text::new(unescaped(components[last])));
    origin.unit = components.get(slices).and_then(|c| unit(c));
    // A user's own manager keeps a tree like the system's below its unit.
    let manager = components.get(slices).is_some_and(|c| is_user_manager(c));
    let below = components.get(slices + 1..).filter(|_| manager).unwrap_or_default();
    origin.user_unit = below.iter().find(|c| !is_slice(c)).and_then(|c| unit(c));
    origin
}

/// The first component below the slices is the unit, if it is one (cg_path_get_unit in systemd's
/// src/basic/cgroup-util.c, v257); what stands below is the unit's own business.
fn unit(component: &[u8]) -> Option<Text> {
    let name = unescaped(component);
    (is_unit_name(name) && !name.ends_with(b".slice")).then(|| Text::new(name))
}

/// systemd puts an underscore before names that the kernel might use itself (cg_escape, same file).
fn unescaped(component: &[u8]) -> &[u8] {
    component.strip_prefix(b"_").unwrap_or(component)
}

fn is_slice(component: &[u8]) -> bool {
    let name = unescaped(component);
    name.ends_with(b".slice") && is_unit_name(name)
}

fn is_user_manager(component: &[u8]) -> bool {
    let uid = component.strip_prefix(b"user@").and_then(|rest| rest.strip_suffix(b".service"));
    uid.is_some_and(|uid| !uid.is_empty() && uid.iter().all(u8::is_ascii_digit))
}

/// Whether systemd would call a unit so: at most 255 bytes, known characters, a known type, and no template
/// (unit_name_is_valid in src/basic/unit-name.c, v257).
fn is_unit_name(name: &[u8]) -> bool {
    const TYPES: [&[u8]; 11] = [
        b"service",
        b"scope",
        b"slice",
        b"socket",
        b"mount",
        b"swap",
        b"automount",
        b"target",
        b"device",
        b"timer",
        b"path",
    ];
    let Some(dot) = name.iter().rposition(|b| *b == b'.') else { return false };
    let (stem, kind) = (&name[..dot], &name[dot + 1..]);
    let known = |b: &u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(b);
    name.len() <= 255
        && TYPES.contains(&kind)
        && !stem.is_empty()
        && stem.iter().all(known)
        && stem[0] != b'@'
        && stem[stem.len() - 1] != b'@'
}
