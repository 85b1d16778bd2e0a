//! Asks the scenarios of the sweep under criterion, each contender in turn, and prints how long single operations took.

use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Throughput};
use latchwork_bench::ratio::Quartiles;
use latchwork_bench::scenarios::{self, Axis, Scenario, Setting};
use latchwork_bench::times::Times;

use crate::settings;

/// How long one run is: criterion wants many.
const SPAN: Duration = Duration::from_millis(10);

/// Asks these, each as a group.
///
/// # Panics
/// If one of them is not a scenario.
pub(crate) fn ask(names: &[&str]) {
    let mut criterion = settings::criterion();
    for name in names {
        let scenario = scenarios::named(name);
        let mut group = criterion.benchmark_group(scenario.name);
        group.throughput(Throughput::Elements(1));
        for setting in settings_of(&scenario) {
            for contender in &scenario.contenders {
                let mut times = Times::new(scenario.every);
                let mut fairness = Vec::new();
                let id = BenchmarkId::new(contender.name, setting.value);
                group.bench_function(id, |bencher| {
                    bencher.iter_custom(|wanted| {
                        let load = contender.build(setting);
                        let outcome = load.run(setting.threads, SPAN, scenario.every);
                        times.add(&outcome.times);
                        fairness.push(outcome.fairness);
                        // What so many take of all threads together. Where not one was done in a run, one a second is
                        // too many already.
                        Duration::from_secs_f64(wanted as f64 / outcome.rate.max(1.0))
                    });
                });
                // Criterion does not run what its command line leaves out.
                if let Some(fairness) = Quartiles::of(fairness).filter(|_| !times.is_empty()) {
                    println!(
                        "{:24}half took {} ns at the most, 99% {} ns, 99.9% {} ns, the longest {} ns; Jain's index {:.2}\n",
                        "",
                        times.nanos(0.5),
                        times.nanos(0.99),
                        times.nanos(0.999),
                        times.nanos(1.0),
                        fairness.median
                    );
                }
            }
        }
        group.finish();
    }
    criterion.final_summary();
}

/// As many threads as cores, and four times as many; or all values.
fn settings_of(scenario: &Scenario) -> Vec<Setting> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let setting = |threads, value| Setting {
        threads,
        value,
        seed: 1,
    };
    match scenario.axis {
        Axis::Threads => [cores, 4 * cores]
            .map(|threads| setting(threads, threads as f64))
            .to_vec(),
        Axis::Value {
            values, per_core, ..
        } => values
            .iter()
            .map(|&value| setting(per_core * cores, value))
            .collect(),
    }
}
