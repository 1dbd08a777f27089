//! Ages without a witness: whether a living process is older than a dead one of which only the number is left.

use crate::time::StartTime;

/// What a living holder is, compared with the dead acquirer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It was born before the acquirer.
    Older,
    /// It was born after the acquirer.
    Younger,
    /// It was most likely born just before the acquirer: its number is one of the few ahead of the acquirer's. The
    /// opposite takes a round of the cycle and a coincidence of eight in `pid_max`.
    MostLikelyOlder,
    /// It cannot be said.
    Undecidable,
}

/// How near the number of a helper is to its parent's, such as flock(1)'s to its shell's.
const NEAR: u32 = 8;

/// Compares the living `holder` with a dead process that had the number `acquirer`; `births` are number and start of
/// every living process (the holder is added if it is missing).
///
/// Numbers are given away in ascending order; past `pid_max` they go on at 300 (kernel/pid.c `alloc_pid` over
/// `idr_alloc_cyclic`, 6.18). So the numbers of the living, sorted by birth, show where the acquirer fits: between two
/// that follow one another if its number lies between theirs, on the cycle. If all places where it fits are on one
/// side of the holder, that is the answer.
///
/// This assumes that
/// - between two consecutive births of the living the numbers went round less than once;
/// - after the last of them no more than `MOST_IN_A_LOOK` were given away. It is so if the reader of the births is
///   young itself, as a command is; an agent uses the births that it read when it started, for locks that are older
///   than itself;
/// - nobody wrote `ns_last_pid` and no clone3(2) chose a number (CRIU does both);
/// - `births` is complete. Where process 1 is missing it has holes (hidepid, or nobody read it), so nothing is said
///   but what a number in use tells: it was free before.
///
/// Two forks at once may get their start in the other order than their numbers (`copy_process` takes it later). That
/// looks like another round of the cycle: it makes an answer rarer, and can be wrong only about those two.
pub fn of_holder(births: &[(u32, StartTime)], holder: (u32, StartTime), acquirer: u32) -> Age {
    let order = by_birth(births, holder);
    let position = |pid: u32| order.iter().position(|&p| p == pid);
    let Some(at) = position(holder.0) else { return Age::Undecidable };

    // While a process lives nobody else gets its number: the dead one came before the living one of that number.
    let reused = position(acquirer).unwrap_or(usize::MAX);
    if reused <= at {
        return Age::Younger;
    }
    if order.first() != Some(&1) {
        return Age::Undecidable;
    }
    // Gap i is the one after the i-th birth. Nobody is born before process 1.
    let fits = |gap: usize| gap < reused && fits_between(order[gap], order.get(gap + 1).copied(), acquirer);
    match ((0..at).any(fits), (at..order.len()).any(fits)) {
        (true, false) => Age::Younger,
        (false, true) => Age::Older,
        (true, true) if fits(at) && acquirer > holder.0 && acquirer - holder.0 <= NEAR => Age::MostLikelyOlder,
        _ => Age::Undecidable,
    }
}

/// Compares a living `holder` with a dead `acquirer` whose start is known too. Within one tick the number decides, under
/// the assumptions of [`of_holder`].
pub fn of_two(holder: (u32, StartTime), acquirer: (u32, StartTime)) -> Age {
    let order = by_birth(&[acquirer], holder);
    match (order.as_slice(), holder.0 == acquirer.0) {
        (_, true) => Age::Undecidable,
        ([first, ..], false) if *first == holder.0 => Age::Older,
        _ => Age::Younger,
    }
}

/// Whether `pid` can have been given away after `before` and ahead of `after`, two consecutive births of the living.
fn fits_between(before: u32, after: Option<u32>, pid: u32) -> bool {
    match after {
        Some(after) if before < after => before < pid && pid < after,
        Some(after) => before < pid || (RESERVED_PIDS <= pid && pid < after),
        None => before < pid && pid - before <= MOST_IN_A_LOOK,
    }
}

/// Where numbers go on after `pid_max` (kernel/pid.c, 6.18).
const RESERVED_PIDS: u32 = 300;

