//! How long criterion measures: short, because the whole suite is for working on the code.

use std::time::Duration;

use criterion::Criterion;

/// The settings of every bench, with the command line's on top.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args()
}
