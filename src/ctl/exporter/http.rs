//! As much of HTTP/1.1 as a scrape needs (RFC 9112): one request a connection, GET alone, no body. Pure.

use httparse::{EMPTY_HEADER, Request, Status};

/// Bytes of the longest head of a request.
pub(super) const HEAD_MAX: usize = 8192;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Get {
    /// Without the query.
    pub(super) path: String,
    /// What the client takes; empty: anything.
    pub(super) accept: String,
}

/// What came so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// More is to come.
    Part,
    /// All of it.
    Whole(Get),
    /// It is answered at once.
    Bad(Response),
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Head {
    /// Reads what came so far.
    pub(super) fn read(bytes: &[u8]) -> Head {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(Status::Partial) if bytes.len() < HEAD_MAX => Head::Part,
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => Head::Bad(Response::text(
                "431 Request Header Fields Too Large",
                "a scrape needs fewer headers\n",
            )),
            Err(_) => Head::Bad(Response::text("400 Bad Request", "this is not HTTP/1.1\n")),
            Ok(Status::Complete(_)) if request.method != Some("GET") => {
                Head::Bad(Response::text("405 Method Not Allowed", "only GET is answered\n"))
            }
            Ok(Status::Complete(_)) => {
                let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
                let accepts =
                    request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("accept"));
                let accepts = accepts.map(|header| String::from_utf8_lossy(header.value));
                Head::Whole(Get { path: path.to_owned(), accept: accepts.collect::<Vec<_>>().join(",") })
            }
        }
    }
}

impl Response {
    pub(super) fn text(status: &'static str, body: impl Into<String>) -> Response {
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Response { status, content_type, body } = self;
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

const HEADERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &[u8]) -> &'static str {
        match Head::read(request) {
            Head::Part => "part",
            Head::Whole(_) => "whole",
            Head::Bad(response) => response.status.split(' ').next().unwrap(),
        }
    }

    #[test]
    fn a_get_is_read_whatever_its_query_and_however_it_comes() {
        let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\naccept: b/c\r\n\r\n";
        for len in 0..request.len() {
            assert_eq!(Head::read(&request[..len]), Head::Part, "{len}");
        }
        let get = Get { path: "/metrics".to_owned(), accept: "text/plain,b/c".to_owned() };
        assert_eq!(Head::read(request), Head::Whole(get));
        assert_eq!(status(b"GET / HTTP/1.0\n\n"), "whole");
    }

    #[test]
    fn anything_but_a_small_get_is_refused() {
        for method in ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get"] {
            assert_eq!(status(format!("{method} /metrics HTTP/1.1\r\n\r\n").as_bytes()), "405", "{method}");
        }
        for junk in [
            &b"\x16\x03\x01\x02\x00\x01"[..],
            b"GET /metrics\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"\0\0\0\0",
        ] {
            assert_eq!(status(junk), "400", "{junk:?}");
        }
        let many = "A: b\r\n".repeat(65);
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()), "431");
        let long = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(HEAD_MAX));
        assert_eq!(status(&long.as_bytes()[..HEAD_MAX]), "431");
        assert_eq!(status(&long.as_bytes()[..HEAD_MAX - 1]), "part");
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_that_it_is_the_last() {
        let bytes = Response::text("405 Method Not Allowed", "no\n").bytes();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{text}");
        assert!(
            text.contains("\r\nContent-Length: 3\r\n") && text.contains("\r\nConnection: close\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nAllow: GET\r\n") && text.ends_with("\r\n\r\nno\n"), "{text}");
    }
}
