//! The messages that wait in a unix socket, and the files that travel with them (SCM_RIGHTS, unix(7)).
//!
//! A message hangs in its receiver's queue, and the files it carries in `struct scm_fp_list`, to which its `struct
//! unix_skb_parms` leads (include/net/af_unix.h, 6.18). A socket that connects to a listener is made at once, hangs in
//! the listener's queue until it is accepted, and can already receive (net/unix/af_unix.c unix_stream_connect, 6.18).
//!
//! Not followed: messages of a socket that is itself in flight or only registered with an io_uring (told of as a place
//! that was not looked into), a message whose sender still blocks in sendmsg(2) because the queue is full, and sockets
//! that hold each other in a circle, which the kernel's own collector frees (net/unix/garbage.c). A receiver that is
//! closed takes its messages, and the locks, with it.

use core::ffi::c_void;

use aya_ebpf::{helpers::generated::bpf_loop, macros::map, maps::Array};
use lockwatch_common::{counter, keeper};

use crate::{
    keepers::{Place, check},
    kernel::{Kernel, Probed, at, peek},
    sockets::queue_of,
    tally::count,
};

/// TCP_LISTEN (include/net/tcp_states.h): unix sockets use TCP's names.
const LISTENING: u8 = 10;
/// SCM_MAX_FD (include/net/scm.h).
const MOST_FILES: u32 = 253;
/// Messages and files of one socket that are looked at: more than a full backlog of full queues with the usual limits.
const BUDGET: u32 = 1 << 20;
/// How often a queue that changes underfoot is begun again.
const ATTEMPTS: u32 = 16;

/// Where the search of a socket stands. It is a map's value, not one on the stack: there the verifier would follow every
/// number that its counters can take.
#[derive(Clone, Copy)]
struct Walk {
    place: Place,
    /// The socket's own queue.
    top: u64,
    /// The queue that is walked: its own, or one of a socket that waits in it.
    head: u64,
    previous: u64,
    node: u64,
    /// The message that brought us down to a waiting socket; 0 in the socket's own queue.
    above: u64,
    /// The files of the message in hand; 0 if it has none.
    files: u64,
    file: u32,
    files_len: u32,
    /// Messages met in this queue.
    met: u32,
    attempts: u32,
    listening: bool,
    done: bool,
}

#[map]
static QUEUE: Array<Walk> = Array::with_max_entries(1, 0);

/// Looks through everything that has arrived at a socket.
#[inline(always)]
pub fn search(file: u64, place: &Place) {
    let Some((socket, top)) = queue_of(file) else { return };
    let first = peek(top + at!(skb_next) as u64);
    if first == top || first == 0 {
        return;
    }
    let listening = Probed::load::<u8>(socket as *const u8, at!(sk_state)) == LISTENING;
    let Some(walk) = QUEUE.get_ptr_mut(0) else { return };
    // SAFETY: an array's value; user space runs one search at a time.
    let walk = unsafe { &mut *walk };
    *walk = Walk {
        place: *place,
        top,
        head: top,
        previous: top,
        node: first,
        above: 0,
        files: 0,
        file: 0,
        files_len: 0,
        met: 0,
        attempts: 0,
        listening,
        done: false,
    };
    // SAFETY: the callback takes nothing.
    unsafe { bpf_loop(BUDGET, step as *mut c_void, core::ptr::null_mut(), 0) };
    if !walk.done {
        count(counter::SEARCH_CUT);
    }
}

unsafe extern "C" fn step(_index: u32, _context: *mut c_void) -> i64 {
    let Some(walk) = QUEUE.get_ptr_mut(0) else { return 1 };
    // SAFETY: as in `search`, which waits for us.
    let walk = unsafe { &mut *walk };
    if walk.files != 0 { visit_file(walk) } else { visit_message(walk) }
}

/// One file of the message in hand.
#[inline(always)]
fn visit_file(walk: &mut Walk) -> i64 {
    if walk.file >= walk.files_len || walk.file >= MOST_FILES {
        walk.files = 0;
        return 0;
    }
    let file = peek(walk.files + at!(scm_fp) as u64 + walk.file as u64 * 8);
    walk.file += 1;
    check(&walk.place, file, walk.met - 1, walk.files_len);
    0
}

/// The next message: into its files, or down to the socket that waits to be accepted.
#[inline(always)]
fn visit_message(walk: &mut Walk) -> i64 {
    let node = walk.node;
    if node == walk.head {
        if walk.above == 0 {
            walk.done = true;
            return 1;
        }
        walk.head = walk.top;
        walk.previous = walk.above;
        walk.node = peek(walk.above + at!(skb_next) as u64);
        walk.above = 0;
        walk.place.what = keeper::MESSAGE;
        return 0;
    }
    if node == 0 || peek(node + at!(skb_prev) as u64) != walk.previous {
        return begin_again(walk);
    }
    walk.previous = node;
    walk.node = peek(node + at!(skb_next) as u64);
    if walk.listening && walk.above == 0 {
        let waiting = peek(node + at!(skb_sk) as u64);
        if waiting != 0 {
            walk.above = node;
            walk.head = waiting + at!(sk_queue) as u64;
            walk.previous = walk.head;
            walk.node = peek(walk.head + at!(skb_next) as u64);
            walk.met = 0;
            walk.place.what = keeper::EMBRYO;
        }
        return 0;
    }
    walk.met += 1;
    walk.files = peek(node + at!(skb_cb) as u64 + at!(unix_fp) as u64);
    walk.file = 0;
    walk.files_len = Probed::load::<u16>(walk.files as *const u8, at!(scm_count)) as u32;
    0
}

/// A message was received while we stood on it: those before it are gone.
#[inline(always)]
fn begin_again(walk: &mut Walk) -> i64 {
    walk.attempts += 1;
    if walk.attempts > ATTEMPTS {
        return 1;
    }
    walk.head = walk.top;
    walk.previous = walk.top;
    walk.node = peek(walk.top + at!(skb_next) as u64);
    walk.above = 0;
    walk.met = 0;
    walk.place.what = keeper::MESSAGE;
    0
}
