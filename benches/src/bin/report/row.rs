//! One line of the report: a measurement, its baseline, and whether the result is good enough.

use latchwork_bench::ratio::{Comparison, Quartiles};

/// A bound that was set before the measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

/// How to read the number when choosing between this crate and a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sense {
    /// Time of ours divided by time of a peer's.
    Time,
    /// Throughput of ours divided by throughput of a peer's.
    Throughput,
    /// No peer is involved.
    Alone,
}

/// One measured figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) against: String,
    pub(crate) unit: &'static str,
    pub(crate) sense: Sense,
    pub(crate) target: Option<Target>,
    /// `None` if nothing measured could be believed.
    pub(crate) value: Option<Quartiles>,
    pub(crate) context: String,
}

impl Row {
    fn new(what: &str, against: &str, sense: Sense) -> Self {
        Self {
            what: what.to_owned(),
            against: against.to_owned(),
            unit: "",
            sense,
            target: None,
            value: None,
            context: String::new(),
        }
    }

    /// A ratio of times, smaller is better.
    pub(crate) fn time(what: &str, against: &str, result: &Comparison) -> Self {
        Self {
            value: Some(result.ratio),
            context: format!("{:.1} / {:.1} ns", result.subject, result.baseline),
            ..Self::new(what, against, Sense::Time)
        }
    }

    /// A ratio of throughputs, greater is better.
    pub(crate) fn throughput(what: &str, against: &str, result: &Comparison) -> Self {
        let (subject, baseline) = (result.subject / 1e6, result.baseline / 1e6);
        Self {
            value: Some(result.ratio),
            context: format!("{subject:.1} / {baseline:.1} million a second"),
            ..Self::new(what, against, Sense::Throughput)
        }
    }

    /// The ratio of the work of two threads to the work of one.
    pub(crate) fn scaling(what: &str, value: Option<Quartiles>, context: String) -> Self {
        Self {
            value,
            context,
            ..Self::new(what, "one thread", Sense::Alone)
        }
    }

    /// By how many nanoseconds ours is longer, smaller is better.
    pub(crate) fn nanoseconds(
        what: &str,
        against: &str,
        value: Option<Quartiles>,
        context: String,
    ) -> Self {
        Self {
            value,
            unit: " ns",
            context,
            ..Self::new(what, against, Sense::Alone)
        }
    }

    /// A ratio of throughputs if enough rounds are believed, greater is better.
    pub(crate) fn quotient(
        what: &str,
        against: &str,
        value: Option<Quartiles>,
        context: String,
    ) -> Self {
        Self {
            value,
            context,
            ..Self::new(what, against, Sense::Throughput)
        }
    }

    /// A number of bytes.
    pub(crate) fn bytes(what: &str, against: &str, value: Quartiles) -> Self {
        Self {
            value: Some(value),
            unit: " B",
            ..Self::new(what, against, Sense::Alone)
        }
    }

    /// Some memory.
    pub(crate) fn mebibytes(what: &str, value: Quartiles) -> Self {
        Self {
            value: Some(value),
            unit: " MiB",
            ..Self::new(what, "", Sense::Alone)
        }
    }

    /// A number of bytes that is the same in every run.
    pub(crate) fn exact_bytes(what: &str, value: f64) -> Self {
        Self::exact(what, value, " B")
    }

    /// A duration.
    pub(crate) fn seconds(what: &str, value: Quartiles, context: String) -> Self {
        Self {
            value: Some(value),
            unit: " s",
            context,
            ..Self::new(what, "", Sense::Alone)
        }
    }

    /// A number of things that is the same in every run.
    pub(crate) fn exact(what: &str, value: f64, unit: &'static str) -> Self {
        Self {
            value: Some(Quartiles {
                lower: value,
                median: value,
                upper: value,
            }),
            unit,
            ..Self::new(what, "", Sense::Alone)
        }
    }

    /// A part of something, in hundredths.
    pub(crate) fn percent(what: &str, against: &str, value: Quartiles) -> Self {
        Self {
            value: Some(value),
            unit: " %",
            ..Self::new(what, against, Sense::Alone)
        }
    }

    /// A number of times a bound that theory gives, smaller is better.
    pub(crate) fn times(what: &str, against: &str, value: Quartiles, context: String) -> Self {
        Self {
            value: Some(value),
            context,
            ..Self::new(what, against, Sense::Alone)
        }
    }

    pub(crate) fn at_most(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtMost(bound));
        self
    }

    pub(crate) fn at_least(mut self, bound: f64) -> Self {
        self.target = Some(Target::AtLeast(bound));
        self
    }

    /// Marks a row that offers no choice between ours and theirs: the baseline is the table itself
    /// in another state, or the subject is nothing that could be chosen.
    pub(crate) fn against_itself(mut self) -> Self {
        self.sense = Sense::Alone;
        self
    }

    pub(crate) fn with_context(mut self, context: String) -> Self {
        self.context = context;
        self
    }

    /// Whether the target is reached; `None` without a target.
    pub(crate) fn reached(&self) -> Option<bool> {
        let target = self.target?;
        Some(
            self.value
                .is_some_and(|value| target.is_met_by(value.median)),
        )
    }
}
