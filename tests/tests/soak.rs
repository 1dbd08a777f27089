//! A short form of `cargo xtask soak`: random operations, compared with the kernel and a model.

use lockwatch_tests::{needs_bpf, soak::Soak};

#[test]
fn random_operations_make_no_false_orphan() {
    if !needs_bpf("random_operations_make_no_false_orphan") {
        return;
    }
    let mut soak = Soak::start(u64::from(std::process::id())).unwrap();
    for _ in 0..5 {
        soak.step(2000).unwrap();
    }
    println!("{}", soak.tally());
    assert!(soak.tally().locks > 100, "hardly a lock: {}", soak.tally());
    assert_eq!(soak.tally().wrong(), 0, "{}", soak.tally());
}
