//! The baselines: the same work as a program would write it for itself.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};

/// A client that acquires and releases one lease.
pub(crate) trait Client {
    /// Waits until the lease is granted, and returns its token.
    fn acquire(&mut self) -> u64;

    /// Releases the lease.
    fn release(&mut self);
}

/// A table in SQLite, with the durability that the engine has.
#[derive(Debug)]
pub(crate) struct Sqlite {
    connection: Connection,
    clock: std::time::Instant,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
            .query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
            .unwrap();
        connection
            .pragma_update(None, "synchronous", "FULL")
            .unwrap();
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS lock (
                     name TEXT PRIMARY KEY, token INTEGER NOT NULL, holder BLOB,
                     expires INTEGER NOT NULL
                 ) STRICT, WITHOUT ROWID;
                 INSERT OR IGNORE INTO lock VALUES ('one', 0, NULL, 0);",
            )
            .unwrap();
        Sqlite {
            connection,
            clock: std::time::Instant::now(),
        }
    }

    fn change(&mut self, statement: &str, parameters: &[&dyn rusqlite::ToSql]) -> u64 {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .unwrap();
        let token: i64 = transaction
            .prepare_cached(statement)
            .unwrap()
            .query_row(parameters, |row| row.get(0))
            .unwrap();
        transaction.commit().unwrap();
        token as u64
    }
}

impl Client for Sqlite {
    fn acquire(&mut self) -> u64 {
        let now = self.clock.elapsed().as_micros() as i64;
        let holder: [u8; 16] = fastrand::u128(..).to_be_bytes();
        self.change(
            "UPDATE lock SET token = token + 1, holder = ?2, expires = ?3
             WHERE name = ?1 AND (holder IS NULL OR expires <= ?4) RETURNING token",
            params!["one", holder, now + 10_000_000, now],
        )
    }

    fn release(&mut self) {
        self.change(
            "UPDATE lock SET holder = NULL WHERE name = ?1 AND holder IS NOT NULL RETURNING token",
            params!["one"],
        );
    }
}

#[cfg(feature = "postgres")]
pub(crate) use on_postgres::{Advisory, Postgres};

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::{Client, Duration};

    use postgres::fallible_iterator::FallibleIterator;
    use postgres::{NoTls, Statement};

    /// A table in PostgreSQL; waiters listen, and try again after each notification.
    pub(crate) struct Postgres {
        client: postgres::Client,
        acquire: Statement,
        release: Statement,
        holder: Vec<u8>,
    }

    impl Postgres {
        pub(crate) fn create(url: &str) {
            let mut client = postgres::Client::connect(url, NoTls).unwrap();
            client
                .batch_execute(
                    "CREATE TABLE lock (
                         name text PRIMARY KEY, token bigint NOT NULL, holder bytea,
                         expires timestamptz NOT NULL
                     ) WITH (fillfactor = 50);
                     INSERT INTO lock VALUES ('one', 0, NULL, now())",
                )
                .unwrap();
        }

        pub(crate) fn connect(url: &str) -> Self {
            let mut client = postgres::Client::connect(url, NoTls).unwrap();
            client.batch_execute("LISTEN released").unwrap();
            let acquire = client
                .prepare(
                    "UPDATE lock SET token = token + 1, holder = $2,
                         expires = clock_timestamp() + interval '10 s'
                     WHERE name = $1 AND (holder IS NULL OR expires <= clock_timestamp())
                     RETURNING token",
                )
                .unwrap();
            let release = client
                .prepare(
                    "WITH released AS (
                         UPDATE lock SET holder = NULL WHERE name = $1 AND holder = $2
                         RETURNING name)
                     SELECT pg_notify('released', name) FROM released",
                )
                .unwrap();
            Postgres {
                client,
                acquire,
                release,
                holder: Vec::new(),
            }
        }
    }

    /// An advisory lock of a session.
    pub(crate) struct Advisory {
        client: postgres::Client,
        acquire: Statement,
        release: Statement,
    }

    impl Advisory {
        pub(crate) fn connect(url: &str) -> Self {
            let mut client = postgres::Client::connect(url, NoTls).unwrap();
            Advisory {
                acquire: client.prepare("SELECT pg_advisory_lock(1)").unwrap(),
                release: client.prepare("SELECT pg_advisory_unlock(1)").unwrap(),
                client,
            }
        }
    }

    impl Client for Advisory {
        fn acquire(&mut self) -> u64 {
            self.client.execute(&self.acquire, &[]).unwrap();
            0
        }

        fn release(&mut self) {
            let row = self.client.query_one(&self.release, &[]).unwrap();
            assert!(row.get::<_, bool>(0), "the lock was held");
        }
    }

    impl Client for Postgres {
        fn acquire(&mut self) -> u64 {
            self.holder = fastrand::u128(..).to_be_bytes().to_vec();
            loop {
                let row = self
                    .client
                    .query_opt(&self.acquire, &[&"one", &self.holder])
                    .unwrap();
                if let Some(row) = row {
                    return row.get::<_, i64>(0) as u64;
                }
                let mut notices = self.client.notifications();
                let limit = Duration::from_secs(2);
                let _ = notices.timeout_iter(limit).next().unwrap();
                // Those that arrived together stand for one change.
                while let Some(_notice) = notices.iter().next().unwrap() {}
            }
        }

        fn release(&mut self) {
            let rows = self
                .client
                .query(&self.release, &[&"one", &self.holder])
                .unwrap();
            assert_eq!(rows.len(), 1, "the lease was held");
        }
    }
}

