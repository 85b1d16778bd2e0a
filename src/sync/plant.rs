//! Bugs on purpose: each instrument of `VERIFICATION.md` has to find one.
//!
//! Only a build with the cfg `latchwork_plant` has them, and of them the one that the environment variable
//! `LATCHWORK_PLANT` names. In any other build the answer is known while compiling, and nothing is left of the question.
//! `ci/plants.sh` says which instrument finds which.

/// Whether this run has the bug of that name.
#[cfg(not(latchwork_plant))]
#[inline(always)]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}

/// Whether this run has the bug of that name.
#[cfg(latchwork_plant)]
pub(crate) fn planted(bug: &str) -> bool {
    static BUG: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("LATCHWORK_PLANT").ok());
    BUG.as_deref() == Some(bug)
}
