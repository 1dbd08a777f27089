//! Every scene of `lockwatch_tests::scenario`, staged and judged once: by who watched, by who comes too late, and by who
//! looks from inside a pid namespace. `cargo xtask soak` does it a hundred times.
//!
//! Alone in its file: one scene turns the kernel's counter of process numbers back, and tests that compare ages by
//! numbers must not run beside it.

use lockwatch_tests::{needs_root, scenario::Theatre, sources_that_see_all};

#[test]
fn every_scene_is_judged_as_staged() {
    let name = "every_scene_is_judged_as_staged";
    if !needs_root(name) {
        return;
    }
    let mut theatre = Theatre::open(&sources_that_see_all(name), 1, "");
    theatre.play();
    println!("{theatre}");
    for wrong in theatre.wrong() {
        println!("{}, {}: {:#?}\n{:#}", wrong.scene, wrong.who, wrong.faults, wrong.said);
    }
    assert!(theatre.wrong().is_empty(), "{} wrong answers", theatre.wrong().len());
}
