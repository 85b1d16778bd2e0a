//! A report in the text format of Prometheus, version 0.0.4.

use core::fmt::{Display, Write as _};

use super::collect::{Aborts, Key, Map, Report, Table};

/// Returns the report. Each family has one `TYPE`, and all of its samples follow it.
pub(super) fn text(report: &Report) -> String {
    let mut out = Text(String::new());
    let counters: [TableFamily; 3] = [
        ("table_waits_total", "Waiters that have queued", |t| {
            Value::Count(t.waits)
        }),
        ("table_inflations_total", "Locks that outgrew a slot", |t| {
            Value::Count(t.inflations)
        }),
        ("table_deadlocks_total", "Deadlocks with a victim", |t| {
            Value::Count(t.deadlocks)
        }),
    ];
    let gauges: [TableFamily; 10] = [
        ("table_locked_keys", "Keys that are held", |t| {
            Value::of(t.locked)
        }),
        ("table_contended_keys", "Keys with waiters", |t| {
            Value::of(t.contended)
        }),
        ("table_waiting", "Queued waiters", |t| Value::of(t.waiting)),
        ("table_waiting_sessions", "Queued sessions", |t| {
            Value::of(t.waiting_sessions)
        }),
        ("table_waiting_sets", "Queued sets", |t| {
            Value::of(t.waiting_sets)
        }),
        (
            "table_longest_wait_seconds",
            "Longest wait that ended with the key",
            |t| Value::Nanos(t.longest_wait_ns),
        ),
        (
            "table_oldest_waiter_seconds",
            "Time for which the longest-waiting waiter is queued",
            |t| Value::Nanos(t.oldest_waiter_ns),
        ),
        ("table_index_bytes", "Size of the index", |t| {
            Value::of(t.index_bytes)
        }),
        ("table_token_bytes", "Size of the counters of tokens", |t| {
            Value::of(t.token_bytes)
        }),
        ("table_monitors", "Keys that have outgrown a slot", |t| {
            Value::of(t.monitors)
        }),
    ];
    for (kind, families) in [("counter", &counters[..]), ("gauge", &gauges[..])] {
        for (name, help, value) in families {
            out.family(name, kind, help);
            for table in &report.tables {
                out.sample(name, &[("table", &table.name)], value(table));
            }
        }
    }
    maps(&mut out, &report.tables);
    if report.names {
        keys(&mut out, &report.tables);
    }
    transactions(&mut out, report);
    let memory = &report.memory;
    let pin = memory.oldest_pin_ns.unwrap_or(0);
    for (name, help, value) in [
        (
            "garbage_values",
            "Retired values that are not dropped",
            Value::of(memory.garbage),
        ),
        (
            "garbage_bytes",
            "Size of these values",
            Value::of(memory.garbage_bytes),
        ),
        (
            "oldest_pin_seconds",
            "Age of the oldest value that a pin protects",
            Value::Nanos(pin),
        ),
    ] {
        out.family(name, "gauge", help);
        out.sample(name, &[], value);
    }
    out.0
}

/// A name, a description and a value.
type TableFamily = (&'static str, &'static str, fn(&Table) -> Value);
type MapFamily = (&'static str, &'static str, fn(&Map) -> usize);
type KeyFamily = (&'static str, &'static str, fn(&Key) -> Value);

/// The sizes of maps.
fn maps(out: &mut Text, tables: &[Table]) {
    let families: [MapFamily; 4] = [
        ("map_keys", "Keys with a value", |map| map.len),
        ("map_entries", "Entries, with those of absent keys", |map| {
            map.entries
        }),
        ("map_removed", "Records of entries to be freed", |map| {
            map.removed
        }),
        ("map_index_bytes", "Size of the index of a map", |map| {
            map.index_bytes
        }),
    ];
    for (name, help, value) in families {
        out.family(name, "gauge", help);
        for table in tables {
            if let Some(map) = &table.map {
                out.sample(name, &[("table", &table.name)], Value::of(value(map)));
            }
        }
    }
}

/// The contended keys. They are samples only if names are shown: identities of keys would be a
/// series each.
fn keys(out: &mut Text, tables: &[Table]) {
    let families: [KeyFamily; 2] = [
        ("key_waiting", "Queued waiters of a key", |key| {
            Value::of(key.waiting)
        }),
        (
            "key_held_seconds",
            "Time for which a key is held since its first waiter queued",
            |key| Value::Nanos(key.held_ns),
        ),
    ];
    for (name, help, value) in families {
        out.family(name, "gauge", help);
        for table in tables {
            for key in &table.keys {
                if let Some(label) = &key.label {
                    // Two keys may have one label, so the identity distinguishes the series.
                    let labels: [(&str, &str); 3] =
                        [("table", &table.name), ("key", label), ("id", &key.id)];
                    out.sample(name, &labels, value(key));
                }
            }
        }
    }
}

fn transactions(out: &mut Text, report: &Report) {
    let reasons = |aborts: &Aborts| {
        [
            ("read_conflict", aborts.read_conflicts),
            ("write_conflict", aborts.write_conflicts),
            ("overtaken", aborts.overtaken),
        ]
    };
    let name = "aborted_attempts_total";
    out.family(name, "counter", "Aborted attempts of all transactions");
    for (reason, count) in reasons(&report.transactions.aborts) {
        out.sample(name, &[("reason", reason)], Value::Count(count));
    }
    let name = "label_aborted_attempts_total";
    out.family(name, "counter", "Aborted attempts by label");
    for of in &report.transactions.labels {
        for (reason, count) in reasons(&of.aborts) {
            let labels = [("label", of.label), ("reason", reason)];
            out.sample(name, &labels, Value::Count(count));
        }
    }
    let name = "label_transactions_total";
    out.family(name, "counter", "Transactions that have ended, by label");
    for of in &report.transactions.labels {
        for (outcome, count) in [
            ("committed", of.commits),
            ("contended", of.contended),
            ("timed_out", of.timed_out),
            ("aborted", of.aborted),
            ("retried_without_reads", of.retries_without_reads),
            ("panicked", of.panicked),
            ("cancelled", of.cancelled),
        ] {
            let labels = [("label", of.label), ("outcome", outcome)];
            out.sample(name, &labels, Value::Count(count));
        }
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
enum Value {
    Count(u64),
    /// Written in seconds.
    Nanos(u64),
}

impl Value {
    fn of(count: usize) -> Self {
        Value::Count(count as u64)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Nanos(nanos) => {
                write!(f, "{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
            }
        }
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP latchwork_{name} {help}."));
        self.line(format_args!("# TYPE latchwork_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: Value) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        if labels.is_empty() {
            self.line(format_args!("latchwork_{name} {value}"));
        } else {
            self.line(format_args!(
                "latchwork_{name}{{{}}} {value}",
                labels.join(",")
            ));
        }
    }

    fn line(&mut self, line: core::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string accepts all text");
    }
}

/// Returns the value of a label as it stands between quotes.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!(Value::Nanos(1_000_000_007).to_string(), "1.000000007");
        assert_eq!(Value::Nanos(0).to_string(), "0.000000000");
    }
}
