//! What ties a confirmation to a plan: a hash of every fact in it.

use std::fmt;

use lockwatch_core::clear::Plan;
use sha2::{Digest, Sha256};

use crate::wire;

/// SHA-256 over the case (but for its evidence), the method, the steps, and who is held still: two plans with equal
/// proofs do the same to the same processes for the same reasons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Proof([u8; 32]);

impl Proof {
    /// Of this plan.
    pub fn of(plan: &Plan) -> Self {
        Self(Sha256::digest(wire::facts(plan)).into())
    }

    /// What a human types: 40 bits in Crockford's base32 and a dash. It need not be secret, only belong to one plan.
    pub fn code(&self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let bits = self.0[..5].iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let digit = |i: u32| char::from(DIGITS[(bits >> (35 - 5 * i)) as usize & 31]);
        (0..4).map(digit).chain(['-']).chain((4..8).map(digit)).collect()
    }

    /// The whole hash, as the audit log has it.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether somebody has typed this plan's code.
    pub fn is_confirmed_by(&self, typed: &str) -> bool {
        is_same(typed, &self.code())
    }
}

/// Whether these are the same code: case, dashes and spaces do not matter, and `o`, `i`, `l` are digits.
pub(crate) fn is_same(typed: &str, code: &str) -> bool {
    let plain = |code: &str| -> String {
        let digits = code.chars().filter(|c| *c != '-' && !c.is_whitespace());
        let digit = |c: char| match c.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            c => c,
        };
        digits.map(digit).collect()
    };
    plain(typed) == plain(code)
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({})", self.hex())
    }
}
