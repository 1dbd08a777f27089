//! How much room the kernel-side tables have.

/// Fixed for as long as the programs are loaded: memory that is given beforehand cannot run out later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Notes of held locks: who took them and when.
    pub held: u32,
    /// Blocked requests.
    pub waits: u32,
    /// Processes that took locks, and their offspring.
    pub processes: u32,
    /// Processes of whose death a watcher wants to hear, whatever they hold.
    pub watched: u32,
    /// Bytes of the ring of news. Made a power of two of at least a page (bpf(2) BPF_MAP_TYPE_RINGBUF).
    pub ring_bytes: u32,
    /// How many lock operations of one control group are told in a second while an agent traces.
    pub traced_per_second: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            held: 1 << 17,
            waits: 1 << 13,
            processes: 1 << 14,
            watched: 1 << 14,
            ring_bytes: 1 << 20,
            traced_per_second: 10_000,
        }
    }
}

impl Sizes {
    /// How many of the notes of held locks have a slot of their own: a power of two, or none in a small table.
    pub fn slots(&self) -> u32 {
        match self.held / 16 {
            0..64 => 0,
            many => 1 << many.ilog2().min(13),
        }
    }

    /// The ring's size as the kernel takes it.
    pub fn ring(&self) -> u32 {
        self.ring_bytes.clamp(1 << 12, 1 << 30).next_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_a_power_of_two() {
        let check = |ring_bytes, expect| assert_eq!(Sizes { ring_bytes, ..Sizes::default() }.ring(), expect);
        check(0, 4096);
        check(4097, 8192);
        check(1 << 20, 1 << 20);
        check(u32::MAX, 1 << 30);
    }

    #[test]
    fn slots_are_a_small_part_of_a_large_table() {
        let check = |held, expect| assert_eq!(Sizes { held, ..Sizes::default() }.slots(), expect, "{held}");
        check(1, 0);
        check(1023, 0);
        check(1024, 64);
        check(2047, 64);
        check(Sizes::default().held, 1 << 13);
        check(u32::MAX, 1 << 13);
    }
}
