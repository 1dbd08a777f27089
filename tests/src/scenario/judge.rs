//! What is wrong with what lockwatch says of one staged lock.

use serde_json::Value;

use super::cast::{Fate, Part};
use crate::{items, pids, verdict};

/// Whether a lock of a document is the one of this part.
pub(super) fn is(part: &Part, lock: &Value) -> bool {
    // A file may have several; a number tells them apart where it is known.
    let taken = &lock["acquirer"]["pid"];
    is_of_file(part, lock) && part.acquirer.is_none_or(|(pid, _)| taken.is_null() || *taken == pid)
}

/// Whether a lock of a document is of this part's file.
pub(super) fn is_of_file(part: &Part, lock: &Value) -> bool {
    match lock["file"]["path"].as_str() {
        Some(path) => part.path.as_os_str() == path,
        None => lock["file"]["inode"] == part.inode,
    }
}

/// Everything about a lock that is not as staged; `expect` is the verdict, `says` what the evidence must have.
pub(super) fn faults(part: &Part, lock: &Value, expect: &str, says: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &str, seen: String, expect: String| {
        if seen != expect {
            faults.push(format!("{what}: {expect} expected, got {seen}"));
        }
    };
    check("verdict", verdict(lock), expect.to_owned());
    let mut holders = Vec::new();
    for holder in items(&lock["holders"]) {
        let pid = holder["pid"].as_u64().unwrap_or(0);
        holders.push((u32::try_from(pid).unwrap_or(0), holder["via"].as_str().unwrap_or("?")));
    }
    holders.sort_unstable();
    holders.dedup();
    let mut expected = part.holders.clone();
    expected.sort_unstable();
    check("holders", format!("{holders:?}"), format!("{expected:?}"));
    if let Some(fd) = part.fd {
        let has = items(&lock["holders"]).iter().any(|holder| holder["fd"] == fd);
        check(&format!("fd {fd}"), has.to_string(), true.to_string());
    }
    let mut waiters: Vec<u64> = part.waiters.iter().map(|pid| u64::from(*pid)).collect();
    waiters.sort_unstable();
    check("waiters", format!("{:?}", pids(&lock["waiters"])), format!("{waiters:?}"));
    let breaking = lock["breaking"]["to"].as_str();
    check("breaking to", breaking.unwrap_or("nothing").to_owned(), part.breaking.unwrap_or("nothing").to_owned());
    check("path", lock["file"]["path"].as_str().unwrap_or("none").to_owned(), part.path.display().to_string());
    check("deleted", lock["file"]["deleted"].to_string(), part.deleted.to_string());
    let state = lock["acquirer"]["state"].as_str().unwrap_or("unknown");
    let lie = match part.acquirer {
        Some((_, Fate::Alive)) => state == "dead",
        Some((_, Fate::Dead)) => state == "alive",
        Some((_, Fate::Reused)) => state == "alive" || lock["acquirer"]["comm"] == "sleep",
        None => false,
    };
    if lie {
        faults.push(format!("the acquirer is called {state} ({})", lock["acquirer"]["comm"]));
    }
    let evidence = items(&lock["evidence"]).iter().chain(items(&lock["holders"]).iter().map(|h| &h["detail"]));
    let evidence: Vec<_> = evidence.filter_map(Value::as_str).collect();
    if evidence.is_empty() {
        faults.push("no evidence".to_owned());
    }
    for word in says {
        if !evidence.iter().any(|line| line.contains(word)) {
            faults.push(format!("evidence without {word:?}: {evidence:?}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::scenario::Cast;

    #[test]
    fn every_fault_is_found() {
        let cast = Cast::of(Path::new("/lock")).of_dead(7).held_by(8, "fd").waited_for_by(9);
        let part = &cast.parts[0];
        let lock = json!({
            "file": { "path": "/lock", "deleted": false }, "acquirer": { "pid": 7, "state": "dead" },
            "holders": [{ "pid": 8, "via": "fd", "fd": 3, "detail": null }, { "pid": 8, "via": "fd", "fd": 4 }],
            "waiters": [{ "pid": 9 }], "verdict": "orphaned", "cause": "child", "evidence": ["pid 7 was killed"],
        });
        let check = |change: &dyn Fn(&mut Value), expect: &[&str]| {
            let mut lock = lock.clone();
            change(&mut lock);
            assert_eq!(faults(part, &lock, "orphaned/child", &["killed"]), expect);
        };
        assert!(is(part, &lock));
        check(&|_| {}, &[]);
        check(&|lock| lock["verdict"] = "held".into(), &["verdict: orphaned/child expected, got held/child"]);
        check(&|lock| lock["holders"] = json!([]), &["holders: [(8, \"fd\")] expected, got []"]);
        check(&|lock| lock["waiters"] = json!([]), &["waiters: [9] expected, got []"]);
        check(&|lock| lock["acquirer"]["state"] = "alive".into(), &["the acquirer is called alive (null)"]);
        check(&|lock| lock["evidence"] = json!(["?"]), &["evidence without \"killed\": [\"?\"]"]);
        check(&|lock| lock["file"]["deleted"] = true.into(), &["deleted: false expected, got true"]);
    }
}
