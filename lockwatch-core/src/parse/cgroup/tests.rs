use proptest::prelude::*;

use super::*;
use crate::process::Runtime::{self, *};

const ID: &str = "4f1b0c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9";
const OTHER: &str = "aaaa0c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7bbbb";
const UID: &str = "3b9e2f8c-1d2e-4f50-8a9b-0c1d2e3f4a5b";

/// `ID`, `OTHER`, `UID` and `U_ID` (the UID with underscores) stand for whole ones.
fn fill(text: &str) -> String {
    let underscored = UID.replace('-', "_");
    text.replace("U_ID", &underscored).replace("UID", UID).replace("OTHER", OTHER).replace("ID", ID)
}

/// unit, user unit, slice
type Systemd<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

#[track_caller]
fn check_systemd(cgroup: &str, expect: Systemd) {
    let found = parse(fill(cgroup).as_bytes());
    let text = |text: Option<&str>| text.map(|text| Text::from(&*fill(text)));
    assert_eq!(
        (found.unit, found.user_unit, found.slice),
        (text(expect.0), text(expect.1), text(expect.2)),
        "{cgroup}"
    );
}

#[track_caller]
fn check_container(cgroup: &str, container: Option<&str>, runtime: Option<Runtime>, pod: Option<&str>) {
    let found = parse(fill(cgroup).as_bytes());
    let text = |text: Option<&str>| text.map(|text| Text::from(&*fill(text)));
    assert_eq!((found.container, found.runtime, found.pod), (text(container), runtime, text(pod)), "{cgroup}");
}

#[test]
fn units_of_the_system() {
    let check = |cgroup: &str, unit: Option<&str>, slice: Option<&str>| check_systemd(cgroup, (unit, None, slice));
    check("0::/\n", None, None);
    check("0::/init.scope\n", Some("init.scope"), None);
    check("0::/system.slice/locksmith.service\n", Some("locksmith.service"), Some("system.slice"));
    check("0::/system.slice/a.service/worker.service\n", Some("a.service"), Some("system.slice"));
    check("0::/system.slice/a.service (deleted)\n", Some("a.service"), Some("system.slice"));
    check(
        "0::/system.slice/system-getty.slice/getty@tty1.service\n",
        Some("getty@tty1.service"),
        Some("system-getty.slice"),
    );
    check("0::/system.slice/system-getty.slice\n", None, Some("system-getty.slice"));
    check("0::/system.slice/dbus.socket\n", Some("dbus.socket"), Some("system.slice"));
    check(
        "0::/system.slice/dev-disk-by\\x2dlabel-swap.swap\n",
        Some("dev-disk-by\\x2dlabel-swap.swap"),
        Some("system.slice"),
    );
    check("0::/system.slice/_cgroup.service\n", Some("cgroup.service"), Some("system.slice"));
    check("0::/a.service/b.slice/c.service\n", Some("a.service"), None);
}

#[test]
fn units_of_users() {
    check_systemd(
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n",
        (Some("user@1000.service"), Some("foo.service"), Some("user-1000.slice")),
    );
    check_systemd(
        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/app-x@1.service/sub\n",
        (Some("user@1000.service"), Some("app-x@1.service"), Some("user-1000.slice")),
    );
    check_systemd(
        "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
        (Some("user@1000.service"), Some("init.scope"), Some("user-1000.slice")),
    );
    check_systemd(
        "0::/user.slice/user-1000.slice/user@1000.service\n",
        (Some("user@1000.service"), None, Some("user-1000.slice")),
    );
    check_systemd(
        "0::/user.slice/user-1000.slice/session-2.scope\n",
        (Some("session-2.scope"), None, Some("user-1000.slice")),
    );
    check_systemd("0::/user.slice/user@x.service/a.service\n", (Some("user@x.service"), None, Some("user.slice")));
}

