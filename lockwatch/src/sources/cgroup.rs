//! Which systemd unit and which container a process belongs to, from the path of its control group.

use lockwatch_core::text::Text;

/// Unit and container from the text of `/proc/PID/cgroup` (cgroups(7)): `0::/path` with version 2,
/// `7:memory:/path` a line for each hierarchy with version 1.
///
/// systemd keeps its own tree in the hierarchy `name=systemd` or in version 2, so those are asked first; a container
/// may show in any of them.
pub fn parse(bytes: &[u8]) -> (Option<Text>, Option<Text>) {
    let mut paths: Vec<(bool, &[u8])> = bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut columns = line.splitn(3, |b| *b == b':');
            let (_, controllers, path) = (columns.next()?, columns.next()?, columns.next()?);
            // A group that was removed under its process.
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            Some((controllers.is_empty() || controllers == b"name=systemd", path))
        })
        .collect();
    paths.sort_by_key(|(systemd, _)| !systemd);
    let unit = paths.iter().filter(|(systemd, _)| *systemd).find_map(|(_, path)| unit(path));
    let container = paths.iter().find_map(|(_, path)| container(path));
    (unit.map(Text::new), container.map(Text::new))
}

/// The innermost component that is a unit with processes of its own; a slice has none.
fn unit(path: &[u8]) -> Option<&[u8]> {
    path.rsplit(|b| *b == b'/').find(|c| [&b".service"[..], b".scope", b".socket"].iter().any(|s| c.ends_with(s)))
}

/// The innermost whole container id: 64 hex digits in a place where a container engine is known to put it.
fn container(path: &[u8]) -> Option<&[u8]> {
    const SCOPES: [&[u8]; 4] = [b"docker-", b"cri-containerd-", b"crio-", b"libpod-"];
    let components: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    components.iter().enumerate().rev().find_map(|(at, name)| {
        let scope = name.strip_suffix(b".scope");
        let named = scope.and_then(|name| SCOPES.iter().find_map(|prefix| name.strip_prefix(*prefix)));
        let above = &components[..at];
        let bare = above.last() == Some(&&b"docker"[..]) || above.iter().any(|c| c.starts_with(b"kubepods"));
        named.or(bare.then_some(*name)).filter(|id| is_id(id))
    })
}

fn is_id(id: &[u8]) -> bool {
    id.len() == 64 && id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f1b0c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9";

    #[track_caller]
    fn check(cgroup: &str, unit: Option<&str>, container: Option<&str>) {
        let cgroup = cgroup.replace("ID", ID);
        let container = container.map(|c| c.replace("ID", ID));
        let expect = (unit.map(|u| Text::from(&*u.replace("ID", ID))), container.map(|c| Text::from(&*c)));
        assert_eq!(parse(cgroup.as_bytes()), expect, "{cgroup}");
    }

    #[test]
    fn finds_units() {
        check("0::/\n", None, None);
        check("0::/init.scope\n", Some("init.scope"), None);
        check("0::/system.slice/locksmith.service\n", Some("locksmith.service"), None);
        check("0::/system.slice/a.service/worker\n", Some("a.service"), None);
        check("0::/system.slice/a.service (deleted)\n", Some("a.service"), None);
        check("0::/user.slice/user-0.slice/user@0.service/app.slice/app-x.scope\n", Some("app-x.scope"), None);
        check("0::/system.slice/system-getty.slice\n", None, None);
        check("5:memory:/x.service\n1:name=systemd:/system.slice/b.service\n0::/\n", Some("b.service"), None);
        check("5:memory:/x.service\n", None, None);
    }

    #[test]
    fn finds_containers() {
        let unit = Some("docker-ID.scope");
        check("0::/system.slice/docker-ID.scope\n", unit, Some("ID"));
        check("0::/system.slice/docker-ID.scope/init\n", unit, Some("ID"));
        check("4:pids:/docker/ID\n1:name=systemd:/docker/ID\n", None, Some("ID"));
        check("9:memory:/kubepods/burstable/pod12-34/ID\n0::/\n", None, Some("ID"));
        check(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-pod12.slice/cri-containerd-ID.scope\n",
            Some("cri-containerd-ID.scope"),
            Some("ID"),
        );
        check("0::/machine.slice/libpod-ID.scope/container\n", Some("libpod-ID.scope"), Some("ID"));
        check("0::/kubepods.slice/crio-ID.scope\n", Some("crio-ID.scope"), Some("ID"));
    }

    #[test]
    fn never_guesses_a_container() {
        let short = &ID[..12];
        check(&format!("0::/docker/{short}\n"), None, None);
        check(&format!("0::/docker-{short}.scope\n"), Some(&format!("docker-{short}.scope")), None);
        check("0::/somewhere/ID\n", None, None);
        check("0::/other-ID.scope\n", Some("other-ID.scope"), None);
        check(&format!("0::/docker/{}\n", ID.to_uppercase()), None, None);
        check("junk\n\n1:2\n", None, None);
    }
}