#[cfg(feature = "etcd")]
pub(crate) use on_etcd::{Etcd, LockCall};

#[cfg(feature = "etcd")]
mod on_etcd {
    use super::Client;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    /// A key under a lease of etcd, created if it is absent, with the same client of HTTP.
    #[derive(Debug)]
    pub(crate) struct Etcd {
        agent: ureq::Agent,
        url: String,
        lease: String,
        key: String,
    }

    impl Etcd {
        pub(crate) fn connect(endpoint: &str) -> Self {
            let config = ureq::Agent::config_builder().proxy(None).build();
            let mut client = Etcd {
                agent: ureq::Agent::new_with_config(config),
                url: format!("http://{endpoint}/v3"),
                lease: String::new(),
                key: STANDARD.encode("by-hand"),
            };
            let lease = client.post("lease/grant", &json!({ "TTL": "600" }));
            lease["ID"].as_str().unwrap().clone_into(&mut client.lease);
            client
        }

        fn post(&self, path: &str, body: &Value) -> Value {
            let url = format!("{}/{path}", self.url);
            let body = body.to_string();
            let mut answer = self.agent.post(&url).send(&body).unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            serde_json::from_str(&text).unwrap()
        }
    }

    /// The call `Lock` of etcd's server, under one lease.
    #[derive(Debug)]
    pub(crate) struct LockCall {
        etcd: Etcd,
        locked: String,
    }

    impl LockCall {
        pub(crate) fn connect(endpoint: &str) -> Self {
            LockCall {
                etcd: Etcd::connect(endpoint),
                locked: String::new(),
            }
        }
    }

    impl Client for LockCall {
        fn acquire(&mut self) -> u64 {
            let name = STANDARD.encode("lock-call");
            let request = json!({ "name": name, "lease": self.etcd.lease });
            let answer = self.etcd.post("lock/lock", &request);
            answer["key"].as_str().unwrap().clone_into(&mut self.locked);
            0
        }

        fn release(&mut self) {
            self.etcd
                .post("lock/unlock", &json!({ "key": self.locked }));
        }
    }

    impl Client for Etcd {
        fn acquire(&mut self) -> u64 {
            let holder = STANDARD.encode(fastrand::u128(..).to_be_bytes());
            let answer = self.post(
                "kv/txn",
                &json!({
                    "compare": [{ "key": self.key, "target": "VERSION", "version": "0" }],
                    "success": [{ "request_put": {
                        "key": self.key, "value": holder, "lease": self.lease,
                    }}],
                }),
            );
            assert_eq!(answer["succeeded"], true, "the key is absent");
            let revision = answer["header"]["revision"].as_str().unwrap();
            revision.parse().unwrap()
        }

