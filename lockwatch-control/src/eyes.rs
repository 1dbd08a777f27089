//! Who looks at the world for the one who acts.

mod process;

use lockwatch_core::{clear::Case, id::LockId, lock::FileId};

pub use self::process::Resident;

/// What a look for an ID has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// No such lock.
    None,
    /// The beginning of an ID fits these.
    Many(Vec<LockId>),
    /// This one.
    One(Box<Case>),
}

/// Looks at the world. Each call is a look of its own, never a memory.
pub trait Eyes {
    /// Looks for the lock of this ID, or of the only ID that begins so.
    ///
    /// # Errors
    ///
    /// Nothing could be seen, and why.
    fn look(&mut self, id: &str) -> anyhow::Result<Sight>;

    /// Looks for every lock on a file.
    ///
    /// # Errors
    ///
    /// Nothing could be seen, and why.
    fn locks_on(&mut self, file: FileId) -> anyhow::Result<Vec<Case>>;
}
