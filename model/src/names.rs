//! Names of tools as hosts spell them.
//!
//! Ingest uses it on what one record says, settlement on what all records of a call, and of a conversation, say:
//! the rule is the same. Which server is meant is decided by the caller; nothing is looked up here.

/// Signs by which hosts divide a server's name from its tool's. They are alike within a name too:
/// `my-weather` is sent as `my_weather`.
const SEPARATORS: [char; 5] = ['_', '-', '.', '/', ':'];

/// A tool's name without its server's, where it carries it: `mcp_<server>_<tool>`, letters in either case and
/// dashes, dots and underscores alike; with the server's name alone before it (`<server>_<tool>`) only where names
/// are known to be prefixed (`is_prefixed`), for a server `slack` may well have a tool `slack_post`. Absent
/// where the name does not carry the server's.
#[must_use]
pub fn without_server<'t>(tool: &'t str, server: &str, is_prefixed: bool) -> Option<&'t str> {
    let marked = tool.strip_prefix("mcp").filter(|rest| rest.starts_with(SEPARATORS));
    let behind_mark = marked.and_then(|rest| {
        let name = rest.trim_start_matches(SEPARATORS);
        // Codex writes `mcp__<server><tool>` in its span names, nothing between them.
        let runs_on = rest.starts_with("__") && !name.contains("__");
        behind_server(name, server, runs_on)
    });
    behind_mark.or_else(|| behind_server(tool, server, false).filter(|_| is_prefixed))
}

/// What follows the server's name and a separator, or, where names run on, the server's name alone.
fn behind_server<'t>(name: &'t str, server: &str, runs_on: bool) -> Option<&'t str> {
    let is_sign = |byte: u8| SEPARATORS.contains(&char::from(byte));
    let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (is_sign(a) && is_sign(b));
    let (head, tail) = (name.get(..server.len())?, name.get(server.len()..)?);
    let is_server = !server.is_empty() && head.bytes().zip(server.bytes()).all(|(a, b)| same(a, b));
    let bare = tail.trim_start_matches(SEPARATORS);
    (is_server && !bare.is_empty() && (runs_on || bare.len() < tail.len())).then_some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_loses_the_name_of_its_server() {
        for (tool, server, is_prefixed, expected) in [
            ("mcp_weather_get_forecast", "weather", false, Some("get_forecast")),
            ("mcp__weather__get_forecast", "weather", false, Some("get_forecast")),
            ("mcp__weatherget_forecast", "weather", false, Some("get_forecast")),
            ("MCP", "weather", true, None),
            ("mcp-Weather-get", "weather", false, Some("get")),
            ("weather-get_forecast", "weather", true, Some("get_forecast")),
            ("weather_get_forecast", "weather", true, Some("get_forecast")),
            ("weather.get_forecast", "weather", true, Some("get_forecast")),
            ("my-weather-get-forecast", "my_weather", true, Some("get-forecast")),
            ("my_weather_get", "my.weather", true, Some("get")),
            ("slack_post", "slack", false, None),
            ("slack_post", "slack", true, Some("post")),
            ("get_forecast", "weather", true, None),
            ("weather", "weather", true, None),
            ("weather_", "weather", true, None),
            ("weathermap", "weather", true, None),
            ("weather_get", "", true, None),
            ("é", "ab", true, None),
        ] {
            assert_eq!(without_server(tool, server, is_prefixed), expected, "{tool} {server}");
        }
    }

    #[test]
    fn the_name_of_a_longer_server_is_not_taken_for_that_of_a_shorter() {
        for tool in ["mcp__github__create", "mcp_github_create", "github_create"] {
            assert_eq!(without_server(tool, "git", true), None, "{tool}");
        }
    }

    #[test]
    fn a_server_whose_own_name_starts_with_the_mark_is_found() {
        assert_eq!(without_server("mcp_weather_get", "mcp_weather", true), Some("get"));
        assert_eq!(without_server("mcp_get", "mcp", true), Some("get"));
    }
}
