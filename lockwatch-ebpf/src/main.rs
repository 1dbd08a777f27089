//! The BPF programs of lockwatch.
//!
//! `maps` has the tables, `kernel` reads the kernel's structs, `locks`, `waits` and `tasks` are the probes, `probes` ties
//! each of them to its tracepoint, `notes` remembers who took which lock, `tally` counts, and `trace` knows what goes to the ring when somebody traces. `walk`
//! and `fds` show what was there before anybody watched; `hidden`, with `queues` and `rings`, who keeps a file open
//! without a descriptor (`keepers` tells of it), and `names` what such a file is called.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod fds;
mod hidden;
mod keepers;
mod kernel;
mod locks;
mod maps;
mod names;
mod notes;
mod probes;
mod queues;
mod rings;
mod sockets;
mod tally;
mod tasks;
mod trace;
mod waits;
mod walk;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The kernel lends its GPL-only helpers (probe reads, the ring, d_path) to GPL-compatible programs alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
