use super::*;
use crate::{
    agent::metrics,
    fixture::{self, NOW, ago},
};

fn page(report: Report, make: impl Fn(&Seen<'_>) -> Page) -> String {
    let recent = [Told { at: ago(5), words: "ORPHANED <b>x</b>".to_owned() }];
    let numbers = metrics::sample();
    make(&seen(&report, &numbers, &recent)).document("abc")
}

fn seen<'a>(report: &'a Report, numbers: &'a Numbers, recent: &'a [Told]) -> Seen<'a> {
    Seen { report, locks: report.locks.len(), now: report.taken_at, numbers, since: Some(ago(90)), recent }
}

#[test]
fn the_ghost_is_told_with_what_to_type() {
    let page = page(fixture::report(), Page::full);
    let check = |part: &str| assert!(page.contains(part), "no {part} in\n{page}");
    check("<span aria-hidden=\"true\">▲</span> HOT</p>");
    check("1 lock is hot");
    check("<title>HOT node-7 - lockwatch</title>");
    check("/etc/aim/aim_lock.conf");
    check("Next: <code>lockwatch clear f3k9-27qd</code>");
    check("pid 4711 (locksmith) took it and was killed by SIGKILL from pid 1 (systemd)");
    check("<dt>orphaned</dt><dd>2</dd>");
    check("f3m2-8x0c");
    check("4800 updater");
    check(">42 s</span>");
    check("<svg ");
    check("ORPHANED &lt;b&gt;x&lt;/b&gt;");
    check("tp_btf");
    check("<time datetime=\"2026-11-22T03:10:37.123Z\">");
    assert!(!page.contains("{{"), "{page}");
}

#[test]
fn without_locks_all_is_clear() {
    let numbers = metrics::sample();
    let page = |exact| page(Report { locks: Vec::new(), exact, ..fixture::report() }, Page::full);
    assert_eq!(numbers.exact, metrics::sample().exact);
    let clear = page(numbers.exact);
    assert!(
        clear.contains("ALL CLEAR") && clear.contains("Nothing is hot.") && clear.contains("Nobody waits"),
        "{clear}"
    );
    let doubt = page(false);
    assert!(doubt.contains("ALL CLEAR") && doubt.contains("Not exact") && doubt.contains("state doubt"), "{doubt}");
}

#[test]
fn names_are_never_markup() {
    let mut report = fixture::hostile();
    let evil = "/tmp/</script><img src=x onerror=alert(1)>{{sections}}'\"&";
    let mut lock = fixture::held("aaaa-<b>", evil, fixture::process(7, "<i>\"'&"));
    lock.waiters = fixture::ghost().waiters;
    report.locks.push(lock);
    let page = page(report, Page::full);
    assert!(!page.contains("<img") && !page.contains("<i>") && !page.contains("<b>"), "{page}");
    assert_eq!((page.matches("<script").count(), page.matches("</script>").count()), (1, 1));
    assert!(page.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;{{sections}}&#39;&quot;&amp;"), "{page}");
    fixture::assert_harmless(&page);
}

#[test]
fn lists_are_cut_and_say_so() {
    let lock = |i: usize| {
        let lock = if i < 300 { fixture::ghost() } else { fixture::report().locks[1].clone() };
        LockReport { id: lockwatch_core::id::LockId(format!("id{i}")), ..lock }
    };
    let page = page(Report { locks: (0..1000).map(lock).collect(), ..fixture::report() }, Page::full);
    assert_eq!(page.matches("<article").count(), 50);
    assert_eq!(page.matches("<tr>").count(), 2 * (MOST_ROWS + 1));
    for more in ["and 250 more", "and 500 more", "and 800 more", "A part of the graph"] {
        assert!(page.contains(more), "no {more}");
    }
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn numbers_name_nobody() {
    let page = page(fixture::report(), Page::numbers);
    assert!(page.contains("HOT") && page.contains("<dt>orphaned</dt><dd>2</dd>") && page.contains("Numbers only"));
    for name in ["aim_lock", "locksmith", "updater", "f3k9", "ORPHANED"] {
        assert!(!page.contains(name), "{name} in {page}");
    }
}

#[test]
fn only_what_changes_has_another_fingerprint() {
    let report = |at: u64, locks| Report { taken_at: Timestamp(at), locks, ..fixture::report() };
    let numbers = metrics::sample();
    let prints = |report: &Report| -> Vec<_> {
        Page::full(&seen(report, &numbers, &[])).sections.iter().map(|section| section.print).collect()
    };
    let first = prints(&report(NOW.0, fixture::report().locks));
    assert_eq!(prints(&report(NOW.0 + 5_000_000_000, fixture::report().locks)), first);
    let other = prints(&report(NOW.0, vec![fixture::ghost()]));
    let same: Vec<_> =
        SECTIONS.iter().zip(first.iter().zip(&other)).filter(|(_, (a, b))| a == b).map(|(n, _)| *n).collect();
    assert_eq!(same, ["hot", "events", "health"]);
}

#[test]
fn trouble_is_no_all_clear() {
    let page = Page::trouble("the <engine> hangs").document("abc");
    assert!(page.contains("NOT KNOWN") && page.contains("the &lt;engine&gt; hangs") && !page.contains("ALL CLEAR"));
}

#[test]
fn an_older_look_says_when_it_was() {
    let (report, numbers) = (fixture::report(), metrics::sample());
    let page = |seconds: u64| {
        let now = Timestamp(report.taken_at.0 + seconds * 1_000_000_000);
        Page::full(&Seen { now, locks: 12_345, ..seen(&report, &numbers, &[]) }).document("abc")
    };
    assert!(!page(1).contains("a look takes long here"));
    let later = page(60);
    assert!(later.contains("a look takes long here") && later.contains("<dd>12345</dd>"), "{later}");
}
