//! Hash tables whose keys are a few numbers: files, processes, owners of locks.
//!
//! A look at 100,000 locks asks them a million times. `std`'s own hash takes 20 to 50 ns for such a key, which is more
//! than all the rest of a question; this one takes a multiplication a number.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

/// A table of what belongs to each key.
pub type Map<K, V> = HashMap<K, V, Seed>;
/// A set of keys.
pub type Set<K> = HashSet<K, Seed>;

/// Where every hash of this process begins: at random, so that whoever chooses inode numbers (of a file system in user
/// space) cannot choose such as meet in one place.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Default for Seed {
    fn default() -> Self {
        static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        Self(*SEED)
    }
}

impl BuildHasher for Seed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// Multiplies each number into the state and folds the product, so that every bit of it counts above and below.
#[derive(Clone, Copy, Debug)]
pub struct Folding(u64);

impl Hasher for Folding {
    fn write_u64(&mut self, number: u64) {
        /// 2^64 divided by the golden ratio: bits without a pattern.
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ number) * FACTOR;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    /// Keys that differ in one number only differ by a multiple of the factor so far: one more round hides that.
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.write_u64(self.0 >> 32);
        last.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::{Device, FileId, Kind, OwnerKey};

    /// How many of so many keys meet in the fullest of 1024 places, by their lowest and by their highest bits.
    fn fullest<K: std::hash::Hash>(keys: impl Iterator<Item = K>) -> usize {
        let mut places = [[0; 1024]; 2];
        for key in keys {
            let hash = Seed::default().hash_one(key);
            places[0][(hash & 1023) as usize] += 1;
            places[1][(hash >> 54) as usize] += 1;
        }
        places.into_iter().flatten().max().unwrap()
    }

    #[test]
    fn keys_that_differ_in_little_are_spread() {
        let file = |inode| FileId { device: Device { major: 254, minor: 0 }, inode };
        let owned = |n: u64| (file(n / 7), Kind::Posix, OwnerKey(0xffff_8880_0000_0000 + 0x400 * n));
        // 64 in each place, if chance alone decides: then 110 are met once in a million tables.
        assert!(fullest(0..65_536_u32) < 110);
        assert!(fullest((0..65_536).map(file)) < 110);
        assert!(fullest((0..65_536).map(|n| file(n << 20))) < 110);
        assert!(fullest((0..65_536).map(owned)) < 110);
        assert!(fullest((0..65_536).map(|n| format!("/var/lib/app/{n}.lock"))) < 110);
    }
}
