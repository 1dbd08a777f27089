use roxmltree::{Document, Node};

use super::super::{Form, sample};
use super::*;
use crate::fixture;

fn parsed(text: &str) -> Document<'_> {
    fixture::assert_harmless(text);
    Document::parse(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

fn count(document: &Document<'_>, tag: &str, class: &str) -> usize {
    let has = |node: &Node<'_, '_>| node.attribute("class").is_some_and(|all| all.split(' ').any(|one| one == class));
    document.descendants().filter(|node| node.has_tag_name(tag) && has(node)).count()
}

#[test]
fn the_deadlock_is_marked_by_word_and_colour() {
    let text = sample::written(Form::Svg, &sample::report());
    let document = parsed(&text);
    // Three processes and three locks; six arrows and the legend's one.
    assert_eq!(count(&document, "rect", "deadlock"), 6);
    assert_eq!(text.matches("<path class=\"line deadlock\"").count(), 6 + 1);
    let tags: Vec<_> = document.descendants().filter(|n| n.attribute("class") == Some("tagged")).collect();
    assert_eq!(tags.iter().filter(|n| n.text() == Some("deadlock")).count(), 6);
    assert_eq!(tags.iter().filter(|n| n.text() == Some("hot")).count(), 1);
    let title = document.root_element().children().find(|n| n.has_tag_name("title")).unwrap();
    assert_eq!(title.text(), Some("Deadlock: 3 processes wait for each other in a circle"));
}

#[test]
fn nothing_from_elsewhere_and_nothing_that_runs() {
    for report in [sample::report(), sample::hostile(), sample::crowd(200), fixture::hostile(), fixture::report()] {
        let text = sample::written(Form::Svg, &report);
        let document = parsed(&text);
        for node in document.descendants().filter(Node::is_element) {
            let name = node.tag_name().name();
            let known = ["svg", "title", "desc", "style", "defs", "marker", "path", "rect", "text", "g"];
            assert!(known.contains(&name), "{name}");
            for attribute in node.attributes() {
                let value = attribute.value();
                assert!(!attribute.name().starts_with("on") && !attribute.name().contains("href"), "{attribute:?}");
                assert!(!value.contains("url(") || value.starts_with("url(#"), "{value}");
            }
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'));
    }
}

#[test]
fn a_crowd_is_drawn_as_one() {
    let text = sample::written(Form::Svg, &sample::crowd(200));
    let document = parsed(&text);
    let cards = document.descendants().filter(|n| n.attribute("class") == Some("card")).count();
    assert_eq!(cards, 1 + 1 + 6);
    assert!(text.contains("195 more"), "{text}");
    let width: f64 = document.root_element().attribute("width").unwrap().parse().unwrap();
    assert!(width < 1600.0, "{width}");
}

#[test]
fn an_empty_graph_is_a_picture_too() {
    let report = lockwatch_core::report::Report { locks: Vec::new(), ..sample::report() };
    assert!(sample::written(Form::Svg, &report).contains("Nobody waits for a lock"));
}
