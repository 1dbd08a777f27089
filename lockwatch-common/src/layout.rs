//! Where the fields of the kernel's structs are, on the kernel that runs.

use crate::Wire;

macro_rules! layout {
    ($($(#[$doc:meta])* $field:ident: $type:literal $path:literal $(| $old:literal)*;)*) => {
        /// Byte offsets of the kernel's fields, resolved from BTF at load time and handed to the BPF programs as a
        /// read-only global: Rust BPF has no CO-RE. A field that this kernel lacks is [`Layout::MISSING`].
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout { $($(#[$doc])* pub $field: u32,)* }

        impl Layout {
            /// What stands for a field that the kernel does not have.
            pub const MISSING: u32 = u32::MAX;

            /// Nothing is known yet.
            pub const UNRESOLVED: Layout = Layout { $($field: Self::MISSING,)* };

            /// Asks `offset(struct, path)` for every field; later paths are the field's names on other kernels, and the
            /// empty path is the struct's size.
            pub fn resolve(mut offset: impl FnMut(&str, &str) -> Option<u32>) -> Self {
                Self { $($field: offset($type, $path)$(.or_else(|| offset($type, $old)))*.unwrap_or(Self::MISSING),)* }
            }

            /// The names of fields that are missing.
            pub fn missing(&self) -> impl Iterator<Item = &'static str> + use<> {
                [$((stringify!($field), self.$field),)*].into_iter().filter(|(_, o)| *o == Self::MISSING).map(|(n, _)| n)
            }
        }

        // SAFETY: nothing but u32 fields.
        unsafe impl Wire for Layout {}
    };
}

layout! {
    // struct file_lock was split in 6.9: the common part became file_lock_core `c`, its fields flc_*.
    /// The request that blocks this one.
    fl_blocker: "file_lock" "c.flc_blocker" | "fl_blocker";
    /// The node in the per-CPU list of granted locks.
    fl_link: "file_lock" "c.flc_link" | "fl_link";
    /// The node in the inode's list.
    fl_list: "file_lock" "c.flc_list" | "fl_list";
    /// Head of those that wait for it.
    fl_blocked_requests: "file_lock" "c.flc_blocked_requests" | "fl_blocked_requests";
    /// The node in the blocker's list.
    fl_blocked_member: "file_lock" "c.flc_blocked_member" | "fl_blocked_member";
    /// The owner key.
    fl_owner: "file_lock" "c.flc_owner" | "fl_owner";
    /// FL_* bits.
    fl_flags: "file_lock" "c.flc_flags" | "fl_flags";
    /// Read, write or unlock.
    fl_type: "file_lock" "c.flc_type" | "fl_type";
    /// The acquirer's number.
    fl_pid: "file_lock" "c.flc_pid" | "fl_pid";
    /// Where the waiting thread sleeps.
    fl_wait_head: "file_lock" "c.flc_wait.head" | "fl_wait.head";
    /// The open file description.
    fl_file: "file_lock" "c.flc_file" | "fl_file";
    /// First byte.
    fl_start: "file_lock" "fl_start";
    /// Last byte.
    fl_end: "file_lock" "fl_end";
    /// Bytes of the whole struct.
    fl_size: "file_lock" "";
    /// When a lease that must go is taken away, in jiffies; 0 for never.
    lease_break_time: "file_lease" "fl_break_time";
    /// When a lease that must become a read lease does, in jiffies; 0 for never.
    lease_downgrade_time: "file_lease" "fl_downgrade_time";
    /// Superblock.
    i_sb: "inode" "i_sb";
    /// Inode number.
    i_ino: "inode" "i_ino";
    /// The inode's locks.
    i_flctx: "inode" "i_flctx";
    /// The superblock's device.
    s_dev: "super_block" "s_dev";
    /// The inode of an open file.
    f_inode: "file" "f_inode";
    /// O_* flags.
    f_flags: "file" "f_flags";
    /// The credentials that it was opened with.
    f_cred: "file" "f_cred";
    /// The path; `__f_path` where the plain name is a read-only view of it.
    f_path: "file" "f_path" | "__f_path";
    /// flock locks of an inode.
    ctx_flock: "file_lock_context" "flc_flock";
    /// POSIX and OFD locks of an inode.
    ctx_posix: "file_lock_context" "flc_posix";
    /// Leases of an inode.
    ctx_lease: "file_lock_context" "flc_lease";
    /// The file table of a thread.
    task_files: "task_struct" "files";
    /// The thread group's leader.
    task_group_leader: "task_struct" "group_leader";
    /// Thread group id: what user space calls the PID.
    task_tgid: "task_struct" "tgid";
    /// Thread id.
    task_pid: "task_struct" "pid";
    /// Start, in nanoseconds since boot.
    task_start: "task_struct" "start_boottime" | "real_start_time";
    /// The parent.
    task_real_parent: "task_struct" "real_parent";
    /// Command name.
    task_comm: "task_struct" "comm";
    /// Address space.
    task_mm: "task_struct" "mm";
    /// Signals, shared by the group.
    task_signal: "task_struct" "signal";
    /// Exit code of this thread.
    task_exit_code: "task_struct" "exit_code";
    /// Credentials as others see them.
    task_real_cred: "task_struct" "real_cred";
    /// Credentials that it acts with.
    task_cred: "task_struct" "cred";
    /// When it last got a CPU (CONFIG_SCHED_INFO).
    task_last_arrival: "task_struct" "sched_info.last_arrival";
    /// Real user id.
    cred_uid: "cred" "uid";
    /// Living threads of the group.
    signal_live: "signal_struct" "live";
    /// Exit code of the group.
    signal_group_exit_code: "signal_struct" "group_exit_code";
    /// Why a signal was sent: SI_USER, SI_KERNEL, ….
    siginfo_code: "kernel_siginfo" "si_code";
    /// What a signal does: SIG_DFL (0), SIG_IGN (1) or a handler.
    sa_handler: "k_sigaction" "sa.sa_handler";
    /// SA_* flags of a signal's handler.
    sa_flags: "k_sigaction" "sa.sa_flags";
    /// The table proper.
    files_fdt: "files_struct" "fdt";
    /// The array of files.
    fdt_fd: "fdtable" "fd";
    /// The bitmap of close-on-exec.
    fdt_close_on_exec: "fdtable" "close_on_exec";
    /// The executable.
    mm_exe_file: "mm_struct" "exe_file";
    /// The sleeper of a wait queue entry.
    wqe_private: "wait_queue_entry" "private";
    /// Its node in the queue.
    wqe_entry: "wait_queue_entry" "entry";
    // From here on: what the search for hidden holders needs. Without these the rest still works.
    /// Magic number of the file system.
    s_magic: "super_block" "s_magic";
    /// What an open file is to its owner: a socket, a ring.
    f_private: "file" "private_data";
    /// The name it was opened by; `__f_path` as above.
    f_dentry: "file" "f_path.dentry" | "__f_path.dentry";
    /// That name's text.
    d_name: "dentry" "d_name.name" | "__d_name.name";
    /// The mount it was opened through; `__f_path` as above.
    f_mount: "file" "f_path.mnt" | "__f_path.mnt";
    /// The directory that a name is in.
    d_parent: "dentry" "d_parent";
    /// Null for a name that is gone.
    d_pprev: "dentry" "d_hash.pprev";
    /// What a name stands for.
    d_inode: "dentry" "d_inode";
    /// DCACHE_* bits.
    d_flags: "dentry" "d_flags";
    /// What a mount has for its root.
    mount_root: "vfsmount" "mnt_root";
    /// A mount's public half.
    mount_mnt: "mount" "mnt";
    /// The mount that it stands on.
    mount_parent: "mount" "mnt_parent";
    /// Where on that.
    mount_point: "mount" "mnt_mountpoint";
    /// The file that is mapped.
    vm_file: "vm_area_struct" "vm_file";
    /// First address of a mapping.
    vm_start: "vm_area_struct" "vm_start";
    /// The address behind its last.
    vm_end: "vm_area_struct" "vm_end";
    /// VM_* bits.
    vm_flags: "vm_area_struct" "vm_flags";
    /// The protocol's half of a socket.
    socket_sk: "socket" "sk";
    /// Address family.
    sk_family: "sock" "__sk_common.skc_family";
    /// Connection state.
    sk_state: "sock" "__sk_common.skc_state";
    /// Messages that have arrived: a ring that begins with a head of its own.
    sk_queue: "sock" "sk_receive_queue";
    /// The next message.
    skb_next: "sk_buff" "next";
    /// The message before.
    skb_prev: "sk_buff" "prev";
    /// Whose message it is; in a listener's queue, the socket that waits to be accepted.
    skb_sk: "sk_buff" "sk";
    /// The protocol's own bytes of a message.
    skb_cb: "sk_buff" "cb";
    /// In them, the files that travel with it.
    unix_fp: "unix_skb_parms" "fp";
    /// How many.
    scm_count: "scm_fp_list" "count";
    /// The files.
    scm_fp: "scm_fp_list" "fp";
    /// Bytes of an io_uring's struct; a kernel built without io_uring has none.
    ring_size: "io_ring_ctx" "";
    /// How many slots an io_uring has for registered files; `nr_user_files` before 6.13.
    ring_slots: "io_ring_ctx" "file_table.data.nr" | "nr_user_files";
    /// The slots, each a pointer to a node (since 6.13).
    ring_nodes: "io_ring_ctx" "file_table.data.nodes";
    /// The file of a node, with flags in its low bits.
    node_file: "io_rsrc_node" "file_ptr";
    /// The slots, each a file with flags in its low bits (5.15 to 6.12).
    ring_files: "io_ring_ctx" "file_table.files";
    /// Where in such a slot.
    fixed_file: "io_fixed_file" "file_ptr";
}

/// Where the fields of the classic tracepoints' record are: `filelock_lock` (include/trace/events/filelock.h). They
/// moved in 7.2, so they come from tracefs `format`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceLayout {
    /// Inode number.
    pub i_ino: u32,
    /// The kernel's device number.
    pub s_dev: u32,
    /// Owner key.
    pub owner: u32,
    /// FL_* bits.
    pub flags: u32,
    /// Read, write or unlock.
    pub ty: u32,
    /// First byte.
    pub start: u32,
    /// Last byte.
    pub end: u32,
    /// The outcome.
    pub ret: u32,
}

impl TraceLayout {
    /// Nothing is known yet.
    pub const UNRESOLVED: TraceLayout =
        TraceLayout { i_ino: 0, s_dev: 0, owner: 0, flags: 0, ty: 0, start: 0, end: 0, ret: 0 };
}

// SAFETY: nothing but u32 fields.
unsafe impl Wire for TraceLayout {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_names_are_asked_for_when_the_newer_are_missing() {
        let layout = Layout::resolve(|ty, path| (ty == "file_lock" && path == "fl_owner").then_some(72));
        assert_eq!(layout.fl_owner, 72);
        assert_eq!(layout.i_ino, Layout::MISSING);
        assert!(layout.missing().any(|n| n == "i_ino"));
        assert!(layout.missing().all(|n| n != "fl_owner"));
    }
}
