//! A lease and its end: [`Lease`], [`LeaseLost`], [`LossReason`].

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::sync::Arc;
use std::time::{Duration, Instant};

use latchwork::table::{Fence, FencingToken};

use crate::acquisition::Event;
use crate::clock::Timestamp;
use crate::engine::Released;
use crate::error::ReleaseError;
use crate::future::{LeaseFuture, NOT_RUN, run};
use crate::shared::Shared;

/// A lease on a name. It is renewed in the background until it is released, dropped or lost.
///
/// Returned by [`Leases::acquire`](crate::Leases::acquire) and its other forms. It may be sent to
/// another thread, and shared.
///
/// A lease can be lost while it exists: see [`is_held`](Self::is_held). A holder that was paused
/// does not observe the loss in time. So let each effect check the [`fence`](Self::fence).
///
/// # Dropping
/// The lease is released in the background. An engine that cannot be reached is retried until the
/// lease is over. [`Leases::shutdown`](crate::Leases::shutdown) waits for such releases.
///
/// A forgotten lease ([`core::mem::forget`]) is renewed for as long as the process runs. If `main`
/// returns, or the process ends otherwise, its leases expire.
///
/// # Suspension
/// On Linux and Android, the lease ends while the machine is suspended, and `is_held` is false as
/// soon as it resumes. Waiters are notified at most a second later. Elsewhere the clock of the
/// process may stand still during that time.
///
/// # Fork
/// The child of a fork has no leases: `is_held` is false there, and dropping has no effect.
///
/// # Examples
/// ```
/// use latchwork::table::FencedCell;
/// use latchwork_lease::Leases;
/// use std::time::Duration;
///
/// let leases = Leases::connect("memory:")?;
/// let report = FencedCell::new("empty");
/// let lease = leases.acquire("reports/nightly", Duration::from_secs(10))?;
/// report.write(lease.fence(), "written by the holder")?;
/// lease.release()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the lease is released at once if it is not used"]
pub struct Lease {
    shared: Arc<Shared>,
    token: FencingToken,
}

