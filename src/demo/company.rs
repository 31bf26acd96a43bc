//! Acme, the fictional company: who works there, with which agents, models and MCP servers.
//!
//! Data only. Names are invented; models and their prices are real, except the one that Acme runs itself
//! and that nobody has a price for.

/// How the usage of a model's calls develops and what its provider calls things.
#[derive(Debug, PartialEq, Eq)]
pub struct Model {
    /// Provider as the GenAI conventions name it.
    pub provider: &'static str,
    /// Name asked for.
    pub request: &'static str,
    /// Name that answers.
    pub response: &'static str,
    /// What its provider caches.
    pub caching: Caching,
    /// Prefix of response ids.
    pub response_id_prefix: &'static str,
}

/// Prompt caching of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Written explicitly and charged, read cheaply.
    Explicit,
    /// Automatic, reads in blocks of 128 tokens, writes free.
    Automatic,
    /// None, or not reported.
    None,
}

/// Convention that an agent's host or SDK emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenTelemetry GenAI conventions with the newest names.
    GenAi,
    /// OpenTelemetry GenAI conventions 1.37 to 1.41, with a roll-up parent.
    GenAi137,
    /// The first generation: `gen_ai.system`, `prompt_tokens`.
    GenAiFirst,
    /// OpenInference, doubled by the Anthropic SDK's own spans.
    OpenInference,
    /// Claude Code: spans, events and metrics of the same calls.
    ClaudeCode,
}

/// Which SDK an MCP server is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerSdk {
    /// FastMCP: names its server in an attribute.
    FastMcp,
    /// The MCP Python SDK: the service is the server.
    Python,
}

/// A tool.
#[derive(Debug)]
pub struct Tool {
    /// Name on its server.
    pub name: &'static str,
    /// Example of its arguments.
    pub arguments: &'static str,
    /// Milliseconds it takes, from and to.
    pub duration_ms: (i64, i64),
    /// Bytes it answers, from and to.
    pub result_bytes: (i64, i64),
    /// Failures in a thousand calls.
    pub failures_permille: u64,
    /// What a failure says.
    pub failure: &'static str,
}

/// An MCP server.
#[derive(Debug)]
pub struct Server {
    /// Its name.
    pub name: &'static str,
    /// `service.name` of its own telemetry.
    pub service: &'static str,
    /// What it is built with.
    pub sdk: ServerSdk,
    /// Tools it lists.
    pub tools: &'static [Tool],
    /// Prompts it offers.
    pub prompts: &'static [&'static str],
    /// Resources it offers.
    pub resources: &'static [&'static str],
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    /// Its name.
    pub name: &'static str,
    /// Team that pays.
    pub team: &'static str,
    /// Convention it emits.
    pub dialect: Dialect,
    /// Its models; the first is used most.
    pub models: &'static [&'static Model],
    /// Names of the servers it uses.
    pub servers: &'static [&'static str],
    /// Sessions on a working day.
    pub sessions: u32,
    /// Model calls in a session, from and to.
    pub steps: (i64, i64),
    /// Tool calls after a model call, from and to.
    pub tools_per_step: (i64, i64),
    /// Tokens of system prompt and tool definitions, from and to.
    pub base_tokens: (i64, i64),
    /// People it works for.
    pub users: &'static [&'static str],
    /// Also makes one embedding call at the start of a session.
    pub embeds: bool,
}

const SONNET: Model = Model {
    provider: "anthropic",
    request: "claude-sonnet-4-5",
    response: "claude-sonnet-4-5-20250929",
    caching: Caching::Explicit,
    response_id_prefix: "msg_01",
};
const HAIKU: Model = Model {
    provider: "anthropic",
    request: "claude-haiku-4-5",
    response: "claude-haiku-4-5-20251001",
    caching: Caching::Explicit,
    response_id_prefix: "msg_01",
};
const GPT_5: Model = Model {
    provider: "openai",
    request: "gpt-5",
    response: "gpt-5-2025-08-07",
    caching: Caching::Automatic,
    response_id_prefix: "resp_",
};
const GPT_5_MINI: Model = Model {
    provider: "openai",
    request: "gpt-5-mini",
    response: "gpt-5-mini-2025-08-07",
    caching: Caching::None,
    response_id_prefix: "chatcmpl-",
};
const GEMINI_FLASH: Model = Model {
    provider: "gcp.gemini",
    request: "gemini-2.5-flash",
    response: "gemini-2.5-flash",
    caching: Caching::Automatic,
    response_id_prefix: "gmi-",
};
/// Acme's own model: in no price book, so its tokens must show up as unpriced and never as free.
const ACME_7B: Model = Model {
    provider: "acme",
    request: "acme-internal-7b",
    response: "acme-internal-7b",
    caching: Caching::None,
    response_id_prefix: "acme-",
};
/// Embedding model of the search team.
pub const EMBEDDING: Model = Model {
    provider: "openai",
    request: "text-embedding-3-small",
    response: "text-embedding-3-small",
    caching: Caching::None,
    response_id_prefix: "emb-",
};

