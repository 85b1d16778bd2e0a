//! The requests that a server answers: the few parts of HTTP/1.1 that `curl`, Prometheus and a
//! browser need.

use super::reports::Console;

/// The longest head of a request.
pub(super) const LONGEST: usize = 4_096;

/// Where a client is. A page in a browser can make the browser send requests to a loopback port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// A Unix socket, which a browser cannot reach.
    File,
    Loopback,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: &'static str,
    content: &'static str,
    body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";

impl Answer {
    fn error(status: &'static str, body: &str) -> Self {
        Answer {
            status,
            content: TEXT,
            body: format!("{body}\n"),
        }
    }

    pub(super) fn too_slow() -> Self {
        Self::error(
            "408 Request Timeout",
            "the request was not complete in time",
        )
    }

    pub(super) fn too_long() -> Self {
        Self::error(
            "431 Request Header Fields Too Large",
            "the head of a request may have 4,096 bytes",
        )
    }

    pub(super) fn too_many() -> Self {
        Self::error("503 Service Unavailable", "too many clients at once")
    }

    /// Returns the bytes that are sent.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let Answer {
            status,
            content,
            body,
        } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content}\r\nContent-Length: {length}\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Returns whether `head` ends with the empty line that ends the head of a request.
pub(super) fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// Answers the request with this head.
pub(super) fn answer(head: &[u8], transport: Transport, console: &Console) -> Answer {
    let Ok(head) = core::str::from_utf8(head) else {
        return Answer::error("400 Bad Request", "the request is not text");
    };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Answer::error("400 Bad Request", "expected: GET /json HTTP/1.1");
    };
    if !version.starts_with("HTTP/1.") {
        return Answer::error("400 Bad Request", "expected: GET /json HTTP/1.1");
    }
    if method != "GET" {
        return Answer::error("405 Method Not Allowed", "only GET is allowed");
    }
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let host = fields.find(|(name, _)| name.eq_ignore_ascii_case("host"));
    if transport == Transport::Loopback && host.is_some_and(|(_, host)| !is_loopback(host.trim())) {
        return Answer::error("403 Forbidden", "the host must be a loopback address");
    }
    match target.split('?').next() {
        Some("/json") => Answer {
            status: "200 OK",
            content: "application/json",
            body: console.json(),
        },
        Some("/metrics") => Answer {
            status: "200 OK",
            content: "text/plain; version=0.0.4; charset=utf-8",
            body: console.prometheus(),
        },
        Some("/") => Answer {
            status: "200 OK",
            content: TEXT,
            body: "/json\n/metrics\n".to_owned(),
        },
        _ => Answer::error("404 Not Found", "there are /json and /metrics"),
    }
}

/// Returns whether a `Host` names this machine by a loopback address, with or without a port. A
/// site whose name resolves to such an address sends its own name, and is refused.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.parse::<std::net::Ipv4Addr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &[u8], transport: Transport) -> &'static str {
        let answer = answer(head, transport, &Console::new());
        &answer.status[..3]
    }

    #[test]
    fn requests_that_are_answered() {
        for head in [
            "GET /json HTTP/1.1\r\n\r\n",
            "GET /json?x=1 HTTP/1.0\n\n",
            "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: LOCALHOST\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
        ] {
            assert_eq!(
                status(head.as_bytes(), Transport::Loopback),
                "200",
                "{head}"
            );
        }
    }

    #[test]
    fn requests_that_are_refused() {
        for (head, expected) in [
            ("", "400"),
            ("\r\n\r\n", "400"),
            ("GET\r\n\r\n", "400"),
            ("GET /json\r\n\r\n", "400"),
            ("GET /json HTTP/1.1 more\r\n\r\n", "400"),
            ("GET /json SPDY/3\r\n\r\n", "400"),
            ("get /json HTTP/1.1\r\n\r\n", "405"),
            ("POST /json HTTP/1.1\r\n\r\n", "405"),
            ("GET /jso HTTP/1.1\r\n\r\n", "404"),
            ("GET /json/ HTTP/1.1\r\n\r\n", "404"),
            ("GET /json HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"),
            (
                "GET /json HTTP/1.1\r\nHost: 127.0.0.1.evil:80\r\n\r\n",
                "403",
            ),
            ("GET /json HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n", "403"),
        ] {
            assert_eq!(
                status(head.as_bytes(), Transport::Loopback),
                expected,
                "{head}"
            );
        }
        assert_eq!(
            status(b"GET /\xff HTTP/1.1\r\n\r\n", Transport::File),
            "400"
        );
        // A file has no host.
        let head = b"GET /json HTTP/1.1\r\nHost: any\r\n\r\n";
        assert_eq!(status(head, Transport::File), "200");
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert!(is_whole(b"GET / HTTP/1.1\r\n\r\n") && is_whole(b"GET /\n\n"));
        assert!(!is_whole(b"GET / HTTP/1.1\r\nHost: a\r\n") && !is_whole(b"\n") && !is_whole(b""));
    }
}
