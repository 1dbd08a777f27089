//! Numbers that look random and can be had again.

/// xorshift64 (Marsaglia, 2003): any sequence will do that is not the neighbour's.
pub(crate) struct Dice(u64);

impl Dice {
    /// One process's, of those that belong together by their seed.
    pub(crate) fn new(seed: u64, serial: u32) -> Self {
        let mut dice = Self((seed ^ u64::from(serial)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Neighbours begin alike.
        for _ in 0..8 {
            dice.below(2);
        }
        dice
    }

    /// A number below the limit.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
