//! Reading the kernel's structs at offsets that user space took from BTF.

use core::ptr::{addr_of, read_volatile};

use aya_ebpf::{
    bindings::task_struct,
    helpers::{
        bpf_get_current_task, bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_ktime_get_boot_ns},
    },
};
use lockwatch_common::{Beat, Layout, Switch, mode};

/// Offsets of this kernel's fields, set at load.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout::UNRESOLVED;

/// `lockwatch_common::mode` bits, set at load.
#[unsafe(no_mangle)]
static MODE: u32 = 0;

/// How many slots there are for notes of locks: a power of two, or none; set at load.
#[unsafe(no_mangle)]
static SLOT_COUNT: u32 = 0;

/// How our own locks are known, set at load.
#[unsafe(no_mangle)]
static BEAT: Beat = Beat { inode: 0, device: 0, pid: 0 };

/// What user space may change while we run.
#[unsafe(no_mangle)]
static mut SWITCH: Switch = Switch { trace_per_second: 0 };

/// Reads one offset of [`LAYOUT`]. The map behind it is frozen, so the verifier knows the value as a constant, which
/// it needs to know for typed pointers.
macro_rules! at {
    ($field:ident) => {
        $crate::kernel::offset(core::mem::offset_of!(lockwatch_common::Layout, $field))
    };
}
pub(crate) use at;

/// Whether the kernel has these fields. The verifier follows only the branch that the answer leads to.
macro_rules! has {
    ($($field:ident),+) => {
        $($crate::kernel::at!($field) != lockwatch_common::Layout::MISSING as usize)&&+
    };
}
pub(crate) use has;

#[inline(always)]
pub fn offset(field: usize) -> usize {
    // SAFETY: a u32 field of a static.
    unsafe { read_volatile(addr_of!(LAYOUT).byte_add(field).cast::<u32>()) as usize }
}

/// Whether lock operations go to the ring, not only waits.
#[inline(always)]
pub fn tracing() -> bool {
    mode() & mode::TRACE != 0 || mode() & mode::SWITCHED != 0 && traced_per_second() != 0
}

/// How many of a control group's each second, if there is a limit.
#[inline(always)]
pub fn traced_per_second() -> u64 {
    // SAFETY: a static; user space writes the whole word.
    unsafe { read_volatile(addr_of!(SWITCH.trace_per_second)) }
}

/// Whether there may be a limit to it.
#[inline(always)]
pub fn may_throttle() -> bool {
    mode() & mode::SWITCHED != 0
}

/// Whether durations are counted.
#[inline(always)]
pub fn timing() -> bool {
    mode() & mode::TIME != 0
}

/// Whether some file system may keep locks to itself.
#[inline(always)]
pub fn remote_locks() -> bool {
    mode() & mode::REMOTE != 0
}

/// How many slots there are for notes of locks.
#[inline(always)]
pub fn slots() -> u32 {
    // SAFETY: a static.
    unsafe { read_volatile(addr_of!(SLOT_COUNT)) }
}

/// Our own locks, and our own process.
#[inline(always)]
pub fn beat() -> Beat {
    // SAFETY: a static.
    unsafe { read_volatile(addr_of!(BEAT)) }
}

#[inline(always)]
fn mode() -> u32 {
    // SAFETY: a static.
    unsafe { read_volatile(addr_of!(MODE)) }
}

/// Nanoseconds since boot, suspend included (helper since 5.8): the clock of `start_boottime`.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// How a program may follow the kernel's pointers.
pub trait Kernel {
    /// The running thread's `struct task_struct`.
    fn current() -> *const u8;

    /// The value at `base + offset`; zeroes if it cannot be read.
    fn load<T: Copy>(base: *const u8, offset: usize) -> T;
}

/// tp_btf programs: the verifier knows the types behind the pointers and turns loads into guarded direct ones.
pub struct Typed;

impl Kernel for Typed {
    #[inline(always)]
    fn current() -> *const u8 {
        // SAFETY: a helper without arguments (since 5.11).
        unsafe { bpf_get_current_task_btf() as *const task_struct as *const u8 }
    }

    #[inline(always)]
    fn load<T: Copy>(base: *const u8, offset: usize) -> T {
        // SAFETY: the verifier admits only loads within a known kernel type, and the kernel handles their faults.
        unsafe { read_volatile(base.add(offset) as *const T) }
    }
}

/// Everything else: pointers are numbers, and each read is a helper call.
pub struct Probed;

impl Kernel for Probed {
    #[inline(always)]
    fn current() -> *const u8 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_current_task() as *const u8 }
    }

    #[inline(always)]
    fn load<T: Copy>(base: *const u8, offset: usize) -> T {
        // SAFETY: the helper checks the address; all types read here are integers and pointers, for which zeroes are
        // a value.
        unsafe { bpf_probe_read_kernel(base.wrapping_add(offset) as *const T).unwrap_or(core::mem::zeroed()) }
    }
}

/// The same, as a number: what a typed program loads from a `void *` is a pointer to the verifier, with which nobody may
/// reckon (kernel/bpf/btf.c btf_struct_walk, 6.18). After an exchange of bytes it is none; this one exchanges nothing.
#[inline(always)]
pub fn number(mut value: u64) -> u64 {
    // SAFETY: one instruction on a register.
    unsafe { core::arch::asm!("{0} = le64 {0}", inout(reg) value, options(pure, nomem, nostack)) }
    value
}

/// A u64 at an address.
#[inline(always)]
pub fn peek(address: u64) -> u64 {
    Probed::load(address as *const u8, 0)
}

/// A u32 at an address.
#[inline(always)]
pub fn peek32(address: u64) -> u32 {
    Probed::load(address as *const u8, 0)
}

/// Adds to a value that several CPUs count in. core has no atomics for BPF targets, the machine has.
///
/// # Safety
///
/// `value` must be a live map value.
#[inline(always)]
pub unsafe fn atomic_add(value: *mut i64, add: i64) {
    // SAFETY: one instruction on a live map value.
    unsafe { core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) add) }
}

/// Writes `new` over `old` if that is what is there, and says whether it was. Nothing is read or written across it
/// (BPF_CMPXCHG, since 5.12).
///
/// # Safety
///
/// `value` must be a live map value.
#[inline(always)]
pub unsafe fn compare_exchange(value: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: one instruction on a live map value.
    unsafe { core::arch::asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) value, in(reg) new, inout("r0") found) }
    found == old
}