#[test]
fn units_come_from_systemds_own_hierarchy() {
    let check = |cgroup: &str, unit: Option<Text>| assert_eq!(parse(fill(cgroup).as_bytes()).unit, unit, "{cgroup}");
    check("5:memory:/x.service\n1:name=systemd:/system.slice/b.service\n0::/\n", Some("b.service".into()));
    check("1:name=systemd:/\n0::/system.slice/b.service\n", Some("b.service".into()));
    check("5:memory:/x.service\n", None);
    check("5:name=elogind:/7\n4:cpu,cpuacct:/x.service\n", None);
}

#[test]
fn what_is_no_units_name_is_no_unit() {
    for path in [
        "/docker/ID/system.slice/nginx.service",
        "/system.slice/getty@.service",
        "/system.slice/@x.service",
        "/system.slice/a b.service",
        "/system.slice/.service",
        "/system.slice/service",
        "/system.slice/a.conf",
        "/lxc.payload.web/system.slice/nginx.service",
        "/../../system.slice/a.service",
        "/..",
    ] {
        assert_eq!(of_path(fill(path).as_bytes()).unit, None, "{path}");
    }
    let long = format!("/system.slice/{}.service", "x".repeat(250));
    assert_eq!(of_path(long.as_bytes()).unit, None);
}

#[test]
fn docker() {
    let check = |cgroup: &str| check_container(cgroup, Some("ID"), Some(Docker), None);
    check("0::/system.slice/docker-ID.scope\n");
    check("0::/system.slice/docker-ID.scope/init\n");
    check("0::/docker/ID\n");
    check("4:pids:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/containerd.service\n");
    check("1:name=systemd:/docker/ID/system.slice/nginx.service\n");
    check("0::/docker/OTHER/docker/ID\n");
    check("0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope\n");
    check("0::/ecstasks.slice/ecstasks-0123456789abcdef0123456789abcdef.slice/docker-ID.scope\n");
    check("0::/../docker-ID.scope (deleted)\n");
    check_systemd("0::/system.slice/docker-ID.scope/init\n", (Some("docker-ID.scope"), None, Some("system.slice")));
    check_container("9:cpu:/ecs/0123456789abcdef0123456789abcdef/ID\n", Some("ID"), None, None);
}

#[test]
fn podman() {
    let check = |cgroup: &str| check_container(cgroup, Some("ID"), Some(Podman), None);
    check("0::/machine.slice/libpod-ID.scope\n");
    check("0::/machine.slice/libpod-ID.scope/container\n");
    check("0::/machine.slice/libpod-conmon-ID.scope\n");
    check("0::/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope/container\n");
    check("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n");
    check("0::/system.slice/web.service/libpod-payload-ID\n");
    check("0::/libpod_parent/libpod-ID\n");
}

#[test]
fn kubernetes() {
    let check = |cgroup: &str, runtime| check_container(cgroup, Some("ID"), runtime, Some("UID"));
    let slice = "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice";
    check(&format!("{slice}/cri-containerd-ID.scope\n"), Some(Containerd));
    check(&format!("{slice}/crio-ID.scope/container\n"), Some(CriO));
    check(&format!("{slice}/crio-conmon-ID.scope\n"), Some(CriO));
    check(&format!("{slice}/docker-ID.scope\n"), Some(Docker));
    check("0::/kubepods.slice/kubepods-podU_ID.slice/cri-containerd-ID.scope\n", Some(Containerd));
    check("11:memory:/kubepods/burstable/podUID/ID\n0::/\n", None);
    check("11:memory:/kubepods/podUID/ID\n", None);
    check("11:memory:/kubepods/besteffort/podUID/crio-ID\n", Some(CriO));
    check(
        "9:cpu:/system.slice/containerd.service/kubepods-besteffort-podU_ID.slice:cri-containerd:ID\n",
        Some(Containerd),
    );
    // kind: a node is a container, and its kubelet has a tree of its own.
    check(
        "0::/docker/OTHER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
         kubelet-kubepods-burstable-podU_ID.slice/cri-containerd-ID.scope\n",
        Some(Containerd),
    );
    check("0::/system.slice/docker-OTHER.scope/kubelet/kubepods/burstable/podUID/ID\n", None);
    // A static pod, and its sandbox's group.
    let hash = "0123456789abcdef0123456789abcdef";
    check_container(&format!("0::/kubepods/burstable/pod{hash}/ID\n"), Some("ID"), None, Some(hash));
    check_container("0::/kubepods/burstable/podUID\n", None, None, Some("UID"));
    check_systemd(
        &format!("{slice}/cri-containerd-ID.scope\n"),
        (Some("cri-containerd-ID.scope"), None, Some("kubepods-burstable-podU_ID.slice")),
    );
}

