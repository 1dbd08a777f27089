//! What those who look (`lockwatch`) and the one who acts (`lockwatch-control`) ask of the kernel alike, as safe
//! functions.
//!
//! Nothing in here changes anything outside of this process, and nothing judges: what an answer means is for
//! [`lockwatch_core`] to say.

pub mod fdinfo;
pub mod kcmp;
pub mod procdir;
pub mod socket;
pub mod stat;
pub mod timens;
