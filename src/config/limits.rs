//! `[limits]`: what one tenant may send and ask in a second, where credentials tell tenants apart.

use serde::Deserialize;
use spanledger_access::rates::Rate;

use super::resolve::{Resolver, Setting};
use super::{Shown, shown};

/// A tenant's senders together: a thousand SDKs that send every 5 s are 200 a second.
const OTLP_REQUESTS_DEFAULT: u64 = 1_000;
/// As they come over the wire: more than one node stores of anyone.
const OTLP_BYTES_DEFAULT: u64 = 128 << 20;
/// REST and MCP: a page of the dashboard asks ten questions, an agent a few a second.
const API_REQUESTS_DEFAULT: u64 = 200;
/// What senders may send at once after a pause, in seconds of the rate: a collector that was cut off sends its queue.
const OTLP_BURST_S: u64 = 10;
/// What may be asked at once: some pages of the dashboard. What is more slows the others down (S9).
const API_BURST_S: u64 = 2;

/// `[limits]`; 0 is no limit.
#[derive(Debug, Clone)]
pub struct TenantLimits {
    /// OTLP requests a second.
    pub otlp_requests_per_second: Setting<u64>,
    /// Bytes of OTLP bodies a second, compressed as they are.
    pub otlp_bytes_per_second: Setting<u64>,
    /// REST and MCP requests a second.
    pub api_requests_per_second: Setting<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileLimits {
    otlp_requests_per_second: Option<u64>,
    otlp_bytes_per_second: Option<u64>,
    api_requests_per_second: Option<u64>,
}

const OTLP_REQUESTS: (&str, &str) = (
    "limits.otlp_requests_per_second",
    "SPANLEDGER_LIMITS_OTLP_REQUESTS_PER_SECOND",
);
const OTLP_BYTES: (&str, &str) = (
    "limits.otlp_bytes_per_second",
    "SPANLEDGER_LIMITS_OTLP_BYTES_PER_SECOND",
);
const API_REQUESTS: (&str, &str) = (
    "limits.api_requests_per_second",
    "SPANLEDGER_LIMITS_API_REQUESTS_PER_SECOND",
);

impl TenantLimits {
    pub(super) fn resolve(file: &FileLimits, from: &Resolver) -> anyhow::Result<Self> {
        let pick = |(key, env): (&'static str, &'static str), file, default| from.pick(key, env, None, file, default);
        Ok(Self {
            otlp_requests_per_second: pick(OTLP_REQUESTS, file.otlp_requests_per_second, OTLP_REQUESTS_DEFAULT)?,
            otlp_bytes_per_second: pick(OTLP_BYTES, file.otlp_bytes_per_second, OTLP_BYTES_DEFAULT)?,
            api_requests_per_second: pick(API_REQUESTS, file.api_requests_per_second, API_REQUESTS_DEFAULT)?,
        })
    }

    /// OTLP requests.
    pub fn otlp_requests(&self) -> Rate {
        rate(&self.otlp_requests_per_second, OTLP_BURST_S)
    }

    /// Bytes of OTLP bodies.
    pub fn otlp_bytes(&self) -> Rate {
        rate(&self.otlp_bytes_per_second, OTLP_BURST_S)
    }

    /// REST and MCP requests.
    pub fn api_requests(&self) -> Rate {
        rate(&self.api_requests_per_second, API_BURST_S)
    }

    pub(super) fn show(&self) -> Vec<Shown> {
        let show = |(key, env), setting: &Setting<u64>| shown(key, env, setting, ToString::to_string);
        vec![
            show(OTLP_REQUESTS, &self.otlp_requests_per_second),
            show(OTLP_BYTES, &self.otlp_bytes_per_second),
            show(API_REQUESTS, &self.api_requests_per_second),
        ]
    }
}

fn rate(per_second: &Setting<u64>, burst_s: u64) -> Rate {
    Rate {
        per_second: per_second.value,
        burst: per_second.value.saturating_mul(burst_s),
    }
}
