//! One POST.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;

use super::guard::{Permitted, Refused};
use super::pinned::Pinned;
use super::{Delivery, RESPONSE_MAX, Undelivered};
use crate::wire::{HmacKey, mac};

/// Sends it once.
///
/// # Errors
///
/// [`Undelivered`], with the reason for people.
pub(super) fn post(delivery: &Delivery, key: &HmacKey) -> Result<(), Undelivered> {
    let agent = Agent::with_parts(
        config(delivery)?,
        DefaultConnector::default(),
        Pinned(Permitted::new(&delivery.allow)),
    );
    let sent = agent
        .post(&delivery.url)
        .header("content-type", "application/json")
        .header("siglatch-delivery", &delivery.id)
        .header("siglatch-signature", signature(delivery, key))
        .send(&delivery.body);
    let mut response = sent.map_err(|error| why(&error))?;
    // It says nothing that is needed; a connection that is read to its end closes in order.
    drop(response.body_mut().with_config().limit(RESPONSE_MAX).read_to_vec());
    match response.status().as_u16() {
        200..=299 => Ok(()),
        status @ (408 | 425 | 429 | 500..) => {
            Err(Undelivered::Later(format!("the receiver answers {status}")))
        }
        status @ 300..=399 => {
            Err(Undelivered::Never(format!("the receiver answers {status}, and redirects are not followed")))
        }
        status => Err(Undelivered::Never(format!("the receiver answers {status}"))),
    }
}

/// `t=TIMESTAMP,v1=HEX`: HMAC-SHA256 over `TIMESTAMP.BODY`.
fn signature(delivery: &Delivery, key: &HmacKey) -> String {
    let signed = format!("{}.{}", delivery.timestamp, delivery.body);
    let tag = mac::mac(key, signed.as_bytes());
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={},v1={hex}", delivery.timestamp)
}

fn config(delivery: &Delivery) -> Result<Config, Undelivered> {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(roots(delivery.ca.as_deref())?)
        .build();
    Ok(Config::builder()
        .https_only(true)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(HEADERS_MAX)
        .timeout_global(Some(Duration::from_millis(delivery.timeout)))
        .user_agent(concat!("siglatch/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .build())
}

fn roots(pem: Option<&str>) -> Result<RootCerts, Undelivered> {
    let Some(pem) = pem else {
        return Ok(RootCerts::PlatformVerifier);
    };
    let certificates: Vec<_> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            Ok(_) | Err(_) => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Undelivered::Never("there is no certificate in the webhook's `ca`".to_owned()));
    }
    Ok(RootCerts::from(certificates))
}

fn why(error: &ureq::Error) -> Undelivered {
    if let ureq::Error::Other(cause) = error
        && let Some(refused) = cause.downcast_ref::<Refused>()
    {
        return Undelivered::Never(refused.to_string());
    }
    if matches!(error, ureq::Error::BadUri(_) | ureq::Error::RequireHttpsOnly(_)) {
        return Undelivered::Never(error.to_string());
    }
    Undelivered::Later(error.to_string())
}

/// Bytes of a response's headers.
const HEADERS_MAX: usize = 16 << 10;
