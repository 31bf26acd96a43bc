//! Opens the listening sockets, first of all, so that a port in use is told before anything is touched.

use std::io;
use std::net::SocketAddr;

use spanledger_access::require_loopback;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::exit::{Kind, fail};

/// The open sockets.
pub struct Ports {
    /// Dashboard, REST, MCP, health and metrics.
    pub http: TcpListener,
    /// OTLP over gRPC.
    pub otlp_grpc: TcpListener,
    /// OTLP over HTTP.
    pub otlp_http: TcpListener,
}

/// Where the server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Dashboard, REST, MCP, health and metrics.
    pub http: SocketAddr,
    /// OTLP over gRPC.
    pub otlp_grpc: SocketAddr,
    /// OTLP over HTTP.
    pub otlp_http: SocketAddr,
}

impl Ports {
    /// Opens all three. Whether others may reach them, the settings have decided ([`Config::usable`]).
    ///
    /// # Errors
    /// Kind busy for a port in use.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            http: bind("--http", config.http.address.value).await?,
            otlp_grpc: bind("--otlp-grpc", config.otlp.grpc.value).await?,
            otlp_http: bind("--otlp-http", config.otlp.http.value).await?,
        })
    }

    /// The addresses, with the ports that the system picked.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn addresses(&self) -> io::Result<Addresses> {
        Ok(Addresses {
            http: self.http.local_addr()?,
            otlp_grpc: self.otlp_grpc.local_addr()?,
            otlp_http: self.otlp_http.local_addr()?,
        })
    }
}

/// Opens the socket of something that has no login.
///
/// # Errors
/// Kind denied for an address that other machines can reach, busy for a port in use.
pub async fn listen(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    require_loopback(flag, address)?;
    bind(flag, address).await
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| refused(flag, address, &error))
}

fn refused(flag: &str, address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => fail(
            Kind::Busy,
            format!(
                "port {} of {} is in use; stop the program that has it, or choose another with {flag} {}:0",
                address.port(),
                address.ip(),
                address.ip()
            ),
        ),
        io::ErrorKind::PermissionDenied => fail(
            Kind::Denied,
            format!(
                "port {} of {} needs privileges; choose one above 1023 with {flag}",
                address.port(),
                address.ip()
            ),
        ),
        _ => fail(
            Kind::Invalid,
            format!("cannot listen on {address}: {error}; choose another address with {flag}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_flag_and_next_step() {
        let first = listen("--http", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let error = listen("--http", first.local_addr().unwrap()).await.err().unwrap();
        assert!(error.to_string().contains("--http 127.0.0.1:0"), "{error}");
        assert_eq!(crate::exit::exit_code(&error), crate::exit::BUSY);
    }

    #[tokio::test]
    async fn a_public_address_is_refused() {
        let error = listen("--http", SocketAddr::from(([0, 0, 0, 0], 0)))
            .await
            .err()
            .unwrap();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::DENIED);
    }
}