#[test]
fn machines() {
    let nspawn = |cgroup: &str, name: &str| check_container(cgroup, Some(name), Some(Nspawn), None);
    nspawn("0::/machine.slice/systemd-nspawn@web.service/payload/init.scope\n", "web");
    nspawn("0::/machine.slice/systemd-nspawn@my\\x2dweb.service/supervisor\n", "my-web");
    let lxc = |cgroup: &str, name: &str| check_container(cgroup, Some(name), Some(Lxc), None);
    lxc("0::/lxc.payload.web/init.scope\n", "web");
    lxc("8:pids:/lxc/web\n", "web");
    lxc("8:pids:/lxc/web/system.slice/nginx.service\n", "web");
    check_container("0::/lxc.monitor.web\n", None, None, None);
    check_container("0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator\n", None, None, None);
    check_container("0::/machine.slice/systemd-nspawn@a-b.service\n", None, None, None);
    check_container("0::/machine.slice/systemd-nspawn@a\\x2.service\n", None, None, None);
}

#[test]
fn never_a_guess() {
    let (short, upper) = (&ID[..12], ID.to_uppercase());
    for path in [
        "/somewhere/ID",
        "/other-ID.scope",
        "/../ID",
        "/docker/buildkit/ID",
        "/docker-IDx.scope",
        "/docker-xID.scope",
        "/xdocker-ID.scope",
        "/docker-ID.slice",
        "/docker/IDID",
        "/podUID/ID/x",
        "/kubepods/burstable/pod3b9e2f8c/ID",
        "/kubepods-besteffort-podU_ID.slice:cri-containerd:ID:x",
        "/kubepods-besteffort-podU_ID.slice:strange:ID",
        &format!("/docker/{short}"),
        &format!("/docker-{short}.scope"),
        &format!("/docker/{upper}"),
        "/user.slice/lxc/web",
        "/process_api/2ff7919a6042c8686d624d2639c72636",
    ] {
        let origin = of_path(fill(path).as_bytes());
        assert_eq!((origin.container, origin.runtime), (None, None), "{path}");
    }
    for path in [
        "/podUID",
        "/kubepods/podU_ID",
        "/kubepods/pod3b9e2f8c-1d2e-4f50-8a9b-0c1d2e3f4a5",
        "/kubepods-burstable-podUID.slice",
        "/xkubepods-podU_ID.slice",
        "/kubepods-other-podU_ID.slice",
        "/kubepods-podU_ID.scope",
    ] {
        assert_eq!(of_path(fill(path).as_bytes()).pod, None, "{path}");
    }
}

#[test]
fn junk_is_nobody() {
    for text in ["", "junk\n\n1:2\n", "0:\n", "::\n", "0::relative\n"] {
        assert_eq!(parse(text.as_bytes()), Origin::default(), "{text}");
    }
}

proptest! {
    #[test]
    fn never_panics_and_never_cuts(path in "[/a-z0-9:.@\\\\_-]{0,90}") {
        let origin = of_path(path.as_bytes());
        for text in [&origin.unit, &origin.slice, &origin.pod].into_iter().flatten() {
            prop_assert!(path.replace('_', "-").contains(&text.lossy().replace('_', "-")));
        }
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
    }
}
