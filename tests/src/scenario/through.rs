//! What an agent may say of a lock that a look of one's own does not: only what history knows.

use serde_json::Value;

/// What a look cannot know of a lock that was taken before it.
const OF_THE_PAST: [&str; 6] = ["history", "acquired_at", "verdict", "cause", "evidence", "hot"];

/// Where two documents of one lock differ and must not.
pub(super) fn differences(through: &Value, without: &Value) -> Vec<String> {
    let (through, without) = (present(through), present(without));
    let mut found = Vec::new();
    let keys = through.as_object().into_iter().chain(without.as_object()).flat_map(|lock| lock.keys());
    for key in keys {
        let (a, b) = (&through[key], &without[key]);
        let fault = format!("{key}: {a} through the agent, {b} without it");
        if a != b && !found.contains(&fault) {
            found.push(fault);
        }
    }
    found
}

/// A lock without what only history knows.
fn present(lock: &Value) -> Value {
    let mut lock = lock.clone();
    if let Some(lock) = lock.as_object_mut() {
        lock.retain(|key, _| !OF_THE_PAST.contains(&key.as_str()));
    }
    // Who is not there any more is known by number, and by more only to who has met it.
    if !lock["acquirer"].is_null() && lock["acquirer"]["state"] != "alive" {
        lock["acquirer"] = lock["acquirer"]["pid"].take();
    }
    for waiter in lock["waiters"].as_array_mut().into_iter().flatten() {
        waiter["since"].take();
    }
    lock
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_past_may_differ() {
        let check = |a: Value, b: Value, expect: &[&str]| assert_eq!(differences(&a, &b), expect);
        let lock = |state: &str, comm: &str, fd: u32| {
            json!({ "id": "x", "verdict": comm, "acquirer": { "pid": 1, "state": state, "comm": comm },
                "holders": [{ "fd": fd }], "waiters": [{ "pid": 2, "since": comm }] })
        };
        check(lock("dead", "a", 3), lock("unknown", "b", 3), &[]);
        check(lock("alive", "a", 3), lock("alive", "a", 3), &[]);
        let differ = "holders: [{\"fd\":3}] through the agent, [{\"fd\":4}] without it";
        check(lock("dead", "a", 3), lock("dead", "a", 4), &[differ]);
        assert_eq!(differences(&lock("alive", "a", 3), &lock("alive", "b", 3)).len(), 1);
        assert_eq!(differences(&lock("alive", "a", 3), &lock("dead", "a", 3)).len(), 1);
        check(json!({ "new": 1 }), json!({}), &["new: 1 through the agent, null without it"]);
    }
}
