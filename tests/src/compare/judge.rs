//! What an answer is worth, in the words of README's table.

use super::{
    cases::{Case, HEALTHY, REUSED},
    said::{Called, Death, Said},
};

/// It does not say.
const UNSAID: &str = "–";

/// The questions, one a row.
pub(super) fn labels(cases: &[Case]) -> Vec<String> {
    rows(cases).into_iter().map(|row| row.label).collect()
}

/// A tool's cells, of what it has said of each case.
pub(super) fn column(cases: &[Case], said: &[Said]) -> Vec<String> {
    let cell = |row: Row| {
        let words =
            cases.iter().zip(said).filter(|(case, _)| (row.of)(case)).map(|(case, said)| (row.judge)(case, said));
        together(&words.collect::<Vec<_>>())
    };
    rows(cases).into_iter().map(cell).collect()
}

/// Whether nothing is missing or wrong in it.
pub(super) fn is_best(cells: &[String]) -> bool {
    cells.iter().all(|cell| ["named", "named, as dead", "said", "said, if the agent ran"].contains(&cell.as_str()))
}

struct Row {
    label: String,
    /// About which cases.
    of: Box<dyn Fn(&Case) -> bool>,
    judge: fn(&Case, &Said) -> &'static str,
}

impl Row {
    fn new(
        label: impl Into<String>,
        of: impl Fn(&Case) -> bool + 'static,
        judge: fn(&Case, &Said) -> &'static str,
    ) -> Self {
        Self { label: label.into(), of: Box::new(of), judge }
    }
}

fn rows(cases: &[Case]) -> Vec<Row> {
    let orphan = |case: &Case| ![HEALTHY, REUSED].contains(&case.name);
    let mut rows = vec![
        Row::new("who took the lock, and is dead", orphan, taker),
        Row::new("… when an innocent process has that number now", |case| case.name == REUSED, taker),
        Row::new("how it died", orphan, death),
    ];
    for name in cases.iter().filter(|case| orphan(case)).map(|case| case.name) {
        rows.push(Row::new(format!("who keeps it: {name}"), move |case| case.name == name, holder));
    }
    rows.push(Row::new("who waits", |_| true, waiter));
    rows.push(Row::new("since when", |_| true, |_, said| if said.since { "said" } else { UNSAID }));
    rows.push(Row::new("which of them are abandoned, which is healthy", |_| true, verdict));
    rows.retain(|row| cases.iter().any(|case| (row.of)(case)));
    rows
}

fn taker(case: &Case, said: &Said) -> &'static str {
    match said.taker {
        Some((pid, Called::Dead)) if pid == case.acquirer => "named, as dead",
        Some((pid, Called::Nameless)) if pid == case.acquirer => "a number without a name",
        Some((pid, Called::Alive)) if pid == case.acquirer => "the innocent one, by name",
        // Whoever is shown in its place may be a holder, and counts there.
        _ => UNSAID,
    }
}

fn death(_: &Case, said: &Said) -> &'static str {
    match said.death {
        Death::Said => "said",
        Death::SaidWhenWatched => "said, if the agent ran",
        Death::Unsaid => UNSAID,
    }
}

fn holder(case: &Case, said: &Said) -> &'static str {
    let wrong = case.innocent.iter().chain([&case.waiter, &case.acquirer]).any(|pid| said.holders.contains(pid));
    let (named, shown) = (
        case.holders.iter().all(|pid| said.holders.contains(pid)),
        case.holders.iter().all(|pid| said.users.contains(pid)),
    );
    match (named, wrong, shown) {
        (true, false, _) => "named",
        (true, true, _) => "named, and an innocent one too",
        (false, true, _) => "an innocent one is named",
        (false, false, true) => "one of all that use the file",
        (false, false, false) => UNSAID,
    }
}

fn waiter(case: &Case, said: &Said) -> &'static str {
    match (said.waiters.contains(&case.waiter), said.users.contains(&case.waiter)) {
        (true, _) if said.waiters.len() == 1 => "named",
        (true, _) => "named, and others too",
        (false, true) => "one of all that use the file",
        (false, false) => UNSAID,
    }
}

