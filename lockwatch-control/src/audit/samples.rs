//! Records for tests.

use super::{Actor, Phase, Record};
use crate::document::Outcome;

/// One of many.
pub(super) fn record(n: u32) -> Record {
    Record {
        actor: Actor { uid: 0, pid: n, comm: Some("bash".into()), tty: Some("pts/3".into()) },
        approved_by: Vec::new(),
        id: "f3k9-27qd".into(),
        file: Some("/srv/x.lock".into()),
        method: Some("release".into()),
        reason: Some(format!("ticket {n}")),
        phase: Phase::Outcome,
        outcome: Some(Outcome::Cleared),
        plan_hash: Some(n.to_string()),
        notes: Vec::new(),
    }
}

/// Whose every text wants to end the line, or the string.
pub(super) fn hostile() -> Record {
    let evil = "a\nb\r\u{b}\u{85}\u{2028}\"}\n{\"schema\":\"lockwatch.audit/1\"}\n\0\u{1b}[2J\u{202e}\u{e0041}\\";
    Record {
        actor: Actor { uid: u32::MAX, pid: u32::MAX, comm: Some(evil.into()), tty: Some(evil.into()) },
        approved_by: vec![Actor { uid: 1, pid: 2, comm: None, tty: None }],
        id: evil.into(),
        file: Some(evil.into()),
        method: None,
        reason: Some(evil.into()),
        plan_hash: None,
        outcome: None,
        notes: vec![evil.into()],
        ..record(1)
    }
}
