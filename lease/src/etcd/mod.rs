//! The engine `etcd://…`: keys of an etcd cluster.
//!
//! A request for a lease is a key that is attached to an engine lease of etcd. The requests for a
//! name form a queue in the order of their create revisions, and the first one holds the name.
//! Each waiter watches its predecessor only. The engine uses the HTTP gateway of etcd.
//!
//! `PROTOCOL.md` in this folder has the rules.

mod ask;
mod client;
mod driver;
mod groups;
mod keys;
mod message;
mod release;
mod renew;
mod resolver;
mod set;
mod settings;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use latchwork::table::FencingToken;

use crate::engine::{
    Attempt, AttemptAll, Engine, EngineError, HolderInfo, Key, Nonce, Released, Renewal, Renewed,
    Request, floor,
};
use crate::guarantees::{Exclusive, Guarantees, TokenOrder};

use client::{Cause, Client, Failed};
use driver::{Driver, RANGE, TRANSACTION, token_of};
use keys::{Keys, LAYOUT};
use message::{Answer, Details, Entry, transaction};
use settings::Settings;

/// The time within which the engine connects.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// The time between two turns of the keeper thread.
const KEEPER_PAUSE: Duration = Duration::from_millis(100);

/// The number of turns without work after which the keeper thread ends.
const KEEPER_IDLE: u32 = 50;

/// An engine that keeps leases in an etcd cluster, release 3.4 or later. Members may have several
/// releases, as during an upgrade; a cluster with an older member is refused.
///
/// # URL
/// `etcd://USER:PASSWORD@HOST:PORT,HOST:PORT?OPTION=VALUE`, with the endpoints of all members. The
/// options are
///
/// | option | meaning |
/// |---|---|
/// | `tls=on` | TLS, which `cacert` and `cert` imply |
/// | `cacert=FILE` | the authorities to trust; `system`, the default, trusts those of the system |
/// | `cert=FILE&key=FILE` | the certificate of the client and its private key |
/// | `prefix=TEXT` | the prefix of all keys, `latchwork/` by default |
///
/// A password that is not in the URL is read from the variable `ETCDCTL_PASSWORD`. Errors and
/// `Debug` never contain it. The gateway of etcd does not support users by the name in a
/// certificate; a user needs a password.
///
/// The token of a user expires, and the engine requests another one with the password. A user that
/// was deleted, or whose password or privileges were changed, gets an error that is not temporary
/// until they are restored. Leases that are held then end.
///
/// # Privileges
/// A user needs a role that may read and write the keys with the prefix:
///
/// ```sh
/// etcdctl role grant-permission the_role --prefix=true readwrite latchwork/
/// ```
///
/// # Leases
/// etcd counts leases in seconds and has a least length, 2 s by default, so a lease is rounded up.
/// All leases of one length share a lease of etcd, so that one request extends them. A lease ends
/// up to a second later than its length if its process dies.
///
/// # Releases
/// In releases before 3.4.31 and 3.5.13, a leader that was paused ends leases of the cluster when
/// it continues, including those that the next leader extended (etcd-io/etcd#15247). Their holders
/// detect it at the next renewal, and the name can have another holder until then. The fence
/// refuses their writes. [`Engine::guarantees`] states it if a member that answered has such a
/// release.
///
/// # Forks
/// Each call returns an error in a child of a fork. The child can connect an engine of its own.
pub struct EtcdEngine {
    process: u32,
    driver: Arc<Driver>,
    least_lease: Duration,
    members: usize,
    revokes_as_leader_only: bool,
}

impl EtcdEngine {
    /// Connects to the cluster that a URL names.
    ///
    /// # Blocking
    /// Blocks for at most 10 seconds.
    ///
    /// # Errors
    /// Returns an error if the URL is malformed, or if
    /// - no endpoint can be reached, or the cluster has no quorum,
    /// - an endpoint is not etcd 3.4 or later, or two of them are one member or two clusters,
    /// - the user is refused or may not write the keys,
    /// - the keys have the layout of another release.
    pub fn connect(url: &str) -> Result<Self, EngineError> {
        let settings = Settings::read(url, std::env::var("ETCDCTL_PASSWORD").ok())?;
        let client = Client::new(&settings)?;
        let deadline = Instant::now() + CONNECT_LIMIT;
        let (members, revokes_as_leader_only) = identify(&client, deadline)?;
        let driver = Driver::new(client, Keys::new(&settings.prefix));
        check_layout(&driver, deadline)?;
        // The least length is a setting of the cluster, which a lease shows.
        let (_, least_lease) = driver.grant(1, deadline).map_err(not_done)?;
        Ok(EtcdEngine {
            process: std::process::id(),
            driver: Arc::new(driver),
            least_lease: least_lease.max(Duration::from_secs(1)),
            members,
            revokes_as_leader_only,
        })
    }

