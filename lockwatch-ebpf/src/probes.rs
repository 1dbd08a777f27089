//! Which handler hangs on which tracepoint, in each of the ways that a kernel may allow: tp_btf (typed, cheapest), raw
//! tracepoint, and for lack of both the classic one, whose record has its layout from tracefs.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_probe_read_kernel,
    macros::{btf_tracepoint, raw_tracepoint, tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext, TracePointContext},
};
use lockwatch_common::{LockKey, TraceLayout, fl};

use crate::{
    kernel::{Kernel, Probed, Typed, at},
    locks::{self, Request},
    tally::Tally,
    tasks,
    waits::{self, Action},
};

/// A tracepoint's arguments.
trait Arguments: EbpfContext {
    fn pointer(&self, n: usize) -> *const u8;
    fn int(&self, n: usize) -> i32;
}

/// Both kinds of context give their arguments in the same way, but aya has no trait for it.
macro_rules! arguments {
    ($($context:ty),*) => {$(
        impl Arguments for $context {
            #[inline(always)]
            fn pointer(&self, n: usize) -> *const u8 {
                self.arg(n)
            }
            #[inline(always)]
            fn int(&self, n: usize) -> i32 {
                self.arg(n)
            }
        }
    )*};
}
arguments!(BtfTracePointContext, RawTracePointContext);

/// Both programs of one tracepoint.
macro_rules! probe {
    ($point:literal, $typed:ident, $raw:ident, $handler:ident) => {
        #[btf_tracepoint(function = $point)]
        pub fn $typed(ctx: BtfTracePointContext) -> i32 {
            $handler::<Typed, _>(&ctx);
            0
        }

        #[raw_tracepoint(tracepoint = $point)]
        pub fn $raw(ctx: RawTracePointContext) -> i32 {
            $handler::<Probed, _>(&ctx);
            0
        }
    };
}

probe!("flock_lock_inode", flock_typed, flock_raw, lock);
probe!("posix_lock_inode", posix_typed, posix_raw, lock);
probe!("fcntl_setlk", setlk_typed, setlk_raw, setlk);
probe!("generic_add_lease", lease_typed, lease_raw, lease_added);
probe!("generic_delete_lease", unlease_typed, unlease_raw, lease_deleted);
probe!("break_lease_block", breaks_typed, breaks_raw, lease_blocks);
probe!("break_lease_unblock", broken_typed, broken_raw, lease_unblocks);
probe!("sched_process_exit", exit_typed, exit_raw, exit);
probe!("sched_process_fork", fork_typed, fork_raw, fork);
probe!("sched_process_exec", exec_typed, exec_raw, exec);
probe!("signal_deliver", deliver_typed, deliver_raw, deliver);
probe!("signal_generate", signal_typed, signal_raw, signal);
probe!("mark_victim", victim_typed, victim_raw, victim);

/// The request in (inode, file_lock, …): the verifier wants the null checks.
#[inline(always)]
fn request<K: Kernel>(ctx: &impl Arguments) -> Option<Request> {
    let (inode, lock) = (ctx.pointer(0), ctx.pointer(1));
    if inode.is_null() || lock.is_null() { None } else { Some(Request::read::<K>(inode, lock)) }
}

#[inline(always)]
fn lock<K: Kernel, C: Arguments>(ctx: &C) {
    if let Some(mut request) = request::<K>(ctx) {
        locks::on_lock::<K, C>(ctx, &mut request, ctx.int(2));
    }
}

#[inline(always)]
fn setlk<K: Kernel, C: Arguments>(ctx: &C) {
    if let Some(mut request) = request::<K>(ctx) {
        locks::on_fcntl::<K>(&mut request, ctx.int(2));
    }
}

#[inline(always)]
fn lease_added<K: Kernel, C: Arguments>(ctx: &C) {
    if let Some(request) = request::<K>(ctx) {
        locks::on_lease_added::<K, C>(ctx, &request);
    }
}

#[inline(always)]
fn lease_deleted<K: Kernel, C: Arguments>(ctx: &C) {
    if let Some(mut request) = request::<K>(ctx) {
        locks::on_lease_deleted::<K>(&mut request);
    }
}

#[inline(always)]
fn lease_blocks<K: Kernel, C: Arguments>(ctx: &C) {
    if let Some(request) = request::<K>(ctx) {
        locks::on_lease_wait::<K>(&request);
    }
}

#[inline(always)]
fn lease_unblocks<K: Kernel, C: Arguments>(_ctx: &C) {
    if let Some(tally) = Tally::here() {
        waits::end_running_wait::<K>(tally);
    }
}

#[inline(always)]
fn exit<K: Kernel, C: EbpfContext>(ctx: &C) {
    let Some(tally) = Tally::here() else { return };
    waits::end_running_wait::<K>(tally);
    tasks::on_exit::<K, C>(ctx, tally);
}

