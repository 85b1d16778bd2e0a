//! A console: the tables that it reports, and the two forms of a report.

use core::fmt;
use core::ops::Deref;
use std::sync::Arc;

use super::collect::{OfMap, OfTable, Source, Tables, collect};
use super::prometheus;
use crate::lock_table::Names;
use crate::{LockTable, VersionedMap};

/// Reports the state of lock tables, locks of maps, transactions and retired values.
///
/// A console reads the same state as [`LockTable::inspect`], [`LockTable::stats`],
/// [`LockTable::deadlocks`] and [`stats`](crate::stats), at the time of each report. It stores
/// nothing between two reports. Reports are weakly consistent, and a report takes time in
/// proportion to the sizes of the tables.
///
/// With the feature `console`, tables also count waits and times for the keys that are waited for
/// most. They count when a wait ends, and when a key with waiters is released. An uncontended lock
/// or unlock is the same with and without the feature.
///
/// Labels of keys and names of sessions may contain data of users. A report omits them unless
/// [`show_names`](Self::show_names) was called. The labels of transactions are part of the program
/// text, and are always included.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use latchwork::{LockTable, console::Console};
///
/// let accounts: Arc<LockTable<u64>> = Arc::default();
/// let guard = accounts.lock(&17);
/// let console = Console::new().table("accounts", accounts.clone());
/// assert!(console.json().contains(r#""locked":1"#));
/// assert!(console.prometheus().contains(r#"latchwork_table_locked_keys{table="accounts"} 1"#));
/// # drop(guard);
/// ```
#[derive(Clone, Default)]
pub struct Console {
    tables: Tables,
    names: bool,
}

impl Console {
    /// Makes a console without tables and maps. It reports transactions and retired values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a table, which reports call `name`. If several tables have one name, Prometheus rejects
    /// the report.
    ///
    /// `table` is an `Arc<LockTable<_>>` or a `&'static LockTable<_>`. The console and its servers
    /// keep it.
    ///
    /// # Examples
    /// ```
    /// use std::sync::LazyLock;
    /// use latchwork::{LockTable, console::Console};
    ///
    /// static FILES: LazyLock<LockTable<str>> = LazyLock::new(LockTable::new);
    /// let console = Console::new().table("files", &*FILES);
    /// # let _ = console.json();
    /// ```
    #[must_use]
    pub fn table<T, K, S>(self, name: &str, table: T) -> Self
    where
        T: Deref<Target = LockTable<K, S>> + Send + Sync + 'static,
        K: ?Sized + 'static,
        S: 'static,
    {
        self.source(name, OfTable(table))
    }

    /// Adds a map, which reports call `name`: the locks of its keys, and its size. Tables and maps
    /// should have different names.
    ///
    /// `map` is an `Arc<VersionedMap<_, _>>` or a `&'static VersionedMap<_, _>`. The console and
    /// its servers keep it. A direct write that waits for a lock is a waiter of the key.
    ///
    /// Keys are reported by their identities. Use [`map_with_labels`](Self::map_with_labels) for
    /// labels.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use latchwork::{VersionedMap, console::Console};
    ///
    /// let stock: Arc<VersionedMap<String, u32>> = Arc::default();
    /// let guard = stock.lock("apples");
    /// let console = Console::new().map("stock", stock.clone());
    /// assert!(console.json().contains(r#""locked":1"#));
    /// assert!(console.prometheus().contains(r#"latchwork_map_keys{table="stock"} 0"#));
    /// # drop(guard);
    /// ```
    #[must_use]
    pub fn map<M, K, V, S>(self, name: &str, map: M) -> Self
    where
        M: Deref<Target = VersionedMap<K, V, S>> + Send + Sync + 'static,
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: 'static,
    {
        self.source(name, OfMap(map, |_: &K| None))
    }

    /// Adds a map as [`map`](Self::map) does, with labels of its keys.
    ///
    /// `label` is called for the keys of a report if [names are shown](Self::show_names). It is
    /// called while the thread is pinned, so it must return soon. A key that the map has removed
    /// has no label. Keys with the same hash have one lock, with the label of one of them.
    ///
    /// # Panics
    /// Never panics because of a label: if `label` panics, that key has no label.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use latchwork::{VersionedMap, console::Console};
    ///
    /// let stock: Arc<VersionedMap<String, u32>> = Arc::default();
    /// let console = Console::new().map_with_labels("stock", stock, String::clone).show_names();
    /// # let _ = console.json();
    /// ```
    #[must_use]
    pub fn map_with_labels<M, K, V, S>(
        self,
        name: &str,
        map: M,
        label: impl Fn(&K) -> String + Send + Sync + 'static,
    ) -> Self
    where
        M: Deref<Target = VersionedMap<K, V, S>> + Send + Sync + 'static,
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
        S: 'static,
    {
        self.source(name, OfMap(map, move |key: &K| Some(label(key))))
    }

    /// Includes labels of keys and names of sessions in reports.
    ///
    /// Without this call, a key is reported by its [identity](crate::table::KeyId) and a session by
    /// its number. With it, any process that can connect to a server receives the names.
    #[must_use]
    pub fn show_names(mut self) -> Self {
        self.names = true;
        self
    }

    /// Returns a report as JSON, in the format of [`docs::console`](crate::docs::console#json).
    ///
    /// # Blocking
    /// Blocks only briefly, as [`LockTable::inspect`] and [`stats`](crate::stats) do.
    pub fn json(&self) -> String {
        collect(&self.tables, self.names()).json()
    }

    /// Returns a report in the text format of Prometheus. See
    /// [`docs::console`](crate::docs::console#prometheus).
    ///
    /// # Blocking
    /// Blocks only briefly, as [`LockTable::inspect`] and [`stats`](crate::stats) do.
    pub fn prometheus(&self) -> String {
        prometheus::text(&collect(&self.tables, self.names()))
    }

    fn source(mut self, name: &str, source: impl Source + 'static) -> Self {
        let source: Arc<dyn Source> = Arc::new(source);
        self.tables.push((name.to_owned(), source));
        self
    }

    fn names(&self) -> Names {
        if self.names {
            Names::Shown
        } else {
            Names::Hidden
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<&str> = self.tables.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Console")
            .field("tables", &tables)
            .field("names", &self.names)
            .finish()
    }
}
