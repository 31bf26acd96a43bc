//! One tool, many spellings: `mcp__weather__get_forecast`, `mcp_weather_get_forecast`, `weather-get_forecast`,
//! `weather/get_forecast`, `get_forecast`, and the hashes Copilot sends instead.
//!
//! Two spellings agree where one is the other with a server's prefix, dashes, dots and underscores alike; a
//! hash agrees with the name it is the hash of. Beyond a call, a [`Directory`] of names that records state in
//! clear resolves prefixed and hashed ones: a pure function of the observations known, by tenant and day.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};
use spanledger_model::call::McpFields;
use spanledger_model::ids::hash_parts;
use spanledger_model::names::without_server;
use spanledger_model::{CallKind, Observation};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;
/// Letters of a SHA-256 in hex.
const HASH_LETTERS: usize = 64;
/// Shortest name that is recognised behind a prefix without a separator.
const BARE_NAME_MIN: usize = 3;
/// Longest name that is compared: longer ones are not names.
const NAME_MAX: usize = 512;
/// Letters at the end of a name by which candidates are found.
const TAIL: usize = 3;

/// True where two names are one tool: equal, or one is the other with a server's prefix, or its hash.
#[must_use]
pub fn names_agree(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    if a == b {
        return true;
    }
    if a.len() > NAME_MAX || b.len() > NAME_MAX {
        return false;
    }
    match (tool_hash(a), tool_hash(b)) {
        (Some(a), Some(b)) => a == b,
        (Some(hash), None) => is_hash_of(hash, b),
        (None, Some(hash)) => is_hash_of(hash, a),
        (None, None) => clear_names_agree(a, b),
    }
}

fn clear_names_agree(a: &str, b: &str) -> bool {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let (folded_long, folded_short) = (collapsed(long), collapsed(short));
    let Some(prefix) = folded_long.strip_suffix(folded_short.as_str()) else {
        return false;
    };
    // Codex writes the server and the tool without anything between them.
    let runs_on = |whole: &str| !whole.contains("__") && short.len() >= BARE_NAME_MIN;
    prefix.is_empty()
        || folded_short.is_empty()
        || prefix.ends_with('_')
        || long.strip_prefix("mcp__").is_some_and(runs_on)
}

/// Dashes, dots, slashes and colons as underscores.
fn folded(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if matches!(letter, '-' | '.' | '/' | ':') {
                '_'
            } else {
                letter
            }
        })
        .collect()
}

/// As [`folded`], several signs in a row as one.
fn collapsed(name: &str) -> String {
    let mut name = folded(name);
    while name.contains("__") {
        name = name.replace("__", "_");
    }
    name
}

/// The hash of the tool in a hashed name: `sha256(server)/sha256(tool)`, or the latter alone.
#[must_use]
pub fn tool_hash(name: &str) -> Option<&str> {
    let tail = name.rsplit('/').next()?;
    is_hash(tail).then_some(tail)
}

