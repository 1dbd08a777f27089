//! What a human must type on a distribution that setup does not install on.

/// A family of distributions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Distro {
    Debian,
    Fedora,
    Arch,
    Suse,
    Alpine,
    #[default]
    Other,
}

impl Distro {
    /// From the text of `/etc/os-release` (os-release(5)): `ID`, else the relatives in `ID_LIKE`, nearest first.
    pub(super) fn from_os_release(text: &str) -> Self {
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        let (id, like) = (value("ID"), value("ID_LIKE"));
        let known = |id: &str| match id {
            "debian" | "ubuntu" => Some(Distro::Debian),
            "fedora" | "rhel" | "centos" => Some(Distro::Fedora),
            "arch" => Some(Distro::Arch),
            "suse" | "opensuse" => Some(Distro::Suse),
            "alpine" => Some(Distro::Alpine),
            id if id.starts_with("opensuse-") => Some(Distro::Suse),
            _ => None,
        };
        [id.as_str()].into_iter().chain(like.split(' ')).find_map(known).unwrap_or_default()
    }

    /// How to get a compiler for BPF.
    pub(super) fn rust(self) -> String {
        let rustup = match self {
            Distro::Debian | Distro::Alpine => "install rustup (https://rustup.rs)".to_owned(),
            Distro::Fedora => "as root: dnf install rustup; then: rustup-init".to_owned(),
            Distro::Arch => "as root: pacman -S --needed rustup".to_owned(),
            Distro::Suse => "as root: zypper install rustup".to_owned(),
            Distro::Other => "install rustup (https://rustup.rs, or your distribution's package)".to_owned(),
        };
        format!("{rustup}; then: rustup toolchain install nightly --profile minimal --component rust-src")
    }

    /// How to get what bpf-linker is built against.
    pub(super) fn llvm(self) -> String {
        let install = match self {
            // Its own archive may have an older LLVM only.
            Distro::Debian => {
                "as root: apt-get install llvm-22-dev libpolly-22-dev libzstd-dev zlib1g-dev g++ \
                 (older releases: from https://apt.llvm.org)"
            }
            Distro::Fedora => "as root: dnf install llvm-devel gcc-c++ libzstd-devel zlib-devel",
            Distro::Arch => "as root: pacman -S --needed llvm gcc zstd zlib",
            Distro::Suse => "as root: zypper install llvm22-devel gcc-c++ libzstd-devel zlib-devel",
            Distro::Alpine => "as root: apk add llvm22-dev g++ zstd-dev zlib-dev",
            Distro::Other => "install LLVM 22 with its headers, a C++ compiler, zstd and zlib with their headers",
        };
        format!("{install}; it must be LLVM 22; then again: cargo xtask setup")
    }

    /// How to get the programs that the tests use.
    pub(super) fn tools(self, packages: &[&str]) -> String {
        let install = match self {
            Distro::Debian => "as root: apt-get install",
            Distro::Fedora => "as root: dnf install",
            Distro::Arch => "as root: pacman -S --needed",
            Distro::Suse => "as root: zypper install",
            Distro::Alpine => "as root: apk add",
            Distro::Other => "install",
        };
        format!("{install} {}", packages.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_known_by_name_or_by_relatives() {
        let check = |text: &str, expect| assert_eq!(Distro::from_os_release(text), expect, "{text}");
        check("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n", Distro::Debian);
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distro::Debian);
        check("NAME=\"Fedora Linux\"\nID=fedora\n", Distro::Fedora);
        check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Distro::Fedora);
        check("ID=arch\n", Distro::Arch);
        check("ID=endeavouros\nID_LIKE='arch'\n", Distro::Arch);
        check("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Distro::Suse);
        check("ID=\"sles\"\nID_LIKE=\"suse\"\n", Distro::Suse);
        check("ID=alpine\nVERSION_ID=3.23.0\n", Distro::Alpine);
        check("ID=nixos\n", Distro::Other);
        check("", Distro::Other);
    }

    #[test]
    fn advice_can_be_typed() {
        let check = |distro: Distro, rust: &str, llvm: &str, tools: &str| {
            assert!(distro.rust().starts_with(rust), "{}", distro.rust());
            assert!(distro.llvm().starts_with(llvm), "{}", distro.llvm());
            assert_eq!(distro.tools(&["strace", "stress-ng"]), tools);
        };
        check(
            Distro::Fedora,
            "as root: dnf install rustup; then: rustup-init; then: rustup toolchain install nightly",
            "as root: dnf install llvm-devel gcc-c++",
            "as root: dnf install strace stress-ng",
        );
        check(Distro::Arch, "as root: pacman -S", "as root: pacman -S", "as root: pacman -S --needed strace stress-ng");
        check(Distro::Suse, "as root: zypper", "as root: zypper", "as root: zypper install strace stress-ng");
        check(Distro::Alpine, "install rustup", "as root: apk add", "as root: apk add strace stress-ng");
        check(Distro::Other, "install rustup", "install LLVM 22", "install strace stress-ng");
    }
}
