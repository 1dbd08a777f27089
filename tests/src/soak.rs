//! Processes that do random things to locks and descriptors, a model that knows what each of them has, and the
//! comparison of both with lockwatch whenever everything stands still.
//!
//! Actors do their operations by themselves, from a seed, and note in shared memory what they did (`shared`). At a
//! stop point nobody acts: `model` has read the notes, the kernel is asked through `/proc` (`truth`), and lockwatch is
//! asked (`compare`).

mod actor;
mod compare;
mod model;
mod nursery;
mod shared;
mod tally;
mod truth;

pub use compare::Soak;
pub use nursery::nursery;
pub use shared::SLOTS;
pub use tally::Tally;