/// The model without a price.
pub const UNPRICED_MODEL: &str = ACME_7B.request;
/// The agent that runs into the retry loop.
pub const RUNAWAY_AGENT: &str = "incident-responder";
/// Server of the tool that the loop calls.
pub const RUNAWAY_SERVER: &str = "postgres";
/// Tool that the loop calls.
pub const RUNAWAY_TOOL: &str = "run_query";
/// Day of the week the loop happens on: Thursday, as days from Monday.
pub const RUNAWAY_WEEKDAY: u32 = 3;
/// Model calls of the loop, each followed by one failing tool call, within an hour.
pub const RUNAWAY_STEPS: i64 = 360;

const fn tool(
    name: &'static str,
    arguments: &'static str,
    duration_ms: (i64, i64),
    result_bytes: (i64, i64),
    failures_permille: u64,
    failure: &'static str,
) -> Tool {
    Tool {
        name,
        arguments,
        duration_ms,
        result_bytes,
        failures_permille,
        failure,
    }
}

/// Acme's MCP servers.
pub const SERVERS: &[Server] = &[
    Server {
        name: "github",
        service: "github-mcp",
        sdk: ServerSdk::FastMcp,
        tools: &[
            tool(
                "search_code",
                "{\"q\":\"retry budget\",\"repo\":\"acme/shop\"}",
                (120, 900),
                (600, 6000),
                15,
                "rate limit exceeded",
            ),
            tool(
                "get_file",
                "{\"repo\":\"acme/shop\",\"path\":\"src/cart.rs\"}",
                (60, 400),
                (800, 9000),
                20,
                "no such file",
            ),
            tool(
                "list_pull_requests",
                "{\"repo\":\"acme/shop\",\"state\":\"open\"}",
                (90, 500),
                (500, 4000),
                8,
                "rate limit exceeded",
            ),
            tool(
                "create_pull_request",
                "{\"repo\":\"acme/shop\",\"title\":\"Fix the cart\"}",
                (300, 1200),
                (200, 600),
                60,
                "a pull request already exists",
            ),
        ],
        prompts: &["review_change", "triage_issue"],
        resources: &["repo://acme/shop/README.md", "repo://acme/search/README.md"],
    },
    Server {
        name: "jira",
        service: "jira-mcp",
        sdk: ServerSdk::FastMcp,
        tools: &[
            tool(
                "search_issues",
                "{\"jql\":\"project = SHOP AND status = Open\"}",
                (150, 1100),
                (700, 5000),
                20,
                "the query cannot be parsed",
            ),
            tool(
                "get_issue",
                "{\"key\":\"SHOP-421\"}",
                (80, 500),
                (300, 2500),
                10,
                "no such issue",
            ),
            tool(
                "add_comment",
                "{\"key\":\"SHOP-421\",\"body\":\"Looking into it\"}",
                (120, 700),
                (80, 200),
                25,
                "the issue is closed",
            ),
        ],
        prompts: &["plan_sprint"],
        resources: &["jira://boards/shop"],
    },
    Server {
        name: "postgres",
        service: "postgres",
        sdk: ServerSdk::Python,
        tools: &[
            tool(
                "run_query",
                "{\"sql\":\"SELECT status, count(*) FROM orders GROUP BY 1\"}",
                (15, 800),
                (200, 7000),
                30,
                "canceling statement due to statement timeout",
            ),
            tool(
                "describe_table",
                "{\"table\":\"orders\"}",
                (8, 60),
                (300, 1800),
                5,
                "no such table",
            ),
            tool(
                "explain_query",
                "{\"sql\":\"SELECT 1\"}",
                (10, 90),
                (200, 1500),
                10,
                "syntax error",
            ),
        ],
        prompts: &[],
        resources: &["postgres://shop/schema"],
    },
    Server {
        name: "stripe",
        service: "stripe",
        sdk: ServerSdk::Python,
        tools: &[
            tool(
                "get_charge",
                "{\"id\":\"ch_3Q1\"}",
                (70, 350),
                (300, 1200),
                12,
                "no such charge",
            ),
            tool(
                "list_disputes",
                "{\"limit\":20}",
                (90, 500),
                (500, 3500),
                10,
                "too many requests",
            ),
            tool(
                "create_refund",
                "{\"charge\":\"ch_3Q1\",\"amount\":1290}",
                (200, 900),
                (150, 400),
                45,
                "the charge is already refunded",
            ),
        ],
        prompts: &["dispute_letter"],
        resources: &[],
    },
    Server {
        name: "weather",
        service: "weather-mcp",
        sdk: ServerSdk::FastMcp,
        tools: &[
            tool(
                "get_forecast",
                "{\"city\":\"Oslo\",\"days\":3}",
                (30, 250),
                (60, 400),
                6,
                "no such city",
            ),
            tool(
                "get_alerts",
                "{\"region\":\"nordics\"}",
                (30, 600),
                (60, 900),
                90,
                "upstream alert feed timed out",
            ),
        ],
        prompts: &[],
        resources: &["weather://stations"],
    },
];

