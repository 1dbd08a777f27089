//! What the host's owner allows.

use super::{
    method::Method,
    protect::{Protection, fits},
};
use crate::text::Text;

/// What the host's owner lets the one who asks do. The default is root's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whose locks are not cleared.
    pub protection: Protection,
    /// Whether that may be overridden.
    pub may_override: bool,
    /// Which methods may be used.
    pub methods: Vec<Method>,
    /// Patterns of paths whose locks may be cleared, as in [`Protection`]; `None` for all.
    pub paths: Option<Vec<String>>,
    /// Whether others may be held still.
    pub may_hold: bool,
    /// Numbers of lockwatch itself and its ancestors, which are never signalled.
    pub ourselves: Vec<u32>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protection: Protection::default(),
            may_override: true,
            methods: Method::ALL.to_vec(),
            paths: None,
            may_hold: true,
            ourselves: Vec::new(),
        }
    }
}

impl Policy {
    pub(super) fn may_clear(&self, path: Option<&Text>) -> bool {
        let Some(patterns) = &self.paths else { return true };
        path.is_some_and(|path| patterns.iter().any(|pattern| fits(pattern.as_bytes(), path.as_bytes())))
    }
}
