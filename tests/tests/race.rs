//! A short form of the race in `cargo xtask soak`: clears against an adversary.

use lockwatch_tests::{needs_root, plain, program, run};

#[test]
fn nothing_is_unlocked_or_signalled_that_was_not_planned() {
    if !needs_root("nothing_is_unlocked_or_signalled_that_was_not_planned") {
        return;
    }
    let run = run(plain(program("race")).args(["--clears", "600"]));
    println!("{}", run.text());
    assert_eq!(run.code, Some(0), "{}{}", run.text(), run.stderr);
    // A race in which nothing is done, or nothing refused, proves nothing.
    let summary = run.text().lines().next().unwrap_or_default();
    for word in ["released", "released in a message", "terminated", "killed", "changed"] {
        let count =
            summary.split([',', ':']).find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u32>().ok());
        assert!(count.is_some_and(|count| count > 3), "{word}: {summary}");
    }
    assert!(run.text().contains("wrong unlocks 0, wrong signals 0"), "{}", run.text());
}
