//! The start-up screen: where everything is and what to paste where, on one screen.
//!
//! Also the machine-readable forms of the same: the ready file and `--print-ports json`.

use std::path::Path;

use serde_json::{Value, json};

use super::ports::Addresses;
use crate::exit::{Kind, fail};

/// The screen of `serve`.
pub fn render(addresses: &Addresses, data: &Path, is_waiting: bool, needs_key: bool) -> String {
    let Addresses {
        http,
        otlp_grpc,
        otlp_http,
    } = addresses;
    let mut text = format!(
        "\
spanledger {version}   data in {data}

  dashboard  http://{http}/          OTLP gRPC  {otlp_grpc}
  REST, SQL  http://{http}/api/v1    OTLP HTTP  {otlp_http}
  MCP        http://{http}/mcp       metrics    http://{http}/metrics

Claude Code (paste before `claude`):
  export CLAUDE_CODE_ENABLE_TELEMETRY=1 CLAUDE_CODE_ENHANCED_TELEMETRY_BETA=1 OTEL_LOG_TOOL_DETAILS=1 \\
    OTEL_METRICS_EXPORTER=otlp OTEL_LOGS_EXPORTER=otlp OTEL_TRACES_EXPORTER=otlp \\
    OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_ENDPOINT=http://{otlp_grpc} \\
    OTEL_RESOURCE_ATTRIBUTES=team.id=my-team

Any OpenTelemetry SDK:
  export OTEL_EXPORTER_OTLP_ENDPOINT=http://{otlp_http} OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf

An MCP client, to ask about costs:
  {{\"mcpServers\": {{\"spanledger\": {{\"type\": \"http\", \"url\": \"http://{http}/mcp\"}}}}}}

A test span:
  {curl}
",
        version = env!("CARGO_PKG_VERSION"),
        data = data.display(),
        curl = test_span(addresses),
    );
    if needs_key {
        text.push_str(
            "\nEvery request needs a key: -H 'authorization: Bearer sl_…', or OTEL_EXPORTER_OTLP_HEADERS for SDKs\n",
        );
    }
    if is_waiting {
        text.push_str("\nwaiting for the first span (Ctrl-C stops)\n");
    } else {
        text.push_str("\nready (Ctrl-C stops)\n");
    }
    text
}

/// What to do on a server that asks for credentials while there is no key that could make others.
pub fn first_key(data: &Path) -> String {
    format!(
        "every request needs an API key, and there is none of an administrator yet; make it while this runs:\n  \
         spanledger keys create --role admin --data {}\n\
         then keys for senders (--role ingest) and people (--role viewer, analyst, finops); `spanledger keys create --help`",
        data.display()
    )
}

/// A command that sends one model call, dated now.
fn test_span(addresses: &Addresses) -> String {
    format!(
        "curl -sS http://{}/v1/traces -H 'content-type: application/json' -d '{{\"resourceSpans\":[{{\"resource\":{{\"attributes\":[\
{{\"key\":\"service.name\",\"value\":{{\"stringValue\":\"curl\"}}}},{{\"key\":\"team\",\"value\":{{\"stringValue\":\"my-team\"}}}}]}},\
\"scopeSpans\":[{{\"spans\":[{{\"traceId\":\"'$(openssl rand -hex 16)'\",\"spanId\":\"'$(openssl rand -hex 8)'\",\"name\":\"chat gpt-5-mini\",\"kind\":3,\
\"startTimeUnixNano\":\"'$(date +%s)'000000000\",\"endTimeUnixNano\":\"'$(date +%s)'900000000\",\"attributes\":[\
{{\"key\":\"gen_ai.operation.name\",\"value\":{{\"stringValue\":\"chat\"}}}},{{\"key\":\"gen_ai.provider.name\",\"value\":{{\"stringValue\":\"openai\"}}}},\
{{\"key\":\"gen_ai.request.model\",\"value\":{{\"stringValue\":\"gpt-5-mini\"}}}},{{\"key\":\"gen_ai.usage.input_tokens\",\"value\":{{\"intValue\":\"1200\"}}}},\
{{\"key\":\"gen_ai.usage.output_tokens\",\"value\":{{\"intValue\":\"80\"}}}}]}}]}}]}}]}}'",
        addresses.otlp_http
    )
}

/// What a program needs to know about a running server.
pub fn ports(addresses: &Addresses, data: &Path) -> Value {
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "http": addresses.http.to_string(),
        "otlp_grpc": addresses.otlp_grpc.to_string(),
        "otlp_http": addresses.otlp_http.to_string(),
        "data": data.display().to_string(),
    })
}

/// Writes the ready file under another name first, so that what is there is whole.
///
/// # Errors
/// Kind invalid where the folder cannot be written.
pub fn write_ready_file(path: &Path, ports: &Value) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    std::fs::write(&temporary, format!("{ports}\n"))
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| {
            fail(
                Kind::Invalid,
                format!(
                    "cannot write --ready-file {}: {error}; choose a folder that can be written",
                    path.display()
                ),
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn addresses() -> Addresses {
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        Addresses {
            http: address(8080),
            otlp_grpc: address(4317),
            otlp_http: address(4318),
        }
    }

    #[test]
    fn the_screen_names_every_address_and_fits() {
        let text = render(&addresses(), Path::new("./spanledger-data"), true, true);
        for part in [
            "127.0.0.1:8080",
            "127.0.0.1:4317",
            "127.0.0.1:4318",
            "./spanledger-data",
            "waiting for the first span",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.lines().count() <= 24, "{}", text.lines().count());
    }

    #[test]
    fn the_pasted_json_is_json() {
        let text = render(&addresses(), Path::new("x"), true, false);
        let client = text.lines().find(|line| line.contains("mcpServers")).unwrap();
        serde_json::from_str::<Value>(client.trim()).unwrap();
        let span = test_span(&addresses());
        let body = span.split_once("-d '").unwrap().1.trim_end_matches('\'');
        let body = body
            .replace("'$(openssl rand -hex 16)'", &"ab".repeat(16))
            .replace("'$(openssl rand -hex 8)'", &"ab".repeat(8))
            .replace("'$(date +%s)'", "1795347776");
        serde_json::from_str::<Value>(&body).unwrap();
    }

    #[test]
    fn the_ready_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        write_ready_file(&path, &ports(&addresses(), Path::new("x"))).unwrap();
        let read: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read["otlp_grpc"], "127.0.0.1:4317");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
