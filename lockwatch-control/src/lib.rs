//! Carries out the plans of [`lockwatch_core::clear`]: the only code of lockwatch that signals, unlocks, freezes or
//! writes a record.
//!
//! It looks at the world through [`eyes::Eyes`] and speaks to a human through [`front::Front`]; it opens no locked file
//! and loads no BPF program. The rule above all others: when in doubt, refuse, say why, and change nothing.

pub mod config;
pub mod confine;
pub mod audit;
pub mod document;
pub mod eyes;
pub mod fault;
pub mod front;
pub mod peer;
pub mod proof;
mod trusted;
pub mod wire;