fn verdict(case: &Case, said: &Said) -> &'static str {
    let expect = if case.name == HEALTHY { "handed_over" } else { "orphaned" };
    match said.verdict.as_deref() {
        None => UNSAID,
        Some(verdict) if verdict == expect => "said",
        Some("unknown") => "called unknown",
        Some(_) => "wrongly said",
    }
}

/// One word for all; else each with how often, the most frequent first.
fn together(words: &[&str]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(known, _)| known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match counts.as_slice() {
        [] => UNSAID.to_owned(),
        [(word, _)] => (*word).to_owned(),
        several => {
            let named = |word| if word == UNSAID { "nothing" } else { word };
            let told = several.iter().map(|(word, count)| format!("{} ({count} of {})", named(*word), words.len()));
            told.collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_are_judged() {
        let check = |said: Option<(u32, Called)>, expect| {
            assert_eq!(taker(&Case::of("x"), &Said { taker: said, ..Said::default() }), expect, "{said:?}");
        };
        check(Some((10, Called::Dead)), "named, as dead");
        check(Some((10, Called::Nameless)), "a number without a name");
        check(Some((10, Called::Alive)), "the innocent one, by name");
        check(Some((11, Called::Alive)), UNSAID);
        check(None, UNSAID);
    }

    #[test]
    fn holders_are_judged() {
        let check = |holders: &[u32], users: &[u32], expect| {
            let said = Said {
                holders: holders.iter().copied().collect(),
                users: users.iter().copied().collect(),
                ..Said::default()
            };
            assert_eq!(holder(&Case::of("x"), &said), expect, "{said:?}");
        };
        check(&[11], &[], "named");
        check(&[11], &[11, 12, 13], "named");
        check(&[11, 13], &[], "named, and an innocent one too");
        check(&[10], &[11], "an innocent one is named");
        check(&[12], &[11], "an innocent one is named");
        check(&[], &[11, 13], "one of all that use the file");
        check(&[], &[12, 13], UNSAID);
    }

    #[test]
    fn waiters_are_judged() {
        let check = |waiters: &[u32], users: &[u32], expect| {
            let said = Said {
                waiters: waiters.iter().copied().collect(),
                users: users.iter().copied().collect(),
                ..Said::default()
            };
            assert_eq!(waiter(&Case::of("x"), &said), expect, "{said:?}");
        };
        check(&[12], &[], "named");
        check(&[12, 13], &[], "named, and others too");
        check(&[], &[12, 13], "one of all that use the file");
        check(&[13], &[11], UNSAID);
    }

    #[test]
    fn verdicts_are_judged() {
        let check = |name, said: Option<&str>, expect| {
            let said = Said { verdict: said.map(str::to_owned), ..Said::default() };
            assert_eq!(verdict(&Case::of(name), &said), expect, "{said:?}");
        };
        check("x", Some("orphaned"), "said");
        check("x", Some("handed_over"), "wrongly said");
        check("x", Some("unknown"), "called unknown");
        check("x", None, UNSAID);
        check(HEALTHY, Some("handed_over"), "said");
        check(HEALTHY, Some("orphaned"), "wrongly said");
    }

    #[test]
    fn a_cell_is_one_word_or_each_with_how_often() {
        let check = |words: &[&str], expect: &str| assert_eq!(together(words), expect, "{words:?}");
        check(&["a", "a"], "a");
        check(&["b", "a", "a"], "a (2 of 3), b (1 of 3)");
        check(&["a", UNSAID], "a (1 of 2), nothing (1 of 2)");
        check(&[], UNSAID);
    }

    #[test]
    fn every_column_has_a_cell_for_every_question() {
        let cases = ["a mapping", HEALTHY, REUSED].map(Case::of);
        let labels = labels(&cases);
        assert!(labels.contains(&"who keeps it: a mapping".to_owned()), "{labels:?}");
        assert_eq!(column(&cases, &[Said::default(), Said::default(), Said::default()]), vec![UNSAID; labels.len()]);
        assert!(labels.len() > super::labels(&cases[..1]).len());
    }
}
