//! Leader election over leases: [`Leadership`] and [`Watch`].

use core::ops::Deref;
use std::time::{Duration, SystemTime};

use latchwork::table::FencingToken;

use crate::clock::{self, Timestamp};
use crate::engine::{EngineError, Nonce};
use crate::error::{AcquireError, CallError, ReleaseError};
use crate::future::{LeaseFuture, sleep, wait_hint};
use crate::holder::{Holder, WATCH_AGAIN};
use crate::lease::{Lease, Release};
use crate::leases::Leases;
use crate::name;
use crate::wait::{Pace, block_on_until};

/// The leadership of an election: a lease on its name.
///
/// Returned by [`Leases::campaign`]. It ends as a [`Lease`] does, whose methods it has.
///
/// # Examples
/// ```
/// use latchwork_lease::Leases;
/// use std::time::Duration;
/// let leases = Leases::builder().owner_label("node 1").connect("memory:")?;
/// let mut watch = leases.watch("scheduler")?;
/// assert!(watch.next()?.is_none());
/// let leadership = leases.campaign("scheduler", Duration::from_secs(10))?;
/// assert!(leadership.is_held());
/// assert_eq!(watch.next()?.expect("a leader").owner_label, "node 1");
/// leadership.resign()?;
/// assert!(watch.next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the leadership is resigned at once if it is not used"]
#[derive(Debug)]
pub struct Leadership {
    lease: Lease,
}

impl Leadership {
    /// Resigns, so that another candidate can lead at once.
    ///
    /// # Blocking
    /// Blocks as [`Lease::release`] does.
    ///
    /// # Errors
    /// Returns an error as [`Lease::release`] does.
    pub fn resign(self) -> Result<Release, ReleaseError> {
        self.lease.release()
    }

    /// Returns the lease.
    pub fn into_lease(self) -> Lease {
        self.lease
    }
}

impl Deref for Leadership {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Leases {
    /// Waits until this process leads the election `name`.
    ///
    /// An election is a lease on its name: [`acquire`](Self::acquire) competes with it. Exactly one
    /// candidate leads within [`guarantees`](Self::guarantees).
    ///
    /// # Blocking
    /// Blocks the thread until the lease is granted.
    ///
    /// # Errors
    /// Returns an error as [`acquire`](Self::acquire) does.
    pub fn campaign(&self, name: &str, ttl: Duration) -> Result<Leadership, AcquireError> {
        let lease = self.acquire(name, ttl)?;
        Ok(Leadership { lease })
    }

    /// As [`campaign`](Self::campaign), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point, as that of [`acquire_async`](Self::acquire_async).
    pub fn campaign_async(
        &self,
        name: &str,
        ttl: Duration,
    ) -> LeaseFuture<Result<Leadership, AcquireError>> {
        let acquire = self.acquire_async(name, ttl);
        LeaseFuture::new(async move {
            let lease = acquire.await?;
            Ok(Leadership { lease })
        })
    }

    /// Observes the holder of a name, or the leader of an election.
    ///
    /// # Errors
    /// Returns an error if the name is refused.
    pub fn watch(&self, name: &str) -> Result<Watch, CallError> {
        name::check(name)?;
        let number = clock::random().map_err(EngineError::not_done)?;
        Ok(Watch {
            leases: self.clone(),
            name: name.to_owned(),
            nonce: Nonce::new(number),
            seen: None,
            pace: Pace::default(),
        })
    }
}

/// Observes the holder of a name. Returned by [`Leases::watch`].
///
/// The first call returns the present holder, and each further call waits for a change. Holders
/// between two calls may be missed. A renewal is no change.
#[derive(Debug)]
pub struct Watch {
    leases: Leases,
    name: String,
    nonce: Nonce,
    /// The identity of the holder that was returned last.
    seen: Option<Option<(FencingToken, String)>>,
    pace: Pace,
}

impl Watch {
    /// Waits for a change, and returns the holder then.
    ///
    /// # Blocking
    /// Blocks the thread until the holder changes.
    ///
    /// # Errors
    /// Returns an error if a request fails. The call may be repeated.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Holder>, CallError> {
        block_on_until(self.changed(), None).expect("there is no time limit")
    }

    /// Waits for a change without blocking the thread, and returns the holder then.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. The next call reports the change.
    ///
    /// # Errors
    /// Returns an error if a request fails. The call may be repeated.
    pub async fn changed(&mut self) -> Result<Option<Holder>, CallError> {
        loop {
            let holder = self.leases.holder_async(&self.name).await?;
            let identity = holder
                .as_ref()
                .map(|holder| (holder.token, holder.owner_label.clone()));
            if self.seen.as_ref() != Some(&identity) {
                self.seen = Some(identity);
                return Ok(holder);
            }
            self.pause(holder).await;
        }
    }

    /// Waits until the holder may have changed.
    async fn pause(&mut self, holder: Option<Holder>) {
        let core = self.leases.core();
        let now = Timestamp::now();
        let Some(holder) = holder else {
            // No engine reports a grant.
            let often = self
                .leases
                .guarantees()
                .hand_over
                .max(Duration::from_millis(20));
            return sleep(core, now.plus(often.min(WATCH_AGAIN))).await;
        };
        let left = holder
            .expires
            .duration_since(SystemTime::now())
            .unwrap_or_default();
        let left = left.clamp(Duration::from_millis(5), WATCH_AGAIN);
        wait_hint(core, &self.name, self.nonce, now.plus(left), &mut self.pace).await;
    }
}
