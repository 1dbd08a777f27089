//! The one who asked, and confirms.

use crate::document::Document;

/// Shows a plan and asks for its code.
pub trait Front {
    /// Whether there is anybody who could give a code.
    fn is_there(&self) -> bool;

    /// Shows the plan and returns the code that was given for it; `None` if there is nobody to give one.
    ///
    /// # Errors
    ///
    /// The one who asked is gone.
    fn confirm(&mut self, plan: &Document) -> anyhow::Result<Option<String>>;
}
