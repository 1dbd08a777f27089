//! One job of many like pieces, shared among the cores.

use std::{num::NonZero, thread};

/// Calls `make` for every number below `len`, and keeps the order. Every thread gets at least `worth_a_thread` of them,
/// so a small job stays where it is: starting a thread takes about as long as fifty microseconds of work.
///
/// # Panics
///
/// When `make` does.
pub fn in_portions<T: Send>(len: usize, worth_a_thread: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let portion = len.div_ceil(cores).max(worth_a_thread);
    if len <= portion {
        return (0..len).map(make).collect();
    }
    let mut made: Vec<Option<T>> = (0..len).map(|_| None).collect();
    thread::scope(|scope| {
        let make = &make;
        for (places, from) in made.chunks_mut(portion).zip((0..len).step_by(portion)) {
            scope.spawn(move || places.iter_mut().zip(from..).for_each(|(place, i)| *place = Some(make(i))));
        }
    });
    #[allow(clippy::filter_map_identity, reason = "flatten() would copy them, this stays in place")]
    made.into_iter().filter_map(|made| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_kept_whatever_the_portions() {
        for (len, worth) in [(0, 1), (1, 1), (1000, 1), (1000, 7), (1000, 5000)] {
            let expect: Vec<usize> = (0..len).map(|i| i * i).collect();
            assert_eq!(in_portions(len, worth, |i| i * i), expect, "{len} by {worth}");
        }
    }
}
