//! Host and Origin checks: what keeps a web page from talking to a loopback server.
//!
//! A page on another site can make the browser send requests to 127.0.0.1, and with DNS rebinding it can
//! even read the answers. The browser tells the truth in `Host` and `Origin`, so both are checked: a Host
//! that is not a loopback name, or an Origin that is not one, is refused with 403. A server with a login is also
//! reached by its public address ([`Names`]).

use std::sync::Arc;

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

/// The names by which a server is reached: those of this machine, and those of its public address. Clones are
/// cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `https://costs.example:8443`, in lower case and without a port that goes without saying.
    origin: Option<Arc<str>>,
    takes_addresses: bool,
}

impl Names {
    /// This machine only: a server without a login.
    #[must_use]
    pub fn local() -> Self {
        Self::default()
    }

    /// This machine, IP addresses, and the name in `public_url`, which may be empty: a server with a login.
    ///
    /// A Host that is an IP address is no rebound name, for then the page itself came from that address. An
    /// Origin that is one is another server's page, and refused.
    #[must_use]
    pub fn with_login(public_url: &str) -> Self {
        Self {
            origin: origin_of(public_url).map(Arc::from),
            takes_addresses: true,
        }
    }

    /// The origin of the public address.
    #[must_use]
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Checks both headers of a request. An absent Origin is a program, not a page, and is allowed.
    #[must_use]
    pub fn allow(&self, host: Option<&str>, origin: Option<&str>) -> bool {
        host.is_none_or(|host| self.allow_host(host)) && origin.is_none_or(|origin| self.allow_origin(origin))
    }

    /// True where an `Origin` header is a page of this machine or of the public address.
    #[must_use]
    pub fn allow_origin(&self, origin: &str) -> bool {
        origin_is_loopback(origin) || (self.origin.is_some() && origin_of(origin).as_deref() == self.origin())
    }

    /// True where an `Origin` header is the very page that a request to `host` belongs to, not just one of the
    /// same machine: what a change by a cookie must come from.
    #[must_use]
    pub fn is_own_page(&self, host: Option<&str>, origin: &str) -> bool {
        let Some(origin) = origin_of(origin) else { return false };
        let is_of_host = |host: &str| {
            ["http", "https"]
                .iter()
                .any(|scheme| origin_of(&format!("{scheme}://{host}")).as_ref() == Some(&origin))
        };
        self.origin() == Some(&origin) || host.is_some_and(is_of_host)
    }

    fn allow_host(&self, host: &str) -> bool {
        if host_is_loopback(host) {
            return true;
        }
        let name = name_of(host);
        let is_address = |name: &str| name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let own = self
            .origin()
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, rest)| name_of(rest));
        own.is_some_and(|own| own.eq_ignore_ascii_case(name)) || (self.takes_addresses && is_address(name))
    }
}

/// A Host without its port; as it is where what follows the colon is none.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Scheme, host and port of an http address, as browsers write an origin.
fn origin_of(url: &str) -> Option<String> {
    let url = url.trim().to_ascii_lowercase();
    let (scheme, rest) = url
        .split_once("://")
        .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))?;
    let host = rest
        .split(['/', '?', '#'])
        .next()
        .filter(|host| !host.is_empty() && !host.contains('@'))?;
    let usual = if scheme == "https" { ":443" } else { ":80" };
    Some(format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host)))
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

    #[test]
    fn a_public_address_is_let_in_beside_this_machine_and_nothing_else_is() {
        let names = Names::with_login("https://Costs.example/spanledger");
        for (host, origin) in [
            (Some("costs.example"), None),
            (Some("costs.example:443"), Some("https://costs.example")),
            (Some("COSTS.example"), Some("https://costs.example:443")),
            (Some("10.1.2.3:8080"), None),
            (Some("[fd00::1]:8080"), None),
            (Some("127.0.0.1:8080"), Some("http://127.0.0.1:8080")),
        ] {
            assert!(names.allow(host, origin), "{host:?} {origin:?}");
        }
        for (host, origin) in [
            (Some("costs.example.evil.test"), None),
            (Some("evil.test"), None),
            (Some("costs.example@evil.test"), None),
            (Some("costs.example"), Some("http://costs.example")),
            (Some("costs.example"), Some("https://costs.example:8443")),
            (Some("costs.example"), Some("https://10.1.2.3")),
            (Some("costs.example"), Some("null")),
        ] {
            assert!(!names.allow(host, origin), "{host:?} {origin:?}");
        }
        assert!(!Names::local().allow(Some("10.1.2.3:8080"), None));
        assert!(!Names::local().allow(Some("costs.example"), None));
    }

    #[test]
    fn a_cookie_changes_things_from_its_own_page_only() {
        let names = Names::with_login("https://costs.example");
        assert!(names.is_own_page(Some("127.0.0.1:8080"), "http://127.0.0.1:8080"));
        assert!(names.is_own_page(Some("proxy.internal"), "https://costs.example"));
        // another port of this machine is another program's page
        assert!(!names.is_own_page(Some("127.0.0.1:8080"), "http://127.0.0.1:3000"));
        assert!(!names.is_own_page(Some("127.0.0.1:8080"), "null"));
        assert!(!names.is_own_page(None, "https://evil.test"));
    }
}
