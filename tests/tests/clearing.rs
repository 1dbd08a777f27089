//! What every scene leaves behind is cleared with the least force, or refused and left as it was. `LOCKWATCH_SCENES` is part
//! of the names of those that are wanted.

use lockwatch_tests::{
    needs_bpf, needs_root,
    scenario::{clearing::clear, scenes},
};

#[test]
fn every_scene_is_cleared_or_refused() {
    let name = "every_scene_is_cleared_or_refused";
    if !needs_root(name) || !needs_bpf(name) {
        return;
    }
    let wanted = std::env::var("LOCKWATCH_SCENES").unwrap_or_default();
    let mut wrong = 0;
    // Those that turn back the kernel's counter of process numbers are staged elsewhere, alone.
    for scenario in scenes().iter().filter(|s| s.name.contains(&wanted) && !s.alone && (s.needs)(s.name)) {
        let faults = clear(scenario);
        println!("{}: {}", scenario.name, if faults.is_empty() { "as it should be" } else { "WRONG" });
        faults.iter().for_each(|fault| println!("    {fault}"));
        wrong += usize::from(!faults.is_empty());
    }
    assert_eq!(wrong, 0, "scenes that were cleared wrongly");
}