#[inline(always)]
fn fork<K: Kernel, C: Arguments>(ctx: &C) {
    tasks::on_fork::<K, C>(ctx, ctx.pointer(0), ctx.pointer(1));
}

#[inline(always)]
fn exec<K: Kernel, C: Arguments>(_ctx: &C) {
    tasks::on_exec::<K>();
}

#[inline(always)]
fn deliver<K: Kernel, C: Arguments>(ctx: &C) {
    let action = ctx.pointer(2);
    waits::on_signal::<K>(|| Action {
        handler: Probed::load(action, at!(sa_handler)),
        flags: Probed::load(action, at!(sa_flags)),
    });
}

#[inline(always)]
fn signal<K: Kernel, C: Arguments>(ctx: &C) {
    tasks::on_signal_sent::<K, C>(ctx, ctx.int(0) as u32, ctx.pointer(1) as u64, ctx.pointer(2), ctx.int(4));
}

/// PID_MAX_LIMIT (include/linux/threads.h): no pointer is as small.
const MOST_PIDS: u64 = 1 << 22;

/// The argument was the thread's number up to 6.7, and is its task since (include/trace/events/oom.h).
#[inline(always)]
fn victim<K: Kernel, C: Arguments>(ctx: &C) {
    let argument = ctx.pointer(0);
    // Through memory, so that the verifier takes it for a number, whatever type it has here.
    let number: u64 = Probed::load((&raw const argument).cast(), 0);
    let tid = match number {
        0..=MOST_PIDS => number as u32,
        task => Probed::load(task as *const u8, at!(task_pid)),
    };
    tasks::on_victim(tid);
}

/// Offsets in the classic record, set at load.
#[unsafe(no_mangle)]
static TRACE_LAYOUT: TraceLayout = TraceLayout::UNRESOLVED;

/// A field of the classic record.
macro_rules! field {
    ($ctx:expr, $field:ident, $type:ty) => {{
        // SAFETY: a static, and a checked read of the record.
        unsafe {
            let offset = core::ptr::read_volatile(core::ptr::addr_of!(TRACE_LAYOUT.$field)) as usize;
            bpf_probe_read_kernel($ctx.as_ptr().cast::<u8>().add(offset).cast::<$type>()).unwrap_or(0)
        }
    }};
}

#[inline(always)]
fn classic(ctx: &TracePointContext) {
    let flags = field!(ctx, flags, u32);
    let mut request = Request {
        lock: LockKey {
            inode: field!(ctx, i_ino, u64),
            owner: field!(ctx, owner, u64),
            device: field!(ctx, s_dev, u32),
            kind: fl::kind(flags),
        },
        start: field!(ctx, start, u64),
        end: field!(ctx, end, u64),
        ty: field!(ctx, ty, u8) as u32,
        flags,
        inode: core::ptr::null(),
    };
    locks::on_lock::<Probed, _>(ctx, &mut request, field!(ctx, ret, u32) as i32);
}

#[tracepoint(category = "filelock", name = "flock_lock_inode")]
pub fn flock_classic(ctx: TracePointContext) -> u32 {
    classic(&ctx);
    0
}

#[tracepoint(category = "filelock", name = "posix_lock_inode")]
pub fn posix_classic(ctx: TracePointContext) -> u32 {
    classic(&ctx);
    0
}

#[tracepoint(category = "sched", name = "sched_process_exit")]
pub fn exit_classic(ctx: TracePointContext) -> u32 {
    exit::<Probed, _>(&ctx);
    0
}

#[tracepoint(category = "sched", name = "sched_process_exec")]
pub fn exec_classic(_ctx: TracePointContext) -> u32 {
    tasks::on_exec::<Probed>();
    0
}

#[tracepoint(category = "signal", name = "signal_deliver")]
pub fn deliver_classic(ctx: TracePointContext) -> u32 {
    // sig, errno, code, sa_handler, sa_flags: include/trace/events/signal.h, 4.20 to 6.18.
    let word = |offset: usize| -> u64 {
        // SAFETY: a checked read of the record.
        unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u8>().add(offset).cast()) }.unwrap_or(0)
    };
    waits::on_signal::<Probed>(|| Action { handler: word(24), flags: word(32) });
    0
}

/// The record's first field is the thread's number, on every kernel (include/trace/events/oom.h, 4.14 to 6.18).
#[tracepoint(category = "oom", name = "mark_victim")]
pub fn victim_classic(ctx: TracePointContext) -> u32 {
    // SAFETY: a checked read of the record.
    let tid = unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u8>().add(8).cast::<u32>()) };
    tasks::on_victim(tid.unwrap_or(0));
    0
}
