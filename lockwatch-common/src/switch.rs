//! What user space tells the probes beside offsets.

use crate::wire::Wire;

/// What it may change while they run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switch {
    /// How many operations of one control group go to the ring each second; 0 for none of anybody's: nobody traces.
    pub trace_per_second: u64,
}

// SAFETY: one integer.
unsafe impl Wire for Switch {}

/// How the probes know our own locks: heartbeats, and the anchors of walks. They are counted and otherwise ignored.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The inode of the file that only we lock; 0 for none.
    pub inode: u64,
    /// Its device, as the kernel numbers it.
    pub device: u32,
    /// Our own number in the initial pid namespace.
    pub pid: u32,
}

// SAFETY: integers, and no padding.
unsafe impl Wire for Beat {}
