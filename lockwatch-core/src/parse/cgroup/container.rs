//! Where container engines put their groups. An id counts only whole, and only in a place that is theirs.

use crate::{process::Runtime, text::Text};

/// Prefixes of an id in a group's name, with or without `.scope`; the longer before the shorter. `conmon` is an
/// engine's watchman beside the container, and ends with it.
const PREFIXES: [(&[u8], Runtime); 10] = [
    (b"docker-", Runtime::Docker),
    (b"cri-containerd-", Runtime::Containerd),
    (b"nerdctl-", Runtime::Containerd),
    (b"crio-conmon-", Runtime::CriO),
    (b"crio-", Runtime::CriO),
    (b"libpod-conmon-", Runtime::Podman),
    // Quadlets and crun's delegated groups (cgroups=split).
    (b"libpod-payload-", Runtime::Podman),
    (b"libpod-container-", Runtime::Podman),
    (b"libpod-", Runtime::Podman),
    (b"lxc.payload.", Runtime::Lxc),
];

/// The innermost container: its id, and who runs it. The engine behind a bare id below `kubepods` is not known.
pub(super) fn container(components: &[&[u8]]) -> Option<(Text, Option<Runtime>)> {
    components.iter().enumerate().rev().find_map(|(at, name)| {
        by_prefix(name)
            .or_else(|| by_cri_path(name))
            .or_else(|| nspawn(name))
            .or_else(|| by_place(&components[..at], name))
    })
}

/// `docker-ID.scope` of systemd's driver, `crio-ID` of the cgroupfs driver, `lxc.payload.NAME` since LXC 4.
fn by_prefix(name: &[u8]) -> Option<(Text, Option<Runtime>)> {
    let stem = name.strip_suffix(b".scope").unwrap_or(name);
    let (id, runtime) = PREFIXES.iter().find_map(|(prefix, runtime)| Some((stem.strip_prefix(*prefix)?, *runtime)))?;
    let whole = match runtime {
        // LXC's containers are known by the names that their owners give them.
        Runtime::Lxc => stem == name && !id.is_empty(),
        _ => is_id(id),
    };
    whole.then(|| (Text::new(id), Some(runtime)))
}

/// `kubepods-burstable-podUID.slice:cri-containerd:ID`: systemd's triple, taken for a path by a runc of the cgroupfs
/// driver.
fn by_cri_path(name: &[u8]) -> Option<(Text, Option<Runtime>)> {
    let mut parts = name.split(|b| *b == b':');
    let (slice, engine, id) = (parts.next()?, parts.next()?, parts.next()?);
    let runtime = match engine {
        b"docker" => Runtime::Docker,
        b"cri-containerd" => Runtime::Containerd,
        b"crio" => Runtime::CriO,
        b"libpod" => Runtime::Podman,
        _ => return None,
    };
    let whole = parts.next().is_none() && slice.ends_with(b".slice") && is_id(id);
    whole.then(|| (Text::new(id), Some(runtime)))
}

/// `systemd-nspawn@NAME.service`; the unit's name has the machine's name escaped.
fn nspawn(name: &[u8]) -> Option<(Text, Option<Runtime>)> {
    let instance = name.strip_prefix(b"systemd-nspawn@")?.strip_suffix(b".service")?;
    let machine = unit_unescaped(instance).filter(|machine| !machine.is_empty())?;
    Some((Text::new(machine), Some(Runtime::Nspawn)))
}

/// Bare ids: `/docker/ID`, `/kubepods/burstable/podUID/ID`, `/ecs/TASK/ID`; and `/lxc/NAME`.
fn by_place(above: &[&[u8]], name: &[u8]) -> Option<(Text, Option<Runtime>)> {
    match above {
        [b"lxc"] => Some((Text::new(name), Some(Runtime::Lxc))),
        _ if !is_id(name) => None,
        [.., b"docker"] => Some((Text::new(name), Some(Runtime::Docker))),
        [b"ecs", _] => Some((Text::new(name), None)),
        [.., last] if pod_of(last).is_some() && pod(above).is_some() => Some((Text::new(name), None)),
        _ => None,
    }
}

/// The UID of the innermost Kubernetes pod.
pub(super) fn pod(components: &[&[u8]]) -> Option<Text> {
    let below_kubepods = |at: usize| components[..at].iter().any(|c| c.ends_with(b"kubepods"));
    components.iter().enumerate().rev().find_map(|(at, name)| match pod_of(name) {
        // `pod…` alone is a name that anybody may use.
        Some(uid) if !name.starts_with(b"pod") || below_kubepods(at) => Some(uid),
        _ => None,
    })
}

/// `pod3b9e2f8c-…` of the cgroupfs driver, `kubepods-burstable-pod3b9e2f8c_….slice` of systemd's (kubelet's
/// pkg/kubelet/cm: a dash separates slices there, so those of the UID become underscores).
fn pod_of(name: &[u8]) -> Option<Text> {
    if let Some(uid) = name.strip_prefix(b"pod") {
        return is_uid(uid, b'-').then(|| Text::new(uid));
    }
    let name = name.split(|b| *b == b':').next().unwrap_or(name);
    let at = name.windows(9).position(|w| w == b"kubepods-").filter(|at| *at == 0 || name[at - 1] == b'-')?;
    let class = name.strip_suffix(b".slice")?.get(at + b"kubepods-".len()..)?;
    let class = class.strip_prefix(b"burstable-").or_else(|| class.strip_prefix(b"besteffort-")).unwrap_or(class);
    let uid = class.strip_prefix(b"pod").filter(|uid| is_uid(uid, b'_'))?;
    let dashed: Vec<u8> = uid.iter().map(|b| if *b == b'_' { b'-' } else { *b }).collect();
    Some(Text::new(dashed))
}

/// A pod's UID: an RFC 4122 one, or for static pods the 32 digits of a hash of their file.
fn is_uid(uid: &[u8], dash: u8) -> bool {
    match uid.len() {
        32 => uid.iter().all(is_hex),
        36 => uid.iter().enumerate().all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { *b == dash } else { is_hex(b) }),
        _ => false,
    }
}

fn is_id(id: &[u8]) -> bool {
    id.len() == 64 && id.iter().all(is_hex)
}

fn is_hex(b: &u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'f')
}

/// systemd.unit(5), "String escaping": `\x2d` for any byte, a dash for a slash. A machine's name has no slash.
fn unit_unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'-' => return None,
            b'\\' => {
                let [b'x', high, low, tail @ ..] = rest else { return None };
                let digits = [*high, *low];
                out.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = tail;
            }
            byte => out.push(*byte),
        }
    }
    Some(out)
}