    /// Returns the driver, or an error in a child of the process that connected [EC10].
    fn driver(&self) -> Result<&Driver, EngineError> {
        if std::process::id() != self.process {
            return Err(EngineError::misconfigured(format!(
                "{}: the engine was connected before a fork and works only in the parent",
                self.driver.client.cluster()
            )));
        }
        Ok(&self.driver)
    }

    /// Starts the keeper thread, which removes ended requests and probes members.
    fn start_keeper(&self) {
        {
            let mut state = self.driver.state();
            if state.has_keeper {
                return;
            }
            state.has_keeper = true;
        }
        let driver = Arc::downgrade(&self.driver);
        let keeper = thread::Builder::new().name("etcd keeper".to_owned());
        let started = keeper.spawn(move || {
            let mut idle = 0;
            loop {
                thread::sleep(KEEPER_PAUSE);
                let Some(driver) = driver.upgrade() else {
                    return;
                };
                driver.remove_ended();
                let probe = message::page(&driver.keys.layout(), b"", 1, true, 0);
                let is_probing = driver.client.probe(RANGE, &probe);
                let mut state = driver.state();
                idle = if is_probing || !state.requests.is_empty() {
                    0
                } else {
                    idle + 1
                };
                if idle == KEEPER_IDLE {
                    state.has_keeper = false;
                    return;
                }
            }
        });
        if started.is_err() {
            // The next request tries again.
            self.driver.state().has_keeper = false;
        }
    }

    fn info(&self, entry: &Entry, expires_in: Duration) -> HolderInfo {
        let details = Details::read(&entry.value);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis() as i64;
        let milliseconds = |number: i64| Duration::from_millis(number.max(0).unsigned_abs());
        HolderInfo {
            owner: details.owner,
            token: FencingToken::new(token_of(entry)),
            held_for: milliseconds(now.saturating_sub(details.since)),
            expires_in: expires_in.min(milliseconds(details.ttl)),
        }
    }
}

fn not_done(failed: Failed) -> EngineError {
    Failed {
        outcome: crate::engine::Outcome::NotDone,
        ..failed
    }
    .into()
}

/// Identifies all endpoints. Returns the number of members of the cluster, and whether only a
/// leader ends leases in the releases of those that answered.
fn identify(client: &Client, deadline: Instant) -> Result<(usize, bool), EngineError> {
    let addresses: Vec<&str> = client.addresses().collect();
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut unreachable = Vec::new();
    let (mut members, mut revokes_as_leader_only) = (0, true);
    for (at, address) in addresses.iter().enumerate() {
        match client.identify(at, deadline) {
            Ok(identity) => {
                let same = found.iter().find(|(_, member)| *member == identity.member);
                if let Some((other, _)) = same {
                    return Err(EngineError::misconfigured(format!(
                        "etcd: the endpoints {other} and {address} are the same member"
                    )));
                }
                members = members.max(identity.members);
                revokes_as_leader_only &= identity.revokes_as_leader_only;
                found.push((address, identity.member));
            }
            Err(failed) if failed.cause == Cause::Unavailable => unreachable.push(failed.text),
            Err(failed) => return Err(not_done(failed)),
        }
    }
    if found.is_empty() {
        return Err(EngineError::not_done(unreachable.join("; ")));
    }
    Ok((members, revokes_as_leader_only))
}