/// Acme's agents.
pub const AGENTS: &[Agent] = &[
    Agent {
        name: "checkout-assistant",
        team: "payments",
        dialect: Dialect::GenAi,
        models: &[&SONNET],
        servers: &["stripe", "postgres"],
        sessions: 13,
        steps: (4, 10),
        tools_per_step: (2, 6),
        base_tokens: (5200, 5600),
        users: &["mara@acme.test", "tomas@acme.test"],
        embeds: false,
    },
    Agent {
        name: "fraud-triage",
        team: "payments",
        dialect: Dialect::OpenInference,
        models: &[&HAIKU, &SONNET],
        servers: &["stripe", "postgres"],
        sessions: 10,
        steps: (5, 9),
        tools_per_step: (3, 6),
        base_tokens: (3800, 4100),
        users: &["ines@acme.test"],
        embeds: false,
    },
    Agent {
        name: "query-rewriter",
        team: "search",
        dialect: Dialect::GenAiFirst,
        models: &[&GPT_5_MINI, &ACME_7B],
        servers: &["weather", "postgres"],
        sessions: 18,
        steps: (3, 6),
        tools_per_step: (2, 5),
        base_tokens: (900, 1200),
        users: &["search-frontend"],
        embeds: true,
    },
    Agent {
        name: "docs-answers",
        team: "search",
        dialect: Dialect::GenAi137,
        models: &[&GEMINI_FLASH],
        servers: &["github", "jira"],
        sessions: 10,
        steps: (5, 10),
        tools_per_step: (3, 6),
        base_tokens: (4200, 4600),
        users: &["docs-portal"],
        embeds: false,
    },
    Agent {
        name: "claude-code",
        team: "platform",
        dialect: Dialect::ClaudeCode,
        models: &[&SONNET, &HAIKU],
        servers: &["github", "jira", "weather"],
        sessions: 6,
        steps: (8, 18),
        tools_per_step: (2, 6),
        base_tokens: (17000, 19000),
        users: &["li@acme.test", "sven@acme.test", "priya@acme.test"],
        embeds: false,
    },
    Agent {
        name: RUNAWAY_AGENT,
        team: "platform",
        dialect: Dialect::GenAi,
        models: &[&GPT_5],
        servers: &["postgres", "github"],
        sessions: 5,
        steps: (6, 12),
        tools_per_step: (2, 5),
        base_tokens: (6000, 6600),
        users: &["oncall@acme.test"],
        embeds: false,
    },
];

/// The server of a name.
pub fn server(name: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn acme_has_three_teams_six_agents_and_five_servers() {
        let teams: BTreeSet<_> = AGENTS.iter().map(|agent| agent.team).collect();
        assert_eq!((teams.len(), AGENTS.len(), SERVERS.len()), (3, 6, 5));
    }

    #[test]
    fn every_agent_uses_known_servers() {
        for agent in AGENTS {
            assert!(
                agent.servers.iter().all(|name| server(name).is_some()),
                "{}",
                agent.name
            );
        }
        let loops_on = server(RUNAWAY_SERVER).map(|server| server.tools.iter().any(|tool| tool.name == RUNAWAY_TOOL));
        assert_eq!(loops_on, Some(true));
    }
}
