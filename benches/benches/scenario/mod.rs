//! Runs the scenarios of the sweep under criterion, each contender in turn, and prints the
//! durations of single operations.

use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Throughput};
use latchwork_bench::ratio::Quartiles;
use latchwork_bench::scenarios::{self, Axis, Scenario, Setting};
use latchwork_bench::times::Times;

use crate::settings;

/// The duration of one run: criterion makes many.
const SPAN: Duration = Duration::from_millis(10);

/// Asks these, each as a group: by threads, as many as cores and four times as many; or with all
/// values of what varies.
///
/// # Panics
/// If one of them is not a scenario.
#[allow(dead_code, reason = "one of two ways to ask")]
pub(crate) fn ask(names: &[&str]) {
    ask_in(names, |axis| match axis {
        Axis::Threads => crossed(&[1, 4], None),
        Axis::Value {
            values, per_core, ..
        } => crossed(&[per_core], Some(values)),
    });
}

/// Asks these, each as a group, with all values of what varies on all numbers of threads: one, and
/// one, two and four for each core.
///
/// # Panics
/// If one of them is not a scenario, or has nothing but the threads that varies.
#[allow(dead_code, reason = "the other way to ask")]
pub(crate) fn cross(names: &[&str]) {
    ask_in(names, |axis| match axis {
        Axis::Threads => panic!("nothing to cross the threads with"),
        Axis::Value { values, .. } => {
            let alone = values.iter().map(|&value| setting(1, value));
            alone.chain(crossed(&[1, 2, 4], Some(values))).collect()
        }
    });
}

/// So many threads for each core, each number with each of the values; without any, with itself.
fn crossed(per_core: &[usize], values: Option<&[f64]>) -> Vec<Setting> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = per_core.iter().map(|per_core| per_core * cores);
    let with_each = |threads| match values {
        None => vec![setting(threads, threads as f64)],
        Some(values) => values.iter().map(|&v| setting(threads, v)).collect(),
    };
    threads.flat_map(with_each).collect()
}

fn setting(threads: usize, value: f64) -> Setting {
    Setting {
        threads,
        value,
        seed: 1,
    }
}

fn ask_in(names: &[&str], settings_of: impl Fn(Axis) -> Vec<Setting>) {
    let mut criterion = settings::criterion();
    for name in names {
        let scenario = scenarios::named(name);
        let mut group = criterion.benchmark_group(scenario.name);
        group.throughput(Throughput::Elements(1));
        for setting in settings_of(scenario.axis) {
            for contender in &scenario.contenders {
                let mut times = Times::new(scenario.every);
                let mut fairness = Vec::new();
                let id = BenchmarkId::new(contender.name, point(&scenario, setting));
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|wanted| {
                        let load = contender.build(setting);
                        let outcome = load.run(setting.threads, SPAN, scenario.every);
                        times.add(&outcome.times);
                        fairness.push(outcome.fairness);
                        // The time that so many operations need with all threads together. If a run
                        // had none, one operation in a second is already an overestimate.
                        Duration::from_secs_f64(wanted as f64 / outcome.rate.max(1.0))
                    });
                });
                // Criterion does not run the benchmarks that its command line excludes.
                if let Some(fairness) = Quartiles::of(fairness).filter(|_| !times.is_empty()) {
                    println!(
                        "{:24}{}; Jain's index {:.2}\n",
                        "",
                        times.in_words(),
                        fairness.median
                    );
                }
            }
        }
        group.finish();
    }
    criterion.final_summary();
}

/// The name of a setting.
fn point(scenario: &Scenario, setting: Setting) -> String {
    let threads = setting.threads;
    let noun = if threads == 1 { "thread" } else { "threads" };
    match scenario.axis {
        Axis::Threads => format!("{threads} {noun}"),
        Axis::Value { .. } => format!("{}, {threads} {noun}", setting.value),
    }
}
