//! What an agent may say of a lock that a look of one's own does not: only what history knows.

use serde_json::{Value, json};

/// What a look cannot know of a lock that was taken before it.
const OF_THE_PAST: [&str; 6] = ["history", "acquired_at", "verdict", "cause", "evidence", "hot"];

/// Where two documents of one lock differ and must not.
pub(super) fn differences(through: &Value, without: &Value) -> Vec<String> {
    let (mut through, mut without) = (through.clone(), without.clone());
    past(&mut through, &mut without);
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

/// Takes away what only history knows.
fn past(through: &mut Value, without: &mut Value) {
    // Who has nothing to do with the file any more is a bare number to who has not met it.
    let states = [&*through, &*without].map(|lock| lock["acquirer"]["state"].clone());
    let only_number = states.iter().any(|state| state != "alive");
    let is_doubted = states.iter().any(|state| state == "unknown");
    for lock in [&mut *through, &mut *without] {
        if let Some(lock) = lock.as_object_mut() {
            lock.retain(|key, _| !OF_THE_PAST.contains(&key.as_str()));
        }
        if only_number && !lock["acquirer"].is_null() {
            let state = lock["acquirer"]["state"].take();
            lock["acquirer"] = json!([lock["acquirer"]["pid"], (!is_doubted).then_some(state)]);
        }
        // `/proc` has a start to the hundredth of a second, and the kernel the end of a break to a tick of its own.
        for moment in ["/acquirer/start_time", "/breaking/deadline"] {
            lock.pointer_mut(moment).map(Value::take);
        }
        for waiter in lock["waiters"].as_array_mut().into_iter().flatten() {
            waiter["since"].take();
        }
    }
    let (ours, theirs) = (through["holders"].as_array_mut(), without["holders"].as_array());
    for (holder, other) in ours.into_iter().flatten().zip(theirs.into_iter().flatten()) {
        // That it shared files with the dead can be said only by who has met both.
        if other["detail"].is_null() {
            holder["detail"].take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_past_may_differ() {
        let check = |a: Value, b: Value, expect: &[&str]| assert_eq!(differences(&a, &b), expect);
        let lock = |state: &str, comm: &str, fd: u32| {
            json!({ "id": "x", "verdict": comm, "acquirer": { "pid": 1, "state": state, "comm": comm },
                "holders": [{ "fd": fd, "detail": null }], "waiters": [{ "pid": 2, "since": comm }] })
        };
        check(lock("dead", "a", 3), lock("unknown", "b", 3), &[]);
        check(lock("alive", "a", 3), lock("alive", "a", 3), &[]);
        let differ = "holders: [{\"detail\":null,\"fd\":3}] through the agent, [{\"detail\":null,\"fd\":4}] without it";
        check(lock("dead", "a", 3), lock("dead", "a", 4), &[differ]);
        assert_eq!(differences(&lock("alive", "a", 3), &lock("alive", "b", 3)).len(), 1);
        assert_eq!(differences(&lock("alive", "a", 3), &lock("dead", "a", 3)).len(), 1);
        check(json!({ "new": 1 }), json!({}), &["new: 1 through the agent, null without it"]);
    }
}
