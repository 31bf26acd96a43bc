//! Host and Origin checks: what keeps a web page from talking to a loopback server.
//!
//! A page on another site can make the browser send requests to 127.0.0.1, and with DNS rebinding it can
//! even read the answers. The browser tells the truth in `Host` and `Origin`, so both are checked: a Host
//! that is not a loopback name, or an Origin that is not one, is refused with 403.

/// True where a `Host` header names this machine over loopback, with any port.
#[must_use]
pub fn host_is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inner, port)) if port.is_empty() || is_port(port) => inner,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// True where an `Origin` header is a page of this machine. `null` (a sandboxed page) is not.
#[must_use]
pub fn origin_is_loopback(origin: &str) -> bool {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
        .is_some_and(host_is_loopback)
}

/// Checks both headers of a request. An absent Origin is a program, not a page, and is allowed.
#[must_use]
pub fn request_is_local(host: Option<&str>, origin: Option<&str>) -> bool {
    host.is_none_or(host_is_loopback) && origin.is_none_or(origin_is_loopback)
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert!(host_is_loopback(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::1",
            "0.0.0.0:8080",
            "127.0.0.1:80@evil",
            "",
        ] {
            assert!(!host_is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_foreign_or_opaque_origin_is_refused() {
        assert!(request_is_local(Some("127.0.0.1:8080"), None));
        assert!(request_is_local(Some("127.0.0.1:8080"), Some("http://localhost:8080")));
        assert!(!request_is_local(Some("127.0.0.1:8080"), Some("https://evil.example")));
        assert!(!request_is_local(Some("127.0.0.1:8080"), Some("null")));
        assert!(!request_is_local(Some("rebound.example"), None));
    }
}
