//! Which page says what. Pure.

use std::sync::Arc;

use super::health::{Asked, Verdict};
use super::http::{Get, Response};
use super::jwks;
use super::metrics::{self, Format};
use crate::control::status::Status;

/// The daemon's status, or why there is none.
pub(super) type Seen = Result<Arc<Status>, String>;

/// A page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Metrics(Format),
    Health(Asked),
    Keys,
}

impl Page {
    /// The one that is asked for.
    ///
    /// # Errors
    ///
    /// What is answered if there is none.
    pub(super) fn of(get: &Get) -> Result<Page, Response> {
        match get.path.as_str() {
            "/metrics" if get.accept.contains("application/openmetrics-text") => {
                Ok(Page::Metrics(Format::OpenMetrics))
            }
            "/metrics" => Ok(Page::Metrics(Format::Prometheus)),
            "/healthz" => Ok(Page::Health(Asked::Health)),
            "/readyz" => Ok(Page::Health(Asked::Readiness)),
            "/.well-known/jwks.json" => Ok(Page::Keys),
            _ => Err(Response::text("404 Not Found", PAGES)),
        }
    }

    /// With what it says now.
    pub(super) fn show(self, seen: &Seen) -> Response {
        match self {
            Page::Metrics(format) => match metrics::encode(seen.as_ref().ok(), format) {
                Ok(body) => Response { status: OK, content_type: format.content_type(), body },
                Err(error) => Response::text("500 Internal Server Error", format!("{error}\n")),
            },
            Page::Health(asked) => {
                let verdict = Verdict::of(asked, seen.as_deref().map_err(String::as_str));
                Response::text(if verdict.is_good() { OK } else { UNAVAILABLE }, verdict.to_string())
            }
            Page::Keys => match seen.as_deref().map(|status| jwks::of(&status.audit.public_key)) {
                Ok(Some(body)) => Response { status: OK, content_type: "application/jwk-set+json", body },
                Ok(None) => Response::text(UNAVAILABLE, "the daemon has no audit key\n"),
                Err(why) => Response::text(UNAVAILABLE, format!("daemon: {why}\n")),
            },
        }
    }
}

const OK: &str = "200 OK";

const UNAVAILABLE: &str = "503 Service Unavailable";

const PAGES: &str = "there is /metrics, /healthz, /readyz and /.well-known/jwks.json\n";
