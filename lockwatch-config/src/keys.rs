//! All keys there are.

use crate::{Config, agent, control, key::Key};

/// All keys but those of policies, in the order in which they are shown.
pub(crate) fn keys() -> impl Iterator<Item = &'static Key<Config>> + Clone {
    control::KEYS.iter().chain(agent::KEYS)
}
