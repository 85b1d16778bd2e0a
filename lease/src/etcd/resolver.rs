//! The addresses of the members.
//!
//! The resolver of the client starts a thread for each request. An address needs none, and a name
//! is resolved again only after a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// The time for which the addresses of a name are used.
const KEPT: Duration = Duration::from_secs(30);

/// Resolves names, and keeps their addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    inner: DefaultResolver,
    names: Mutex<HashMap<String, (Instant, Vec<SocketAddr>)>>,
}

impl Addresses {
    fn kept(&self, name: &str, for_at_most: Duration) -> Option<Vec<SocketAddr>> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, addresses) = names.get(name)?;
        (at.elapsed() < for_at_most).then(|| addresses.clone())
    }

    fn collect(&self, addresses: &[SocketAddr]) -> ResolvedSocketAddrs {
        let mut all = self.empty();
        for address in addresses.iter().take(16) {
            all.push(*address);
        }
        all
    }
}

impl Resolver for Addresses {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let (Ok(ip), Some(port)) = (bare.parse::<IpAddr>(), uri.port_u16()) {
            return Ok(self.collect(&[SocketAddr::new(ip, port)]));
        }
        let name = uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Some(addresses) = self.kept(&name, KEPT) {
            return Ok(self.collect(&addresses));
        }
        match self.inner.resolve(uri, config, timeout) {
            Ok(found) => {
                let addresses = found.iter().copied().collect();
                let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
                names.insert(name, (Instant::now(), addresses));
                Ok(found)
            }
            // While the server of names fails, the last addresses are better than none.
            Err(error) => match self.kept(&name, Duration::MAX) {
                Some(addresses) => Ok(self.collect(&addresses)),
                None => Err(error),
            },
        }
    }
}
