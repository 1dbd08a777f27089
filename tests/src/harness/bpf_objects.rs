//! The BPF programs, maps and links that a process has, and whether the kernel still has them.

use std::fs;

/// One of them, by the number that is its own until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfObject {
    /// A program.
    Program(u32),
    /// A map.
    Map(u32),
    /// What hangs a program on something.
    Link(u32),
}

/// Those that a process has descriptors of, as its fdinfo tells (kernel/bpf/syscall.c `bpf_prog_show_fdinfo` and its
/// like, since 4.13; links since 5.8).
///
/// # Panics
///
/// When they cannot be read.
pub fn bpf_objects(pid: u32) -> Vec<BpfObject> {
    let dir = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("read {dir}: {e}"));
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts.filter_map(|text| object(&text)).collect()
}

fn object(fdinfo: &str) -> Option<BpfObject> {
    let field = |name: &str| {
        let line = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().parse().ok()
    };
    // A link tells the number of its program, too.
    let link = field("link_id").map(BpfObject::Link);
    link.or_else(|| field("prog_id").map(BpfObject::Program)).or_else(|| field("map_id").map(BpfObject::Map))
}

impl BpfObject {
    /// Whether the kernel has it.
    ///
    /// # Panics
    ///
    /// When it does not say.
    pub fn exists(self) -> bool {
        // enum bpf_cmd of include/uapi/linux/bpf.h: BPF_*_GET_FD_BY_ID.
        let (command, id): (libc::c_int, u32) = match self {
            BpfObject::Program(id) => (13, id),
            BpfObject::Map(id) => (14, id),
            BpfObject::Link(id) => (30, id),
        };
        let mut attributes = [0_u32; 16];
        attributes[0] = id;
        // SAFETY: bpf(2) reads a union bpf_attr of the length that is given.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
        if fd < 0 {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "ask for {self:?}: {error}");
            return false;
        }
        // SAFETY: ours, and used by nobody else.
        unsafe { libc::close(i32::try_from(fd).unwrap_or(-1)) };
        true
    }
}