/// Creates the key of the layout, or checks it. Without a quorum there is no answer.
fn check_layout(driver: &Driver, deadline: Instant) -> Result<(), EngineError> {
    let key = driver.keys.layout();
    let read = |compare: &[_], success: &[_]| {
        let body = transaction(compare, success, &[message::get(&key)]);
        let answer = driver.client.call(TRANSACTION, &body, deadline);
        answer.map(Answer::read).map_err(|mut failed| {
            if failed.cause == Cause::Unavailable {
                failed.text = format!("{} (is there a quorum?)", failed.text);
            }
            not_done(failed)
        })
    };
    let mut found = read(&[], &[message::get(&key)])?.range(0).pop();
    if found.is_none() {
        let put = message::put(&key, LAYOUT.as_bytes(), 0);
        found = read(&[message::is_absent(&key)], &[put])?.range(0).pop();
    }
    match found {
        Some(entry) if entry.value != LAYOUT.as_bytes() => {
            let cluster = driver.client.cluster();
            let found = String::from_utf8_lossy(&entry.value).into_owned();
            Err(EngineError::misconfigured(format!(
                "{cluster}: the keys have the layout {found:?} of another release; this one uses \
                 {LAYOUT:?}"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the guarantees of a cluster with so many members, whose releases end leases only as
/// leaders or not.
pub(crate) fn guarantees(
    members: usize,
    revokes_as_leader_only: bool,
    least_lease: Duration,
) -> Guarantees {
    let exclusive = match revokes_as_leader_only {
        true => Exclusive::UnlessPaused,
        false => Exclusive::UnlessHolderOrServerPauses,
    };
    Guarantees {
        fair: true,
        tolerates: match members {
            0..=2 => "clients that end or stop; restarts of the server",
            _ => "clients that end or stop; the loss of a minority of the members",
        },
        least_lease,
        hand_over: Duration::from_millis(50),
        ends_early: driver::ENDS_EARLY,
        renews_together: true,
        ..Guarantees::new(exclusive, TokenOrder::UnlessDataIsLost)
    }
}

impl Engine for EtcdEngine {
    fn guarantees(&self) -> Guarantees {
        guarantees(self.members, self.revokes_as_leader_only, self.least_lease)
    }

    fn try_acquire(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Attempt, EngineError> {
        let driver = self.driver()?;
        self.start_keeper();
        Ok(driver.ask(request, deadline)?)
    }

    fn try_acquire_all(
        &self,
        requests: &[Request<'_>],
        deadline: Instant,
    ) -> Option<Result<AttemptAll, EngineError>> {
        let driver = match self.driver() {
            Ok(driver) => driver,
            Err(error) => return Some(Err(error)),
        };
        self.start_keeper();
        let attempt = driver.ask_all(requests, deadline)?;
        Some(attempt.map_err(EngineError::from))
    }

    fn renew_many(
        &self,
        renewals: &[Renewal<'_>],
        deadline: Instant,
    ) -> Result<Vec<Renewed>, EngineError> {
        Ok(self.driver()?.renew(renewals, deadline)?)
    }

    fn release(
        &self,
        key: Key<'_>,
        nonce: Nonce,
        deadline: Instant,
    ) -> Result<Released, EngineError> {
        Ok(self.driver()?.release(key, nonce, deadline)?)
    }

    fn holder(&self, key: Key<'_>, deadline: Instant) -> Result<Option<HolderInfo>, EngineError> {
        let driver = self.driver()?;
        let Some(entry) = driver.first(key, deadline)? else {
            return Ok(None);
        };
        let expires_in = driver.time_to_live(entry.lease, deadline)?;
        Ok(expires_in.map(|expires_in| self.info(&entry, expires_in)))
    }

    fn list(
        &self,
        namespace: &str,
        prefix: &str,
        deadline: Instant,
    ) -> Result<Vec<(String, HolderInfo)>, EngineError> {
        let driver = self.driver()?;
        // The holder of a name is its first request. Names are in the order of their bytes.
        let mut holders: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in driver.list(namespace, prefix, deadline)? {
            let Some((name, _)) = driver.keys.parse_request(&entry.key) else {
                continue;
            };
            let holder = holders.entry(name).or_insert_with(|| entry.clone());
            if entry.created < holder.created {
                *holder = entry;
            }
        }
        let mut ends: BTreeMap<i64, Option<Duration>> = BTreeMap::new();
        let mut listed = Vec::new();
        for (name, entry) in holders {
            let end = match ends.get(&entry.lease) {
                Some(end) => *end,
                None => {
                    let end = driver.time_to_live(entry.lease, deadline)?;
                    ends.insert(entry.lease, end);
                    end
                }
            };
            if let Some(end) = end {
                listed.push((name, self.info(&entry, end)));
            }
        }
        Ok(listed)
    }

    fn break_lease(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<bool, EngineError> {
        Ok(self.driver()?.break_lease(key, token, deadline)?)
    }

    fn raise_floor(
        &self,
        key: Key<'_>,
        token: FencingToken,
        deadline: Instant,
    ) -> Result<(), EngineError> {
        let floor = floor(token).map_err(EngineError::misconfigured)?;
        Ok(self.driver()?.raise_floor(key, floor, deadline)?)
    }

    fn wait_hint(&self, key: Key<'_>, nonce: Nonce, deadline: Instant) -> Result<(), EngineError> {
        Ok(self.driver()?.wait_hint(key, nonce, deadline)?)
    }
}

impl fmt::Debug for EtcdEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdEngine")
            .field("cluster", &self.driver.client.cluster())
            .finish_non_exhaustive()
    }
}

/// A fault that tests plant into the engine, to prove that they would detect it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plant {
    /// A waiter without a predecessor is granted, whether its own key exists or not [EC2].
    OwnKeyUnchecked,
    /// A group that was not extended since the call counts as extended [EC4].
    GroupUnextended,
    /// A request whose end has passed is extended with its group [EC5].
    EndIgnored,
    /// A release forbids no delayed requests [EC6].
    DelayedExecuted,
    /// A request whose removal was sent is granted in the same group [EC5].
    RemovalForgotten,
}

#[cfg(not(any(test, latchwork_plant)))]
const fn planted(_: Plant) -> bool {
    false
}

/// Returns whether the environment variable names the fault, as `ci/lease_faults.sh` does.
#[cfg(all(latchwork_plant, not(test)))]
fn planted(plant: Plant) -> bool {
    static PLANT: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("LATCHWORK_PLANT").ok());
    plant == Plant::OwnKeyUnchecked && PLANT.as_deref() == Some("own key unchecked")
}

#[cfg(test)]
fn planted(plant: Plant) -> bool {
    *tests::PLANT.lock().unwrap() == Some(plant)
}

#[cfg(test)]
mod tests;
