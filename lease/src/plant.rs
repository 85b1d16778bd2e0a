//! Deliberate bugs: for each of them, a test must fail.
//!
//! Only a build with the cfg `latchwork_plant` contains them, and only the one that the environment
//! variable `LATCHWORK_PLANT` names is active. `ci/lease_plants.sh` lists the tests.

/// Returns whether the bug with that name is active.
#[cfg(not(latchwork_plant))]
#[inline(always)]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}

/// Returns whether the bug with that name is active.
#[cfg(latchwork_plant)]
pub(crate) fn planted(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("LATCHWORK_PLANT").ok());
    BUG.as_deref() == Some(bug)
}
