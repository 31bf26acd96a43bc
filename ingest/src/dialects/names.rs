//! Names as the field spells them, folded to one spelling: providers, tool names that carry a host's prefix,
//! and what an MCP span's own name says.

/// Folds a provider's name to the one of the current GenAI conventions (`gen_ai.provider.name`).
#[must_use]
pub fn provider(name: &str) -> String {
    let name = name.trim();
    // The AI SDK appends the API: `openai.chat`, `anthropic.messages`.
    let bare = name
        .strip_suffix(".chat")
        .or_else(|| name.strip_suffix(".messages"))
        .or_else(|| name.strip_suffix(".responses"))
        .unwrap_or(name);
    let lower = bare.to_ascii_lowercase();
    match lower.as_str() {
        "az.ai.openai" | "azure_openai" | "azure.openai" => "azure.ai.openai",
        "az.ai.inference" => "azure.ai.inference",
        "vertex_ai" | "vertexai" | "google.vertex" => "gcp.vertex_ai",
        "gemini" | "google" | "google.generative-ai" => "gcp.gemini",
        "xai" => "x_ai",
        "mistral" | "mistralai" => "mistral_ai",
        "bedrock" | "aws_bedrock" | "amazon-bedrock" => "aws.bedrock",
        "moonshot" => "moonshot_ai",
        known => known,
    }
    .to_owned()
}

/// Splits a model's name that carries its provider, `<provider>/<model>`, as gateways write it: the provider by
/// its current name. Only providers that are known: other prefixes are part of a model's name.
#[must_use]
pub fn split_provider(model: &str) -> Option<(String, &str)> {
    const KNOWN: [&str; 17] = [
        "openai",
        "anthropic",
        "azure.ai.openai",
        "azure.ai.inference",
        "gcp.vertex_ai",
        "gcp.gemini",
        "aws.bedrock",
        "x_ai",
        "mistral_ai",
        "moonshot_ai",
        "deepseek",
        "groq",
        "cohere",
        "perplexity",
        "fireworks",
        "together",
        "openrouter",
    ];
    let (prefix, bare) = model.split_once('/')?;
    let name = match prefix {
        "azure" => "azure.ai.openai".to_owned(),
        prefix => provider(prefix),
    };
    (KNOWN.contains(&name.as_str()) && !bare.is_empty()).then_some((name, bare))
}

/// Splits a tool name that carries its MCP server, `mcp__<server>__<tool>`, as Claude Code and others write
/// it. Spellings with a single separator are ambiguous and are resolved by settlement against names seen.
#[must_use]
pub fn split_mcp_tool(name: &str) -> Option<(&str, &str)> {
    let (server, tool) = name.strip_prefix("mcp__")?.split_once("__")?;
    (!server.is_empty() && !tool.is_empty()).then_some((server, tool))
}

/// What an MCP span's name says: the method and the tool or prompt it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct McpSpanName<'n> {
    /// JSON-RPC method.
    pub method: &'n str,
    /// Tool or prompt.
    pub target: Option<&'n str>,
}

/// Reads `tools/call X`, `MCP send tools/call X`, and the like.
#[must_use]
pub fn mcp_span_name(name: &str) -> Option<McpSpanName<'_>> {
    let name = name.strip_prefix("MCP send ").unwrap_or(name);
    let (method, target) = match name.split_once(' ') {
        Some((method, target)) => (method, Some(target.trim()).filter(|target| !target.is_empty())),
        None => (name, None),
    };
    let family = method.split('/').next()?;
    let is_mcp = matches!(
        family,
        "tools"
            | "prompts"
            | "resources"
            | "initialize"
            | "ping"
            | "server"
            | "sampling"
            | "elicitation"
            | "completion"
            | "logging"
            | "roots"
            | "tasks"
            | "notifications"
            | "subscriptions"
    );
    (is_mcp && (method.contains('/') || method == "initialize" || method == "ping"))
        .then_some(McpSpanName { method, target })
}

/// The tool named by a host's span name: `execute_tool X`.
#[must_use]
pub fn executed_tool(name: &str) -> Option<&str> {
    name.strip_prefix("execute_tool ")
        .map(str::trim)
        .filter(|tool| !tool.is_empty())
}

/// Folds a transport's name: `pipe` is stdio, any HTTP flavour is http.
#[must_use]
pub fn transport(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "pipe" | "stdio" => "stdio",
        "tcp" | "quic" | "http" | "https" | "sse" | "streamable-http" | "streamable_http" | "streamablehttp" => "http",
        other => return other.to_owned(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_fold_to_the_current_names() {
        for (sent, expected) in [
            ("az.ai.openai", "azure.ai.openai"),
            ("vertex_ai", "gcp.vertex_ai"),
            ("openai.chat", "openai"),
            ("xai", "x_ai"),
            ("Anthropic", "anthropic"),
            ("acme.chat", "acme"),
        ] {
            assert_eq!(provider(sent), expected);
        }
    }

    #[test]
    fn a_models_prefix_names_a_known_provider() {
        for (model, expected) in [
            ("openai/gpt-4o", Some(("openai", "gpt-4o"))),
            ("azure/gpt-4o", Some(("azure.ai.openai", "gpt-4o"))),
            ("openrouter/meta/llama", Some(("openrouter", "meta/llama"))),
            ("meta-llama/Llama-3", None),
            ("gpt-4o", None),
            ("openai/", None),
        ] {
            let split = split_provider(model);
            let split = split.as_ref().map(|(provider, bare)| (provider.as_str(), *bare));
            assert_eq!(split, expected, "{model}");
        }
    }

    #[test]
    fn a_double_underscore_name_gives_server_and_tool() {
        assert_eq!(
            split_mcp_tool("mcp__weather__get_forecast"),
            Some(("weather", "get_forecast"))
        );
        assert_eq!(
            split_mcp_tool("mcp__github__create__issue"),
            Some(("github", "create__issue"))
        );
        for name in ["mcp__weather", "Bash", "mcp____x", "mcp_weather_get_forecast"] {
            assert_eq!(split_mcp_tool(name), None, "{name}");
        }
    }

    #[test]
    fn mcp_span_names_give_method_and_target() {
        let name = mcp_span_name("MCP send tools/call get_forecast");
        assert_eq!(
            name,
            Some(McpSpanName {
                method: "tools/call",
                target: Some("get_forecast")
            })
        );
        assert_eq!(mcp_span_name("initialize").map(|name| name.method), Some("initialize"));
        for name in ["GET /tools/list", "tools", "chat gpt-5", "server start"] {
            assert_eq!(mcp_span_name(name), None, "{name}");
        }
    }
}
