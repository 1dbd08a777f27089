//! `/metrics`: the numbers of one scrape, as CONTRACT section 5 names them. Nothing is kept between two scrapes, and
//! nothing is global: a registry is made for each, with one collector that knows the numbers.

mod families;
mod form;

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

#[cfg(test)]
pub use self::families::sample;
use self::families::{Family, Labels, Series};
pub use self::form::Form;
use super::numbers::{Looked, Numbers};
use crate::sources::bpf::stats::{Histogram, bounds_ns};

/// What the doors have counted themselves, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorNumbers {
    /// Lines that readers of events missed because they were too slow.
    pub missed: u64,
    /// Connections on TCP that were closed at once, because there were too many.
    pub turned_away_tcp: u64,
    /// Those on the unix socket.
    pub turned_away_unix: u64,
}

/// The page, in that form.
///
/// # Errors
///
/// None is known: a String takes everything.
pub fn page(numbers: Numbers, doors: DoorNumbers, form: Form) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { numbers, doors }));
    let mut page = String::with_capacity(1 << 15);
    text::encode(&mut page, &registry)?;
    Ok(form.of_openmetrics(page))
}

/// What a look tells without an agent, for node_exporter's textfile collector.
///
/// # Errors
///
/// None is known, as above.
pub fn page_of_look(look: Looked) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(look));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(Form::Prometheus.of_openmetrics(page))
}

impl Collector for Looked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::of_look(self).iter().try_for_each(|family| encode(family, &mut encoder))
    }
}

#[derive(Debug)]
struct Scrape {
    numbers: Numbers,
    doors: DoorNumbers,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::of(&self.numbers, self.doors).iter().try_for_each(|family| encode(family, &mut encoder))
    }
}

fn encode(family: &Family<'_>, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let of_type = match family.series {
        Series::Gauge(_) => MetricType::Gauge,
        Series::Counter(_) | Series::Seconds(_) => MetricType::Counter,
        Series::Histogram(_) => MetricType::Histogram,
    };
    let mut metric = encoder.encode_descriptor(family.name, family.help, None, of_type)?;
    match &family.series {
        Series::Gauge(rows) => each(rows, &mut metric, |value, metric| metric.encode_gauge(value)),
        Series::Counter(rows) => {
            each(rows, &mut metric, |value, metric| metric.encode_counter::<NoLabelSet, _, u64>(value, None))
        }
        Series::Seconds(value) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
        Series::Histogram(rows) => each(rows, &mut metric, |value, metric| histogram(value, metric)),
    }
}

fn each<V>(
    rows: &[(Labels<'_>, V)],
    metric: &mut MetricEncoder<'_>,
    value: impl Fn(&V, &mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    rows.iter().try_for_each(|(labels, row)| match labels.is_empty() {
        true => value(row, metric),
        false => value(row, &mut metric.encode_family(labels)?),
    })
}

fn histogram(histogram: &Histogram, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    let bounds = bounds_ns().iter().map(|ns| seconds(*ns)).chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(histogram.buckets.iter().copied()).collect();
    metric.encode_histogram::<NoLabelSet>(seconds(histogram.sum_ns), histogram.buckets.iter().sum(), &buckets, None)
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of CONTRACT section 5, but for `process_*`.
    const CONTRACT: &str = "
        lockwatch_build_info{version,aya,bpf}                       lockwatch_locks{kind,mode}
        lockwatch_orphaned_locks{cause}                             lockwatch_hot_locks
        lockwatch_deadlocks                                         lockwatch_waiters{kind}
        lockwatch_oldest_orphan_seconds                             lockwatch_oldest_waiter_seconds
        lockwatch_acquisitions_total{kind,mode}                     lockwatch_releases_total{kind}
        lockwatch_contentions_total{kind}                           lockwatch_refusals_total{kind}
        lockwatch_wait_seconds_count{kind}                          lockwatch_hold_seconds_count{kind}
        lockwatch_locker_exits_total{how}                           lockwatch_orphans_detected_total{cause}
        lockwatch_clears_total{method,outcome}                      lockwatch_resyncs_total{reason}
        lockwatch_events_received_total{event}                      lockwatch_events_lost_total{stage}
        lockwatch_table_entries{table} lockwatch_table_capacity{table} lockwatch_table_full_total{table}
        lockwatch_state_exact                                       lockwatch_last_resync_timestamp_seconds
        lockwatch_config_last_reload_successful";

    fn text(form: Form) -> String {
        page(families::sample(), DoorNumbers { missed: 3, ..DoorNumbers::default() }, form).unwrap()
    }

    /// `name{label,label}` of every series that a page has.
    fn series(page: &str) -> BTreeSet<String> {
        let name = |line: &str| match line.split_once(['{', ' ']) {
            Some((name, rest)) if line.as_bytes()[name.len()] == b'{' => {
                let labels = rest.split_once('}').unwrap().0;
                let keys: Vec<_> = labels.split("\",").map(|pair| pair.split('=').next().unwrap()).collect();
                format!("{name}{{{}}}", keys.join(","))
            }
            Some((name, _)) => name.to_owned(),
            None => panic!("{line}"),
        };
        page.lines().filter(|line| !line.starts_with('#')).map(name).collect()
    }

    #[test]
    fn every_name_of_the_contract_is_there() {
        for form in [Form::Prometheus, Form::OpenMetrics] {
            let there = series(&text(form));
            let missing: Vec<_> = CONTRACT.split_whitespace().filter(|name| !there.contains(*name)).collect();
            assert_eq!(missing, [""; 0], "{form:?} in {there:#?}");
        }
    }

    #[test]
    fn no_series_is_there_twice() {
        let page = text(Form::Prometheus);
        let keys: Vec<_> =
            page.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap().0).collect();
        let once: BTreeSet<_> = keys.iter().collect();
        assert_eq!(once.len(), keys.len());
        assert!(keys.len() < 500, "{} series", keys.len());
    }

    #[test]
    fn closed_sets_are_whole_and_labels_are_escaped() {
        let page = text(Form::OpenMetrics);
        let check = |line: &str| assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        check("lockwatch_locks{kind=\"delegation\",mode=\"read\"} 0.0");
        check("lockwatch_locks{kind=\"flock\",mode=\"write\"} 7.0");
        check("lockwatch_orphaned_locks{cause=\"leaked\"} 2.0");
        check("lockwatch_orphaned_locks{cause=\"mapped\"} 0.0");
        check("lockwatch_acquisitions_total{kind=\"posix\",mode=\"read\"} 5");
        check("lockwatch_clears_total{method=\"a\\\"b\\\\\",outcome=\"c\\n\"} 1");
        check("lockwatch_policy_frozen{policy=\"stale\"} 1.0");
        check("lockwatch_policy_acts_total{policy=\"stale\",outcome=\"cleared\"} 5");
        check("lockwatch_policy_acts_total{policy=\"stale\",outcome=\"refused\"} 0");
        check("lockwatch_policy_would_total{policy=\"stale\"} 4");
        check("lockwatch_audit_bad_lines_total 2");
        check("lockwatch_events_lost_total{stage=\"readers\"} 3");
        check("lockwatch_wait_seconds_bucket{le=\"+Inf\",kind=\"flock\"} 3");
        check("lockwatch_wait_seconds_count{kind=\"flock\"} 3");
        check("lockwatch_wait_seconds_sum{kind=\"flock\"} 1.5");
        check("lockwatch_oldest_orphan_seconds 60.0");
        check("lockwatch_oldest_waiter_seconds 0.0");
    }
}