/// True for a name that is a hash, or two.
#[must_use]
pub fn is_hashed(name: &str) -> bool {
    tool_hash(name).is_some()
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_LETTERS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn hash_of(name: &str) -> String {
    hex::encode(Sha256::digest(name.as_bytes()))
}

/// True where a hash is that of a name, or of its part behind a prefix.
fn is_hash_of(hash: &str, name: &str) -> bool {
    let tails = name
        .char_indices()
        .filter(|(_, letter)| matches!(letter, '_' | '-' | '.' | '/' | ':'))
        .map(|(at, letter)| &name[at + letter.len_utf8()..]);
    std::iter::once(name)
        .chain(tails.take(16))
        .any(|tail| hash.eq_ignore_ascii_case(&hash_of(tail)))
}

/// Keys by which a caller's record and a server's find each other, whatever the spelling. A name in clear has
/// that of its last letters; a server's also that of its hash, which is all a hashed name has, and that of no
/// name at all, for hosts that keep the name to themselves.
#[must_use]
pub fn tail_keys(kind: CallKind, name: Option<&str>, is_server: bool) -> Vec<[u8; 16]> {
    let key = |text: &str| hash_parts(&[kind.as_str().as_bytes(), text.as_bytes()]);
    let name = name.unwrap_or_default();
    if let Some(hash) = tool_hash(name) {
        return vec![key(&hash.to_ascii_lowercase())];
    }
    let tail = floor(name, name.len().saturating_sub(TAIL));
    let mut keys = vec![key(&folded(&name[tail..]))];
    if is_server {
        keys.extend([key(&hash_of(name)), key("")]);
    }
    keys
}

/// The nearest boundary of a letter at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Servers and tools whose names records state in clear, by tenant and day.
#[derive(Debug, Default)]
pub struct Directory {
    known: HashMap<[u8; 16], Known>,
}

/// The servers and tools that a spelling stood for on a day.
#[derive(Debug)]
struct Known {
    day: i64,
    pairs: BTreeSet<(String, String)>,
}

impl Directory {
    /// Learns the names an observation states. Returns the keys of the spellings that can be resolved now and
    /// could not before, each with the day of the records it helps.
    pub fn learn(&mut self, observation: &Observation) -> Vec<([u8; 16], i64)> {
        let Some((server, tool)) = stated_names(observation) else {
            return Vec::new();
        };
        let tool = without_server(tool, server, true).unwrap_or(tool);
        let tenant = observation.tenant.as_str();
        let day = observation.start_ns.div_euclid(DAY_NS);
        let pair = (server.to_owned(), tool.to_owned());
        let spellings = [squashed(&format!("{server}{tool}")), hash_of(tool), bare(tool)];
        let mut learnt = Vec::new();
        for spelling in spellings {
            let key = day_key(tenant, &spelling, day);
            let is_known_on = |day: i64| {
                let known = self.known.get(&day_key(tenant, &spelling, day));
                known.is_some_and(|known| known.pairs.contains(&pair))
            };
            if is_known_on(day) {
                continue;
            }
            // A record of a day sees the names of the day before and after, too.
            let helped = (day - 1..=day + 1).filter(|of| !(of - 1..=of + 1).any(is_known_on));
            learnt.extend(helped.map(|of| (spelling_key(tenant, &spelling), of)));
            let known = self.known.entry(key).or_insert_with(|| Known {
                day,
                pairs: BTreeSet::new(),
            });
            known.pairs.insert(pair.clone());
        }
        learnt
    }

    /// Forgets the oldest days as long as there are more spellings than `n_max`, but for the newest day.
    pub fn forget_beyond(&mut self, n_max: usize) {
        while self.known.len() > n_max {
            let days = || self.known.values().map(|known| known.day);
            let (Some(oldest), Some(newest)) = (days().min(), days().max()) else {
                return;
            };
            if oldest == newest {
                return;
            }
            self.known.retain(|_, known| known.day > oldest);
        }
    }

    /// Forgets the days before a time, nanoseconds since the Unix epoch.
    pub fn forget_before(&mut self, time_ns: i64) {
        let first = time_ns.div_euclid(DAY_NS);
        self.known.retain(|_, known| known.day >= first);
    }

    /// The server and tool in clear of names that are prefixed or hashed; the first by name where several
    /// would do. Names of the day before and after count too.
    #[must_use]
    pub fn resolve(&self, tenant: &str, start_ns: i64, mcp: &McpFields) -> Option<(&str, &str)> {
        let spelling = unresolved_spelling(mcp)?;
        let day = start_ns.div_euclid(DAY_NS);
        let server = mcp.server.as_deref();
        let server_hash = server.or_else(|| mcp.tool.as_deref()?.split_once('/').map(|(server, _)| server));
        let fits = |(known, _): &&(String, String)| match server_hash {
            Some(server) if is_hash(server) => server.eq_ignore_ascii_case(&hash_of(known)),
            Some(server) if mcp.server.is_some() => server == known,
            _ => true,
        };
        (day - 1..=day + 1)
            .filter_map(|day| self.known.get(&day_key(tenant, &spelling, day)))
            .flat_map(|known| known.pairs.iter().filter(fits))
            .min()
            .map(|(server, tool)| (server.as_str(), tool.as_str()))
    }

    /// The server of a tool's own name, where only one is known to have it.
    #[must_use]
    pub fn server_of(&self, tenant: &str, start_ns: i64, tool: &str) -> Option<&str> {
        let day = start_ns.div_euclid(DAY_NS);
        let mut servers = (day - 1..=day + 1)
            .filter_map(|day| self.known.get(&day_key(tenant, &bare(tool), day)))
            .flat_map(|known| &known.pairs)
            .map(|(server, _)| server.as_str());
        let first = servers.next()?;
        servers.all(|server| server == first).then_some(first)
    }
}

/// The keys under which an observation waits for its names, where they are prefixed, hashed or bare.
#[must_use]
pub fn waiting_keys(observation: &Observation) -> Vec<[u8; 16]> {
    if observation.kind != CallKind::Tool {
        return Vec::new();
    }
    let mcp = &observation.mcp;
    let has_no_server = mcp.server.is_none() && mcp.mcp_method.is_some();
    let alone = mcp.tool.as_deref().filter(|_| has_no_server).map(bare);
    let spellings = unresolved_spelling(mcp).into_iter().chain(alone);
    spellings
        .map(|spelling| spelling_key(observation.tenant.as_str(), &spelling))
        .collect()
}

/// How a tool's own name is kept apart from whole names.
fn bare(tool: &str) -> String {
    format!("tool {tool}")
}

/// What has to be looked up: the hash of a tool, or a whole name whose server is not known.
fn unresolved_spelling(mcp: &McpFields) -> Option<String> {
    let tool = mcp.tool.as_deref().filter(|tool| tool.len() <= NAME_MAX)?;
    if let Some(hash) = tool_hash(tool) {
        return Some(hash.to_ascii_lowercase());
    }
    let has_separator = tool.contains(['_', '-', '.', '/', ':']);
    (mcp.server.is_none() && has_separator).then(|| squashed(tool))
}

fn stated_names(observation: &Observation) -> Option<(&str, &str)> {
    let (server, tool) = (observation.mcp.server.as_deref()?, observation.mcp.tool.as_deref()?);
    let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_MAX && !is_hashed(name);
    (observation.kind == CallKind::Tool && is_name(server) && is_name(tool)).then_some((server, tool))
}

/// A name without separators and without the `mcp` before it.
fn squashed(name: &str) -> String {
    let bare = ["mcp__", "mcp_", "mcp-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    bare.chars()
        .filter(|letter| !matches!(letter, '_' | '-' | '.' | '/' | ':'))
        .collect()
}

fn spelling_key(tenant: &str, spelling: &str) -> [u8; 16] {
    hash_parts(&[tenant.as_bytes(), b"name", spelling.as_bytes()])
}

fn day_key(tenant: &str, spelling: &str, day: i64) -> [u8; 16] {
    hash_parts(&[tenant.as_bytes(), b"name", spelling.as_bytes(), &day.to_le_bytes()])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_tool_in_every_spelling_is_one_tool() {
        let hashed = format!("{}/{}", hash_of("weather"), hash_of("get_forecast"));
        let spellings = [
            "mcp__weather__get_forecast",
            "mcp_weather_get_forecast",
            "weather_get_forecast",
            "weather-get_forecast",
            "weather-get-forecast",
            "weather.get_forecast",
            "weather/get_forecast",
            "mcp__weatherget_forecast",
            "get_forecast",
            &hash_of("get_forecast"),
            &hashed,
        ];
        for spelling in spellings {
            assert!(names_agree(Some(spelling), Some("get_forecast")), "{spelling}");
        }
        for other in [
            "get_alerts",
            "forecast_get",
            "target_forecast",
            "mcp__weather__forget_forecast",
        ] {
            assert!(!names_agree(Some(other), Some("get_forecast")), "{other}");
        }
    }
}
