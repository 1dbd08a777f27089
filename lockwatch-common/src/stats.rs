//! How the probes count durations.

/// How many buckets a histogram has: up to 2^10, 2^12, … 2^42 nanoseconds, and one for whatever is longer.
pub const BUCKETS: usize = 18;
