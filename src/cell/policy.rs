//! How often a write is retried, and why it may fail.

use core::error::Error;
use core::fmt;
use core::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::Version;
use super::limit::{TimeLimit, has_passed};

/// Limits how long [`VersionedCell::try_update`](crate::VersionedCell::try_update) retries.
///
/// A policy can be stored and used any number of times, including in a `const` or a `static`. A
/// timeout starts with each call that uses the policy, and not when the policy is built. The first
/// attempt is always made, even after the deadline.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use latchwork::{RetryPolicy, VersionedCell};
///
/// const SHORT: RetryPolicy = RetryPolicy::attempts(8).or_timeout(Duration::from_millis(5));
///
/// let cell = VersionedCell::new(1);
/// for _ in 0..2 {
///     cell.try_update(&SHORT, |n| Ok::<_, ()>(n + 1)).expect("no other thread writes");
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts: Option<NonZeroU32>,
    limit: TimeLimit,
}

impl RetryPolicy {
    /// Tries indefinitely. The same as [`default`](Default::default).
    pub const fn forever() -> Self {
        RetryPolicy {
            attempts: None,
            limit: TimeLimit::NONE,
        }
    }

    /// Tries at most this many times.
    ///
    /// # Panics
    /// Panics if `attempts` is 0.
    pub const fn attempts(attempts: u32) -> Self {
        Self::forever().or_attempts(attempts)
    }

    /// Tries until this point in time.
    pub const fn deadline(deadline: Instant) -> Self {
        let mut policy = Self::forever();
        policy.limit.deadline = Some(deadline);
        policy
    }

    /// Tries for this long, from the start of each call that uses the policy.
    ///
    /// A timeout that overflows [`Instant`] waits indefinitely.
    pub const fn timeout(timeout: Duration) -> Self {
        Self::forever().or_timeout(timeout)
    }

    /// Also stops after this many attempts. The smaller number counts if it is called twice.
    ///
    /// # Panics
    /// Panics if `attempts` is 0.
    pub const fn or_attempts(mut self, attempts: u32) -> Self {
        let attempts = NonZeroU32::new(attempts)
            .expect("an update needs at least one attempt; pass 1 or more to `RetryPolicy`");
        self.attempts = match self.attempts {
            Some(before) if before.get() < attempts.get() => Some(before),
            _ => Some(attempts),
        };
        self
    }

    /// Also stops at this point in time. The earlier one counts if it is called twice.
    pub fn or_deadline(mut self, deadline: Instant) -> Self {
        self.limit.deadline = Some(self.limit.deadline.map_or(deadline, |d| d.min(deadline)));
        self
    }

    /// Also stops this long after the start of each call that uses the policy. The shorter time
    /// counts if it is called twice. The earlier end counts if a deadline is also set.
    pub const fn or_timeout(mut self, timeout: Duration) -> Self {
        self.limit.timeout = match self.limit.timeout {
            Some(before) if before.as_nanos() < timeout.as_nanos() => Some(before),
            _ => Some(timeout),
        };
        self
    }

    /// The deadline of a call that starts now.
    pub(crate) fn start(&self) -> Option<Instant> {
        self.limit.start()
    }

    /// Whether another attempt follows after so many.
    pub(crate) fn after<E>(
        &self,
        attempts: u32,
        deadline: Option<Instant>,
    ) -> Result<(), UpdateError<E>> {
        if self.attempts.is_some_and(|most| attempts >= most.get()) {
            return Err(UpdateError::Contended);
        }
        if has_passed(deadline) {
            return Err(UpdateError::TimedOut);
        }
        Ok(())
    }
}

/// Describes why [`VersionedCell::try_update`](crate::VersionedCell::try_update) did not write.
///
/// # Examples
/// ```
/// use latchwork::cell::UpdateError;
/// let error: UpdateError<&str> = UpdateError::Aborted("no funds");
/// assert_eq!(error.to_string(), "the update was aborted: no funds");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// Every attempt that the policy allows failed: another thread wrote the cell, or a transaction
    /// owned it.
    Contended,
    /// The deadline passed.
    TimedOut,
    /// The closure returned this error.
    Aborted(E),
}

impl<E: fmt::Display> fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::Contended => f.write_str(
                "every allowed attempt of the update conflicted with another write; \
                 retry, or allow more attempts",
            ),
            UpdateError::TimedOut => f.write_str(
                "the update timed out before an attempt succeeded; retry, or allow more time",
            ),
            UpdateError::Aborted(error) => write!(f, "the update was aborted: {error}"),
        }
    }
}

impl<E: Error + 'static> Error for UpdateError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            UpdateError::Aborted(error) => Some(error),
            _ => None,
        }
    }
}

/// Reports that a conditional write found another version than it expected. It contains the value.
///
/// # Examples
/// ```
/// use latchwork::{VersionedCell, cell::Version};
/// let cell = VersionedCell::new(0);
/// cell.set(1);
/// let conflict = cell.compare_and_set(Version::FIRST, 2).unwrap_err();
/// assert_eq!(conflict.to_string(), "expected version 0, but the current version is 1; read the cell again");
/// assert_eq!(conflict.value, 2);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Conflict<T> {
    /// The version that the caller expected.
    pub expected: Version,
    /// The version of the cell when the write failed.
    pub current: Version,
    /// The value that was not written.
    pub value: T,
}

impl<T> fmt::Debug for Conflict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conflict")
            .field("expected", &self.expected)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Conflict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict {
            expected, current, ..
        } = self;
        write!(
            f,
            "expected version {expected}, but the current version is {current}; read the cell again"
        )
    }
}

impl<T> Error for Conflict<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_they_are_and_where_they_come_from() {
        let of_the_caller = UpdateError::Aborted(fmt::Error);
        assert!(of_the_caller.to_string().contains(&fmt::Error.to_string()));
        let source = of_the_caller.source().expect("the caller's own");
        assert!(source.is::<fmt::Error>());
        assert!(UpdateError::<fmt::Error>::TimedOut.source().is_none());
        // The value need not be printable.
        let conflict = Conflict {
            expected: Version::new(3),
            current: Version::new(4),
            value: || (),
        };
        for text in [conflict.to_string(), format!("{conflict:?}")] {
            assert!(text.contains('3') && text.contains('4'), "{text}");
        }
    }
}
