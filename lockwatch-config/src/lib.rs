//! What is configured: one model for the whole program, in layers, of which the later one wins: what holds anyway, files
//! that only root can have written, the environment, flags.
//!
//! Every key is one entry of a table ([`key::Key`]): how it is read, written and explained. Whatever needs all of them,
//! errors and suggestions, `config show`, the names of variables, the documentation, is made from the tables.

pub mod agent;
pub mod control;
pub mod effective;
pub mod key;
mod keys;
pub mod layers;
pub mod manual;
pub mod origin;
pub mod policies;
mod rights;
mod said;
pub mod span;
pub mod trusted;
pub mod value;

use lockwatch_core::policy::Policy;

pub use self::{
    agent::Agent, control::Control, effective::Effective, layers::Layers, origin::Origin, span::parse as time_span,
};

/// Where the configuration is.
pub const FILE: &str = "/etc/lockwatch/config.toml";

/// What is configured, whatever is not said filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `[control]`: what may be cleared, by whom, and how.
    pub control: Control,
    /// `[agent]`: how the agent runs.
    pub agent: Agent,
    /// `[[policy]]`: standing orders, in the order in which they were said.
    pub policies: Vec<Policy>,
}
