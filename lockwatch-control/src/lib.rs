//! Carries out the plans of [`lockwatch_core::clear`]: the only code of lockwatch that signals, unlocks, freezes or
//! writes a record.
//!
//! It looks at the world through [`eyes::Eyes`] and speaks to a human through [`front::Front`]; it opens no locked file
//! and loads no BPF program. The rule above all others: when in doubt, refuse, say why, and change nothing.

pub mod audit;
pub mod client;
pub mod confine;
pub mod document;
pub mod eyes;
pub mod fault;
pub mod front;
pub mod hands;
pub mod hold;
pub mod listen;
pub mod peer;
pub mod pending;
pub mod proof;
pub mod protocol;
pub mod server;
pub mod service;
pub mod session;
pub mod turned_away;
pub mod wire;
