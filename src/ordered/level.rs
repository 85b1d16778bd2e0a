//! Levels, and the tokens that prove which levels a thread may lock.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

/// A level of locks. [`levels!`](crate::levels) implements it; a manual implementation loses the
/// guarantee.
pub trait Level: 'static {
    /// The number of levels below it.
    const RANK: u32;
}

/// States that a thread may acquire a lock of this level while it holds one of level `L`.
///
/// [`levels!`](crate::levels) implements it. A manual implementation that contradicts the ranks
/// does not compile where it is used.
#[diagnostic::on_unimplemented(
    message = "lock order violation: the level `{Self}` is not above `{L}`, which is held here",
    label = "this lock must be acquired before those of level `{L}`",
    note = "`levels!` lists the levels in the order in which a thread may acquire them"
)]
pub trait Above<L: Level>: Level {}

/// The level below all others, at which a thread begins. No lock has this level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bottom {}

impl Level for Bottom {
    const RANK: u32 = 0;
}

/// Declares levels of locks, lowest first. A thread may acquire a lock of a level while it holds
/// locks of the levels before it.
///
/// Each level is a type without values. With `after` and a level of another declaration, all levels
/// of this one lie above that level. [`LevelToken::skip_to`](crate::ordered::LevelToken::skip_to)
/// turns a token of a lower level into one of that level.
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

/// One level after the other, with the levels below it in brackets.
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
        // Evaluated where it is declared: two sets of levels that lie above each other fail to
        // compile here.
        const _: u32 = <$name as $crate::ordered::Level>::RANK;

        impl $crate::ordered::Above<$last> for $name {}
        $(impl $crate::ordered::Above<$below> for $name {})*

        $crate::__levels! { [$name, $last $(, $below)*] $($rest)* }
    };
}

/// Proves up to which level a thread holds locks: the thread may lock any level above `L`.
///
/// A lock borrows the token for as long as its guard lives, and returns a token of its own level. A
/// token has no size, and stays on its thread.
///
/// # Examples
/// ```compile_fail,E0277
/// let mut root = latchwork::ordered::RootToken::take().unwrap();
/// std::thread::spawn(move || drop(root)); // a token is not `Send`
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

    /// Returns a token for locks above `M`. It cannot lock the levels between `L` and `M`.
    ///
    /// # Blocking
    /// Never blocks.
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
    /// assert_eq!(*OrderedMutex::<Lower, _>::new(1).lock(&mut root).0, 1); // `root` is unchanged
    /// ```
    #[inline(always)]
    pub fn skip_to<M: Above<L>>(&mut self) -> LevelToken<'_, M> {
        LevelToken::after::<L>()
    }

    /// Returns the token for a lock of this level, which was acquired with a token of level `K`.
    #[inline(always)]
    pub(super) fn after<K: Level>() -> Self
    where
        L: Above<K>,
    {
        const {
            assert!(
                L::RANK > K::RANK,
                "a manual implementation of `Above` contradicts the ranks of its levels: declare them with `levels!`"
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
    /// Whether this thread's root token exists. The variable has no destructor, so it is usable
    /// until the thread ends.
    static TAKEN: Cell<bool> = const { Cell::new(false) };
}

/// The token with which a thread begins: at most one on each thread, for all levels of the program.
///
/// It derefs to [`LevelToken<'_, Bottom>`](LevelToken). Call [`take`](Self::take) where the thread
/// begins its work. Pass `&mut` to it, or to a token that a lock returned, to the functions that
/// acquire locks.
///
/// # Examples
/// ```
/// use latchwork::ordered::RootToken;
/// let root = RootToken::take().expect("this thread has no other");
/// assert!(RootToken::take().is_none());
/// drop(root); // the next call succeeds
/// std::mem::forget(RootToken::take());
/// assert!(RootToken::take().is_none()); // a forgotten token is never returned
/// ```
pub struct RootToken(LevelToken<'static, Bottom>);

impl RootToken {
    /// Returns this thread's root token, or `None` while it exists already. A forgotten one is
    /// never available again.
    ///
    /// # Blocking
    /// Never blocks.
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
