//! `siglatchctl firewall`: the rules that doors need, and a way to load them without being locked out.

pub(super) mod nft;
mod saved;
mod snippet;
mod trial;
mod watch;

pub(super) use snippet::snippet;
pub(super) use trial::trial;
pub(super) use watch::watch;
