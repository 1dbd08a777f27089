//! Unix sockets as the kernel has them.

use crate::kernel::{Kernel, Probed, at, has, peek};

/// The file system of sockets (include/uapi/linux/magic.h).
pub const SOCKFS_MAGIC: u64 = 0x534F_434B;

const AF_UNIX: u16 = 1;

/// Whether a message has arrived at this socket.
#[inline(always)]
pub fn has_messages(file: u64) -> bool {
    queue_of(file).is_some_and(|(_, queue)| {
        let first = peek(queue + at!(skb_next) as u64);
        first != queue && first != 0
    })
}

/// The `struct sock` of a unix socket, and the head of its queue.
#[inline(always)]
pub fn queue_of(file: u64) -> Option<(u64, u64)> {
    if !has!(f_private, socket_sk, sk_family, sk_state, sk_queue, skb_next, skb_prev, skb_sk, skb_cb)
        || !has!(unix_fp, scm_count, scm_fp)
    {
        return None;
    }
    let socket = peek(peek(file + at!(f_private) as u64) + at!(socket_sk) as u64);
    if socket == 0 || Probed::load::<u16>(socket as *const u8, at!(sk_family)) != AF_UNIX {
        return None;
    }
    Some((socket, socket + at!(sk_queue) as u64))
}
