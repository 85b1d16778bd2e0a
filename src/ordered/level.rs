//! Levels, and the keys that say which may be locked.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A level of locks. Implemented by [`levels!`](crate::levels), and by hand only at the price of the guarantee.
pub trait Level: 'static {
    /// How many levels lie below it.
    const RANK: u32;
}

/// Says that a lock of this level may be taken while one of level `L` is held. Implemented by [`levels!`](crate::levels); an
/// implementation by hand that contradicts the ranks does not build where it is used.
#[diagnostic::on_unimplemented(
    message = "the level `{Self}` does not come after `{L}`, which is held here",
    label = "this lock must be taken before those of level `{L}`",
    note = "`levels!` lists the levels in the order in which they may be taken"
)]
pub trait Above<L: Level>: Level {}

/// Where a thread begins: below all levels. No lock is of this level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bottom {}

impl Level for Bottom {
    const RANK: u32 = 0;
}

/// Declares levels of locks, the lowest first: a lock of one may be taken while locks of those before it are held.
///
/// Each is a type of its own that has no values. With `after` a level of other levels, they all lie above that one; a key of a
/// lower level of those is brought there by [`LevelToken::skip_to`](crate::ordered::LevelToken::skip_to).
///
/// # Examples
/// ```
/// use latchwork::ordered::{OrderedMutex, RootToken};
///
/// mod storage {
///     latchwork::levels! {
///         /// The map of pages.
///         pub Map;
///         /// One page.
///         pub Page;
///     }
/// }
/// mod log {
///     latchwork::levels! {
///         after crate::storage::Page;
///         pub(crate) Buffer;
///     }
/// }
/// # fn main() {
/// let map: OrderedMutex<storage::Map, u32> = OrderedMutex::new(1);
/// let buffer: OrderedMutex<log::Buffer, u32> = OrderedMutex::new(2);
/// let mut root = RootToken::take().expect("this thread has no other");
/// let (map, mut key) = map.lock(&mut root);
/// let mut key = key.skip_to::<storage::Page>();
/// let (buffer, _) = buffer.lock(&mut key);
/// assert_eq!(*map + *buffer, 3);
/// # }
/// ```
#[macro_export]
macro_rules! levels {
    (after $base:ty; $($levels:tt)*) => {
        $crate::__levels! { [$base, $crate::ordered::Bottom] $($levels)* }
    };
    ($($levels:tt)*) => {
        $crate::__levels! { [$crate::ordered::Bottom] $($levels)* }
    };
}

/// One level after the other, with those that lie below it in brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! __levels {
    ([$($below:ty),+]) => {};
    ([$last:ty $(, $below:ty)*] $(#[$attribute:meta])* $visibility:vis $name:ident; $($rest:tt)*) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visibility enum $name {}

        impl $crate::ordered::Level for $name {
            const RANK: u32 = <$last as $crate::ordered::Level>::RANK + 1;
        }
        // Looked at where it is declared: two sets that lie above each other end here.
        const _: u32 = <$name as $crate::ordered::Level>::RANK;

        impl $crate::ordered::Above<$last> for $name {}
        $(impl $crate::ordered::Above<$below> for $name {})*

        $crate::__levels! { [$name, $last $(, $below)*] $($rest)* }
    };
}

/// Says up to which level a thread holds locks: it may lock what lies above `L`.
///
/// A lock lends it out for as long as its guard lives, and gives another. It takes no room, and stays on its thread.
///
/// # Examples
/// ```compile_fail,E0277
/// let mut root = latchwork::ordered::RootToken::take().unwrap();
/// std::thread::spawn(move || drop(root)); // a key is not `Send`
/// ```
/// ```
/// let mut root = latchwork::ordered::RootToken::take().unwrap();
/// std::thread::spawn(|| drop(latchwork::ordered::RootToken::take())); // each thread has its own
/// drop(root);
/// ```
pub struct LevelToken<'k, L: Level> {
    lent: PhantomData<&'k mut ()>,
    /// Invariant: a level must not become another by coercion.
    level: PhantomData<fn(L) -> L>,
    stays: PhantomData<*const ()>,
}

impl<L: Level> LevelToken<'_, L> {
    const fn new() -> Self {
        LevelToken {
            lent: PhantomData,
            level: PhantomData,
            stays: PhantomData,
        }
    }

    /// The key for locks above `M`: what lies between is not locked under it.
    ///
    /// # Examples
    /// ```
    /// use latchwork::ordered::{OrderedMutex, RootToken};
    /// latchwork::levels! {
    ///     pub Lower;
    ///     pub Upper;
    /// }
    /// let mut root = RootToken::take().unwrap();
    /// let key = root.skip_to::<Lower>();
    /// drop(key);
    /// assert_eq!(*OrderedMutex::<Lower, _>::new(1).lock(&mut root).0, 1); // the key itself is as it was
    /// ```
    #[inline(always)]
    pub fn skip_to<M: Above<L>>(&mut self) -> LevelToken<'_, M> {
        LevelToken::after::<L>()
    }

    /// The key of a lock of this level, which was taken with a key of level `K`.
    #[inline(always)]
    pub(super) fn after<K: Level>() -> Self
    where
        L: Above<K>,
    {
        const {
            assert!(
                L::RANK > K::RANK,
                "an implementation of `Above` that contradicts the ranks of its levels"
            );
        }
        LevelToken::new()
    }
}

impl<L: Level> fmt::Debug for LevelToken<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LevelToken")
            .field("level", &core::any::type_name::<L>())
            .finish()
    }
}

thread_local! {
    /// Whether this thread's root key is taken. It has no destructor, so it is there to the end of the thread.
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// The key that a thread begins with: one at a time on each thread, for all levels of the program.
///
/// It derefs to [`LevelToken<'_, Bottom>`](LevelToken). Take it where the thread begins its work, and pass `&mut` to it, or a key that came
/// from it, to what takes locks.
///
/// # Examples
/// ```
/// use latchwork::ordered::RootToken;
/// let root = RootToken::take().expect("this thread has no other");
/// assert!(RootToken::take().is_none());
/// drop(root); // given back
/// std::mem::forget(RootToken::take());
/// assert!(RootToken::take().is_none()); // for ever
/// ```
pub struct RootToken(LevelToken<'static, Bottom>);

impl RootToken {
    /// Takes this thread's root key; `None` while it is taken. One that is forgotten stays taken.
    pub fn take() -> Option<Self> {
        let is_taken = TAKEN.replace(true);
        (!is_taken).then(|| RootToken(LevelToken::new()))
    }
}

impl Drop for RootToken {
    fn drop(&mut self) {
        TAKEN.set(false);
    }
}

impl Deref for RootToken {
    type Target = LevelToken<'static, Bottom>;

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for RootToken {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Debug for RootToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootToken").finish_non_exhaustive()
    }
}
