//! The one look-up of a receiver's name.

use std::net::SocketAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::guard::Permitted;

/// Looks up with the system's resolver, and lets nothing through that leads inside.
#[derive(Debug)]
pub(super) struct Pinned(pub(super) Permitted);

impl Resolver for Pinned {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = DefaultResolver::default().resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        match self.0.check(host, addresses.iter().map(SocketAddr::ip)) {
            Ok(()) => Ok(addresses),
            Err(refused) => Err(ureq::Error::Other(Box::new(refused))),
        }
    }
}
