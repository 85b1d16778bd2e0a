//! The programs of the servers, as far as they are installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::installed::postgres_programs;
use crate::servers::{Kind, is_root};

/// The programs of the servers.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) redis: String,
    pub(crate) postgres: Option<PathBuf>,
    /// The library `ci/server_clock.c`, which moves the date that a server reads.
    pub(crate) clock: Option<PathBuf>,
    /// The program `ci/lease_clock`, which does so for etcd.
    pub(crate) lease_clock: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn find() -> Programs {
        Programs {
            redis: std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()),
            postgres: postgres_programs(),
            clock: std::env::var_os("SERVER_CLOCK_LIBRARY").map(PathBuf::from),
            lease_clock: std::env::var_os("LEASE_CLOCK").map(PathBuf::from),
        }
    }

    /// Returns whether the clock of a server of this kind might be moved.
    pub(crate) fn may_move_clock(&self, kind: Kind) -> bool {
        match kind {
            Kind::Etcd => self.lease_clock.is_some() && is_root(),
            // No process may use the date.
            Kind::Sqlite => false,
            _ => self.clock.is_some(),
        }
    }

    /// Returns the program that is missing for an engine.
    pub(crate) fn missing(&self, kind: Kind) -> Option<&str> {
        let runs = |program: &str| {
            let version = Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            version.is_ok_and(|status| status.success())
        };
        match kind {
            Kind::Etcd => (!runs("etcd")).then_some("etcd"),
            Kind::Quorum => (!runs(&self.redis)).then_some(&self.redis),
            Kind::Postgres => self.postgres.is_none().then_some("PostgreSQL"),
            Kind::Sqlite => None,
        }
    }
}
