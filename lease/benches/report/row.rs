//! One row of the report, and the statistics behind it.

use std::time::Duration;

/// The limit of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    pub(crate) fn is_reached(self, figure: f64) -> bool {
        match self {
            Target::AtMost(limit) => figure <= limit,
            Target::AtLeast(limit) => figure >= limit,
        }
    }
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) against: &'static str,
    pub(crate) target: Option<Target>,
    pub(crate) figure: f64,
    pub(crate) quartiles: Option<(f64, f64)>,
    /// Follows the figure.
    pub(crate) unit: &'static str,
    pub(crate) context: String,
    /// Whether a lower figure is better.
    pub(crate) lower: bool,
}

impl Row {
    /// A figure without a baseline.
    pub(crate) fn alone(what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Row {
            what: what.into(),
            against: "",
            target: None,
            figure,
            quartiles: None,
            unit,
            context: String::new(),
            lower: true,
        }
    }

    /// The ratio of our results and those of the baseline, which alternated.
    pub(crate) fn ratio(
        what: impl Into<String>,
        against: &'static str,
        pairs: &[(f64, f64)],
    ) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        Row {
            against,
            quartiles: Some((quantile(&ratios, 0.25), quantile(&ratios, 0.75))),
            ..Row::alone(what, quantile(&ratios, 0.5), "")
        }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.lower = matches!(target, Target::AtMost(_));
        self.target = Some(target);
        self
    }

    pub(crate) fn context(mut self, context: impl Into<String>) -> Self {
        self.context = context.into();
        self
    }

    pub(crate) fn reached(&self) -> Option<bool> {
        self.target.map(|target| target.is_reached(self.figure))
    }
}

/// Returns a quantile of a list that is not empty: the nearest rank.
pub(crate) fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

/// Returns the medians of both sides.
pub(crate) fn medians(pairs: &[(f64, f64)]) -> (f64, f64) {
    let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    (quantile(&ours, 0.5), quantile(&theirs, 0.5))
}

/// Measures both sides in turn, and lets the side that begins alternate.
pub(crate) fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> Vec<(f64, f64)> {
    (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let first = ours();
                (first, theirs())
            } else {
                let first = theirs();
                (ours(), first)
            }
        })
        .collect()
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