        fn release(&mut self) {
            let answer = self.post(
                "kv/txn",
                &json!({
                    "compare": [{ "key": self.key, "target": "LEASE", "lease": self.lease }],
                    "success": [{ "request_delete_range": { "key": self.key } }],
                }),
            );
            assert_eq!(answer["succeeded"], true, "the lease was held");
        }
    }
}

#[cfg(feature = "redis")]
pub(crate) use on_redis::{Nodes, Rslock};

#[cfg(feature = "redis")]
mod on_redis {
    use std::thread;
    use std::time::Duration;

    use redis::{Connection, Value, cmd};

    use super::Client;

    /// A lock on the majority of some nodes, without a token.
    pub(crate) struct Nodes {
        connections: Vec<Connection>,
        holder: String,
    }

    const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
         return redis.call('DEL', KEYS[1]) end return 0";

    impl Nodes {
        pub(crate) fn connect(url: &str) -> Self {
            let nodes = url.trim_start_matches("quorum:").split(',');
            let connect = |node| redis::Client::open(node).unwrap().get_connection().unwrap();
            Nodes {
                connections: nodes.map(connect).collect(),
                holder: String::new(),
            }
        }

        /// Sends a command to all nodes, and returns their answers.
        fn ask(&mut self, command: &redis::Cmd) -> Vec<Value> {
            let bytes = command.get_packed_command();
            for connection in &mut self.connections {
                connection.send_packed_command(&bytes).unwrap();
            }
            let answers = self.connections.iter_mut();
            answers.map(|one| one.recv_response().unwrap()).collect()
        }
    }

    /// A lock of `rslock`, in a runtime of one thread.
    pub(crate) struct Rslock {
        runtime: tokio::runtime::Runtime,
        manager: rslock::LockManager,
        lock: Option<rslock::Lock>,
    }

    impl Rslock {
        pub(crate) fn connect(url: &str) -> Self {
            let nodes = url.trim_start_matches("quorum:").split(',');
            let nodes: Vec<String> = nodes.map(str::to_owned).collect();
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            Rslock {
                runtime: runtime.enable_all().build().unwrap(),
                manager: rslock::LockManager::new(nodes),
                lock: None,
            }
        }
    }

    impl Client for Rslock {
        fn acquire(&mut self) -> u64 {
            let acquired = self.manager.lock("two", Duration::from_secs(10));
            self.lock = Some(self.runtime.block_on(acquired).unwrap());
            0
        }

        fn release(&mut self) {
            let lock = self.lock.take().expect("the lock is held");
            self.runtime.block_on(self.manager.unlock(&lock));
        }
    }

    impl Client for Nodes {
        fn acquire(&mut self) -> u64 {
            self.holder = format!("{:032x}", fastrand::u128(..));
            loop {
                let mut set = cmd("SET");
                set.arg("one")
                    .arg(&self.holder)
                    .arg("NX")
                    .arg("PX")
                    .arg(10_000);
                let granted = self.ask(&set);
                let granted = granted.iter().filter(|one| **one == Value::Okay).count();
                if granted > self.connections.len() / 2 {
                    return 0;
                }
                self.release();
                thread::sleep(Duration::from_micros(fastrand::u64(1_000..3_000)));
            }
        }

        fn release(&mut self) {
            let mut release = cmd("EVAL");
            release.arg(RELEASE).arg(1).arg("one").arg(&self.holder);
            self.ask(&release);
        }
    }
}

/// A client of this crate.
#[derive(Debug)]
pub(crate) struct Ours {
    leases: latchwork_lease::Leases,
    lease: Option<latchwork_lease::Lease>,
}

impl Ours {
    pub(crate) fn connect(url: &str) -> Self {
        Ours {
            leases: latchwork_lease::Leases::connect(url).unwrap(),
            lease: None,
        }
    }
}

impl Client for Ours {
    fn acquire(&mut self) -> u64 {
        let lease = self.leases.acquire("one", Duration::from_secs(10)).unwrap();
        let token = lease.token().get();
        self.lease = Some(lease);
        token
    }

    fn release(&mut self) {
        let lease = self.lease.take().expect("the lease is held");
        let released = lease.release().unwrap();
        assert_eq!(released, latchwork_lease::Release::Done);
    }
}