/// Numbers in order of birth, the holder's among them.
fn by_birth(births: &[(u32, StartTime)], holder: (u32, StartTime)) -> Vec<u32> {
    let mut sorted: Vec<(StartTime, u32)> =
        births.iter().filter(|(pid, _)| *pid != holder.0).chain([&holder]).map(|&(pid, start)| (start, pid)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut order = Vec::with_capacity(sorted.len());
    for tick in sorted.chunk_by(|a, b| a.0 == b.0) {
        // Ascending, unless that makes a leap that no tick has time for: then the cycle ended inside this tick, and
        // what is above the leap came first.
        let leap = tick.windows(2).position(|pair| pair[1].1 - pair[0].1 > MOST_IN_A_TICK).map_or(0, |i| i + 1);
        order.extend(tick[leap..].iter().chain(&tick[..leap]).map(|(_, pid)| pid));
    }
    order
}

/// No more processes are born in a tick of 10 ms: half of the smallest usual `pid_max` (include/linux/threads.h
/// PID_MAX_DEFAULT, 6.18), so that of two ways round the cycle only one is possible.
const MOST_IN_A_TICK: u32 = 0x8000 / 2;

/// No more processes are born between the birth of who reads the births and its reading, some 100 ms: a kernel that
/// does nothing else makes a process in some 50 us, on each of a few processors.
const MOST_IN_A_LOOK: u32 = 0x8000 / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use Age::{MostLikelyOlder, Older, Undecidable, Younger};
    use proptest::prelude::*;

    /// Births as (number, tick), the holder's number, the acquirer's.
    fn check(births: &[(u32, u64)], holder: u32, acquirer: u32, expect: Age) {
        let births: Vec<_> = births.iter().map(|&(pid, tick)| (pid, StartTime(tick))).collect();
        let holder = *births.iter().find(|b| b.0 == holder).unwrap();
        assert_eq!(of_holder(&births, holder, acquirer), expect, "{births:?} {holder:?} {acquirer}");
        let others: Vec<_> = births.into_iter().rev().filter(|b| *b != holder).collect();
        assert_eq!(of_holder(&others, holder, acquirer), expect, "the holder is missing: {others:?}");
    }

    #[test]
    fn before_any_wrap_a_smaller_number_is_older() {
        let births = [(1, 0), (400, 10), (900, 20), (1000, 30)];
        check(&births, 900, 500, Younger);
        check(&births, 900, 950, Older);
        check(&births, 1000, 2000, Older);
        check(&births, 1000, 2, Younger);
        check(&births, 1, 17_384, Older);
        check(&births, 1, 17_385, Undecidable);
        check(&births, 900, 0, Undecidable);
    }

    #[test]
    fn after_a_wrap_a_number_may_fit_twice() {
        let births = [(1, 0), (5000, 10), (30_000, 20), (700, 30), (2000, 40)];
        // Between 1 and 5000, or between 700 and 2000.
        check(&births, 5000, 1000, Undecidable);
        check(&births, 700, 1000, Undecidable);
        // The next numbers after the holder's: who else should have got them?
        check(&births, 700, 701, MostLikelyOlder);
        check(&births, 700, 708, MostLikelyOlder);
        check(&births, 700, 709, Undecidable);
        check(&births, 1, 1000, Older);
        check(&births, 2000, 1000, Younger);
        // Between 5000 and 30000, or after 2000.
        check(&births, 30_000, 18_000, Undecidable);
        check(&births, 5000, 18_000, Older);
        // Between 30000 and the wrap: too far above 2000. Below 300 only in the first round.
        check(&births, 30_000, 31_000, Older);
        check(&births, 700, 31_000, Younger);
        check(&births, 5000, 299, Younger);
        check(&births, 5000, 300, Undecidable);
    }

    #[test]
    fn a_number_in_use_was_free_before() {
        let births = [(1, 0), (5000, 10), (30_000, 20), (700, 30), (2000, 40)];
        check(&births, 5000, 5000, Younger);
        check(&births, 700, 5000, Younger);
        // 2000 again: the dead one fits between 1 and 5000, and between 30000 and 700 it does not.
        check(&births, 30_000, 2000, Younger);
        check(&births, 1, 2000, Older);
        check(&[(1, 0), (5000, 10)], 1, 5000, Undecidable);
    }

    #[test]
    fn within_a_tick_the_number_decides() {
        check(&[(1, 0), (402, 7), (400, 7)], 402, 401, Younger);
        check(&[(1, 0), (402, 7), (400, 7)], 400, 401, Older);
    }

    #[test]
    fn two_known_starts_are_compared_by_tick_and_then_by_number() {
        let check = |holder: (u32, u64), acquirer: (u32, u64), expect: Age| {
            let found = of_two((holder.0, StartTime(holder.1)), (acquirer.0, StartTime(acquirer.1)));
            assert_eq!(found, expect, "{holder:?} {acquirer:?}");
        };
        check((900, 6), (400, 7), Older);
        check((400, 8), (900, 7), Younger);
        check((400, 7), (401, 7), Older);
        check((402, 7), (401, 7), Younger);
        check((32_760, 7), (310, 7), Older);
        check((310, 7), (32_760, 7), Younger);
        check((400, 7), (400, 7), Undecidable);
    }

    #[test]
    fn the_cycle_may_end_within_a_tick() {
        let check = |births: &[(u32, u64)], expect: &[u32]| {
            let births: Vec<_> = births.iter().map(|&(pid, tick)| (pid, StartTime(tick))).collect();
            assert_eq!(by_birth(&births, births[0]), expect);
        };
        check(&[(1, 0), (310, 7), (32_760, 7), (312, 7), (400, 9)], &[1, 32_760, 310, 312, 400]);
        check(&[(1, 0), (9000, 7), (900, 7), (400, 9)], &[1, 900, 9000, 400]);
    }

    #[test]
    fn a_list_with_holes_says_only_what_a_number_in_use_tells() {
        check(&[(500, 10), (900, 20)], 500, 800, Undecidable);
        check(&[(500, 10), (900, 20)], 900, 800, Undecidable);
        check(&[(500, 10), (900, 20)], 900, 500, Younger);
        assert_eq!(of_holder(&[], (500, StartTime(10)), 400), Undecidable);
        assert_eq!(of_holder(&[], (500, StartTime(10)), 500), Younger);
    }

    const PID_MAX: u32 = 0x8000;
    const HALF_ROUND: u32 = (PID_MAX - RESERVED_PIDS) / 2;

    /// A process of the simulation.
    struct Born {
        pid: u32,
        tick: u64,
        lives: bool,
    }

    /// Gives numbers away as the kernel does. Each step: how many short-lived processes come first, how many ticks
    /// pass, whether the process survives. What [`of_holder`] assumes is made true by survivors and by time.
    fn simulate(steps: &[(u32, u64, bool)]) -> Vec<Born> {
        let mut born = vec![Born { pid: 1, tick: 0, lives: true }];
        let (mut cursor, mut tick, mut in_tick, mut since_survivor) = (1, 0, 0, 0);
        for (i, &(passed_over, ticks, lives)) in steps.iter().enumerate() {
            let used = |pid| born.iter().any(|b: &Born| b.lives && b.pid == pid);
            let mut given = 0;
            while given <= passed_over || used(cursor) {
                cursor = if cursor + 1 == PID_MAX { RESERVED_PIDS } else { cursor + 1 };
                given += 1;
            }
            since_survivor += given;
            in_tick += given;
            let too_many = in_tick >= MOST_IN_A_TICK;
            if ticks > 0 || too_many {
                tick += ticks.max(1);
                in_tick = 0;
            }
            let lives = lives || since_survivor > HALF_ROUND - 100 || i + 1 == steps.len();
            if lives {
                since_survivor = 0;
            }
            born.push(Born { pid: cursor, tick, lives });
        }
        born
    }

    proptest! {
        #[test]
        fn an_answer_is_never_wrong(
            steps in prop::collection::vec(
                (prop_oneof![0..4_u32, 0..400_u32, 0..HALF_ROUND - 100], 0..3_u64, prop::bool::ANY),
                1..40,
            )
        ) {
            let born = simulate(&steps);
            let births: Vec<_> = born.iter().filter(|b| b.lives).map(|b| (b.pid, StartTime(b.tick))).collect();
            for (h, holder) in born.iter().enumerate().filter(|(_, b)| b.lives) {
                for (a, acquirer) in born.iter().enumerate().filter(|(_, b)| !b.lives) {
                    let age = of_holder(&births, (holder.pid, StartTime(holder.tick)), acquirer.pid);
                    let truth = if h < a { Older } else { Younger };
                    prop_assert!(age == truth || matches!(age, Undecidable | MostLikelyOlder), "{} against {}", holder.pid, acquirer.pid);
                }
            }
        }
    }
}
