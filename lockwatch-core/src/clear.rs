//! Clearing an orphaned lock, as data: what is known ([`Case`]), what is wanted ([`Wish`]), what the host's owner allows
//! ([`Policy`]), and what will be done or why not ([`Plan`]).
//!
//! A plan is made here, printed, confirmed, and executed by the one interpreter in `lockwatch-control`. The rule above
//! all others: when in doubt, refuse, say why, and change nothing.

mod case;
mod gate;
mod method;
mod plan;
mod policy;
mod protect;
#[cfg(test)]
mod samples;
mod wish;

pub(crate) use self::protect::fits;
pub use self::{
    case::{Asker, Case, Keeper, Person},
    gate::Refusal,
    method::{Method, Step},
    plan::Plan,
    policy::Policy,
    protect::Protection,
    wish::{Hold, Wish},
};