impl Lease {
    pub(crate) fn new(shared: Arc<Shared>, token: FencingToken) -> Self {
        Lease { shared, token }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// Returns the length of the lease, which each renewal restores.
    pub fn ttl(&self) -> Duration {
        self.shared.ttl()
    }

    /// Returns the credentials of this holder for a resource: the token and the nonce.
    pub fn fence(&self) -> Fence {
        Fence::new(self.token, self.shared.nonce().get())
    }

    /// Returns the token, which is greater than those of all earlier leases of the name.
    ///
    /// [`Leases::guarantees`](crate::Leases::guarantees) states when this order holds.
    pub fn token(&self) -> FencingToken {
        self.token
    }

    /// Returns whether the lease is held, by the clock of this process.
    ///
    /// It is false from the end of the lease, minus drift, whatever the engine does, and never
    /// becomes true again. It is false earlier if the engine reported that the lease has ended.
    ///
    /// # Blocking
    /// Never blocks, and makes no request.
    pub fn is_held(&self) -> bool {
        self.shared.lost().is_none()
    }

    /// Returns the time from which [`is_held`](Self::is_held) is false, unless a renewal succeeds
    /// before.
    pub fn deadline(&self) -> Instant {
        self.shared.valid_until().to_instant()
    }

    /// Returns a future that is ready when the lease is lost or released.
    ///
    /// It borrows nothing, so it can be polled while the lease is moved or dropped.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point.
    ///
    /// # Examples
    /// ```
    /// # pollster::block_on(async {
    /// use latchwork_lease::{Leases, LossReason};
    /// use std::time::Duration;
    /// let leases = Leases::connect("memory:").expect("in memory");
    /// let lease = leases.acquire_async("a", Duration::from_secs(10)).await.expect("in memory");
    /// let lost = lease.lost();
    /// drop(lease);
    /// assert_eq!(lost.await, LossReason::Released);
    /// # });
    /// ```
    pub fn lost(&self) -> LeaseLost {
        LeaseLost {
            shared: self.shared.clone(),
            number: None,
        }
    }

    /// Blocks until the lease is lost, at most for `timeout`, and returns the reason.
    ///
    /// Returns `None` if the lease is still held.
    ///
    /// # Blocking
    /// Blocks the thread.
    pub fn wait_lost_for(&self, timeout: Duration) -> Option<LossReason> {
        self.shared.wait_lost(Timestamp::now().plus(timeout))
    }

    /// Calls `f` once when the lease is lost or released, on a thread of the crate.
    ///
    /// If the lease is lost already, `f` is called soon. A panic of `f` is ignored.
    ///
    /// At most eight callbacks of a [`Leases`](crate::Leases) and its clones run at once. The
    /// others wait, so a callback must not block for long.
    pub fn on_lost(&self, f: impl FnOnce(LossReason) + Send + 'static) {
        if !self.shared.core().is_foreign() {
            self.shared.on_lost(Box::new(f));
        }
    }

    /// Releases the lease, and returns whether it was held until then.
    ///
    /// # Blocking
    /// Blocks until the engine has answered, at most for the time limit of a request.
    ///
    /// # Errors
    /// Returns an error if the engine did not confirm the release. The release is then repeated in
    /// the background until the lease is over. [`is_held`](Self::is_held) was false before the
    /// request was sent.
    pub fn release(self) -> Result<Release, ReleaseError> {
        if self.shared.core().is_foreign() {
            return Ok(Release::WasLost);
        }
        match self.shared.release_now(LossReason::Released) {
            Some(Ok(Released::Done)) => Ok(Release::Done),
            Some(Ok(Released::WasLost)) | None => Ok(Release::WasLost),
            Some(Err(error)) => Err(ReleaseError {
                source: error.source,
            }),
        }
    }

    /// As [`release`](Self::release), without blocking the thread.
    ///
    /// # Cancel safety
    /// The future may be dropped at any point. The lease is then released in the background.
    pub fn release_async(self) -> LeaseFuture<Result<Release, ReleaseError>> {
        LeaseFuture::new(async move {
            let core = self.shared.core().clone();
            if core.is_foreign() {
                return Ok(Release::WasLost);
            }
            let released = run(&core, move |_| self.release()).await;
            released.unwrap_or_else(|| {
                Err(ReleaseError {
                    source: NOT_RUN.into(),
                })
            })
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.shared.core().is_foreign() {
            self.shared.feed(Event::Abandon(LossReason::Released));
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", &self.name())
            .field("token", &self.token)
            .field("is_held", &self.is_held())
            .finish_non_exhaustive()
    }
}

/// The result of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The lease was held until it was released.
    Done,
    /// The lease had ended before. Another holder may have had the name since.
    WasLost,
}

/// The reason why a lease is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// The lease ended by the clock of this process: no renewal succeeded in time.
    Expired,
    /// The engine reported that the lease has ended: it was broken, or expired there.
    TakenAway,
    /// The holder released or dropped the lease.
    Released,
    /// The lease was ended by [`Leases::shutdown`](crate::Leases::shutdown).
    Shutdown,
}

impl LossReason {
    pub(crate) fn number(self) -> u8 {
        match self {
            LossReason::Expired => 1,
            LossReason::TakenAway => 2,
            LossReason::Released => 3,
            LossReason::Shutdown => 4,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(LossReason::Expired),
            2 => Some(LossReason::TakenAway),
            3 => Some(LossReason::Released),
            4 => Some(LossReason::Shutdown),
            _ => None,
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LossReason::Expired => "the lease was not renewed in time",
            LossReason::TakenAway => "the engine ended the lease",
            LossReason::Released => "the lease was released",
            LossReason::Shutdown => "the leases were shut down",
        })
    }
}

/// The future of [`Lease::lost`].
#[must_use = "a future does nothing unless it is polled"]
pub struct LeaseLost {
    shared: Arc<Shared>,
    number: Option<u64>,
}

impl Future for LeaseLost {
    type Output = LossReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LossReason> {
        let this = &mut *self;
        match this.shared.poll_lost(&mut this.number, cx.waker()) {
            Some(reason) => Poll::Ready(reason),
            None => Poll::Pending,
        }
    }
}

impl Drop for LeaseLost {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.forget_waker(number);
        }
    }
}

impl fmt::Debug for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseLost")
            .field("name", &self.shared.name())
            .finish_non_exhaustive()
    }
}
