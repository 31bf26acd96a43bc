//! The week as it happened, before any dialect tells it: sessions of model calls and MCP calls.
//!
//! What is planned here is the truth ([`super::totals`] sums it); a dialect may tell one call three times
//! or spread it over nine spans, and the ledger has to find the plan again. Counts depend on the day of
//! the week, not on the date, so every full week has the same totals.

use chrono::{Datelike, Days, NaiveDate};

use super::company::{
    self, AGENTS, Agent, Caching, EMBEDDING, Model, RUNAWAY_AGENT, RUNAWAY_SERVER, RUNAWAY_STEPS, RUNAWAY_TOOL,
    RUNAWAY_WEEKDAY, Server, Tool,
};
use super::rng::Rng;

/// Nanoseconds of a millisecond.
pub const MS: i64 = 1_000_000;
const MINUTE: i64 = 60_000 * MS;
const HOUR: i64 = 60 * MINUTE;
/// Weekend traffic in percent of a working day's.
const WEEKEND_PERCENT: u32 = 30;
/// Model calls in a thousand that fail at the provider and are tried again.
const LLM_FAILURES_PERMILLE: u64 = 12;
/// Context, in tokens, at which a long session is compacted.
const CONTEXT_TOKENS_MAX: i64 = 120_000;
/// Automatic caches read in blocks of this many tokens.
const CACHE_BLOCK_TOKENS: i64 = 128;

/// One session of an agent.
#[derive(Debug)]
pub struct Session {
    /// Who ran.
    pub agent: &'static Agent,
    /// Conversation id.
    pub id: String,
    /// For whom.
    pub user: &'static str,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// End, nanoseconds since the Unix epoch.
    pub end_ns: i64,
    /// Servers connected to at the start, each listing its tools.
    pub servers: Vec<&'static Server>,
    /// What happened, in order of start.
    pub steps: Vec<Step>,
}

/// One call of a session.
#[derive(Debug)]
pub enum Step {
    /// A model call or an embedding.
    Model(ModelCall),
    /// An MCP call.
    Mcp(McpCall),
}

/// A model call. Token counts are inclusive.
#[derive(Debug)]
pub struct ModelCall {
    /// The model.
    pub model: &'static Model,
    /// An embedding, not an answer.
    pub embedding: bool,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds.
    pub duration_ns: i64,
    /// Input, cache included.
    pub input: i64,
    /// Input read from the cache.
    pub cache_read: i64,
    /// Input written to the cache.
    pub cache_write: i64,
    /// Output, reasoning included.
    pub output: i64,
    /// Provider's id of the answer.
    pub response_id: String,
    /// HTTP attempts it took (a host that retries inside one call).
    pub attempts: i64,
    /// Failed without an answer.
    pub failure: Option<&'static str>,
    /// The turn ends with it.
    pub last: bool,
}

/// What an MCP call asked for.
#[derive(Debug)]
pub enum McpTarget {
    /// `tools/call`
    Tool(&'static Tool),
    /// `prompts/get`
    Prompt(&'static str),
    /// `resources/read`
    Resource(&'static str),
}

/// An MCP call.
#[derive(Debug)]
pub struct McpCall {
    /// Server asked.
    pub server: &'static Server,
    /// What for.
    pub target: McpTarget,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration in nanoseconds, as the client sees it.
    pub duration_ns: i64,
    /// Bytes of the result.
    pub result_bytes: i64,
    /// Id of the tool call as the model issued it.
    pub tool_call_id: String,
    /// JSON-RPC request id.
    pub request_id: i64,
    /// What the failure says.
    pub failure: Option<&'static str>,
}

/// The sessions of one day, in order of start.
pub fn day(date: NaiveDate) -> Vec<Session> {
    let weekday = date.weekday().num_days_from_monday();
    let midnight_ns = date
        .and_hms_opt(0, 0, 0)
        .and_then(|time| time.and_utc().timestamp_nanos_opt())
        .unwrap_or(0);
    let mut sessions = Vec::new();
    for agent in AGENTS {
        let count = if weekday >= 5 {
            (agent.sessions * WEEKEND_PERCENT).div_ceil(100)
        } else {
            agent.sessions
        };
        for number in 0..count {
            let key = format!("{weekday}/{number}");
            let mut rng = Rng::keyed(&[agent.name, &key]);
            let start_ns = midnight_ns + rng.between((7 * HOUR, 20 * HOUR)) / MS * MS;
            sessions.push(Planner::new(agent, date, &key, rng, start_ns).run());
        }
        if agent.name == RUNAWAY_AGENT && weekday == RUNAWAY_WEEKDAY {
            let rng = Rng::keyed(&[agent.name, "runaway"]);
            sessions.push(Planner::new(agent, date, "runaway", rng, midnight_ns + 3 * HOUR).run_away());
        }
    }
    sessions.sort_by_key(|session| session.start_ns);
    sessions
}

/// The days of the week that ends before `end`, oldest first.
pub fn days(end: NaiveDate, count: u32) -> Vec<NaiveDate> {
    (1..=u64::from(count))
        .rev()
        .filter_map(|ago| end.checked_sub_days(Days::new(ago)))
        .collect()
}

struct Planner {
    agent: &'static Agent,
    rng: Rng,
    session: Session,
    now_ns: i64,
    context: i64,
    cached: i64,
    n_requests: i64,
}

impl Planner {
    fn new(agent: &'static Agent, date: NaiveDate, key: &str, mut rng: Rng, start_ns: i64) -> Self {
        let servers = agent.servers.iter().filter_map(|name| company::server(name)).collect();
        let id = uuid_like(&mut Rng::keyed(&["session", agent.name, &date.to_string(), key]));
        let context = rng.between(agent.base_tokens);
        let user = *rng.pick(agent.users);
        let session = Session {
            agent,
            id,
            user,
            start_ns,
            end_ns: start_ns,
            servers,
            steps: Vec::new(),
        };
        Self {
            agent,
            rng,
            session,
            now_ns: start_ns + 40 * MS,
            context,
            cached: 0,
            n_requests: 0,
        }
    }

    /// An ordinary session: model calls, each but the last followed by tool calls.
    fn run(mut self) -> Session {
        // Listing tools takes a moment before the first call.
        self.now_ns += 200 * MS * i64::try_from(self.session.servers.len()).unwrap_or(1);
        if self.agent.embeds {
            self.embed();
        }
        self.context += self.rng.between((60, 900));
        self.prompts_and_resources();
        let n_steps = self.rng.between(self.agent.steps);
        for step in 0..n_steps {
            let last = step + 1 == n_steps;
            if self.rng.chance(LLM_FAILURES_PERMILLE) {
                self.fail_model_call();
            }
            let output = self.rng.between((40, 900));
            self.model_call(output, last);
            if !last {
                self.tool_round();
            }
        }
        self.finish()
    }

    /// The loop: every answer asks for the same failing query again.
    fn run_away(mut self) -> Session {
        self.now_ns += 400 * MS;
        let Some(server) = company::server(RUNAWAY_SERVER) else {
            return self.finish();
        };
        let Some(tool) = server.tools.iter().find(|tool| tool.name == RUNAWAY_TOOL) else {
            return self.finish();
        };
        for step in 0..RUNAWAY_STEPS {
            let output = self.rng.between((60, 180));
            self.model_call(output, step + 1 == RUNAWAY_STEPS);
            let duration_ns = self.rng.between((5000, 5040)) * MS;
            self.mcp_call(server, McpTarget::Tool(tool), duration_ns, 96, Some(tool.failure));
            self.now_ns += duration_ns + self.rng.between((200, 900)) * MS;
            self.context += self.rng.between((180, 260));
        }
        self.finish()
    }

    fn finish(mut self) -> Session {
        self.session.end_ns = self.now_ns + 30 * MS;
        self.session
    }

    fn embed(&mut self) {
        let duration_ns = self.rng.between((60, 240)) * MS;
        let input = self.rng.between((8, 60));
        self.push_model(&EMBEDDING, true, duration_ns, (input, 0, 0, 0), None, false);
    }

    /// A model call whose context grows by its own output and by what comes after it.
    fn model_call(&mut self, output: i64, last: bool) {
        if self.context > CONTEXT_TOKENS_MAX {
            self.context = CONTEXT_TOKENS_MAX / 3;
            self.cached = 0;
        }
        let model = self.model();
        let input = self.context;
        let (cache_read, cache_write) = match model.caching {
            Caching::Explicit => {
                let fresh = self.rng.between((8, 60)).min(input - self.cached);
                (self.cached, input - self.cached - fresh)
            }
            Caching::Automatic => (self.cached / CACHE_BLOCK_TOKENS * CACHE_BLOCK_TOKENS, 0),
            Caching::None => (0, 0),
        };
        self.cached = match model.caching {
            Caching::Explicit => cache_read + cache_write,
            Caching::Automatic | Caching::None => input,
        };
        let duration_ns = (700 + output * 9 + self.rng.between((0, 1500))) * MS;
        self.push_model(
            model,
            false,
            duration_ns,
            (input, cache_read, cache_write, output),
            None,
            last,
        );
        self.context += output;
    }

    /// A failure at the provider. Claude Code retries inside one call; the others report the failed call.
    fn fail_model_call(&mut self) {
        if self.agent.dialect == company::Dialect::ClaudeCode {
            return;
        }
        let model = self.model();
        let duration_ns = self.rng.between((300, 1400)) * MS;
        self.push_model(model, false, duration_ns, (0, 0, 0, 0), Some("overloaded"), false);
        self.now_ns += 1000 * MS;
    }

    /// The agent's first model mostly; a session keeps its cache, so it changes model only where none is used.
    fn model(&mut self) -> &'static Model {
        let other = self.agent.models.get(1).copied();
        match other {
            Some(other) if other.caching == Caching::None && self.rng.chance(250) => other,
            _ => self.agent.models.first().copied().unwrap_or(&EMBEDDING),
        }
    }

    fn push_model(
        &mut self,
        model: &'static Model,
        embedding: bool,
        duration_ns: i64,
        (input, cache_read, cache_write, output): (i64, i64, i64, i64),
        failure: Option<&'static str>,
        last: bool,
    ) {
        let response_id = format!("{}{}", model.response_id_prefix, self.rng.hex(22));
        let retried = self.agent.dialect == company::Dialect::ClaudeCode && self.rng.chance(30);
        self.session.steps.push(Step::Model(ModelCall {
            model,
            embedding,
            start_ns: self.now_ns,
            duration_ns,
            input,
            cache_read,
            cache_write,
            output,
            response_id,
            attempts: if retried { 2 } else { 1 },
            failure,
            last,
        }));
        self.now_ns += duration_ns + self.rng.between((5, 40)) * MS;
    }

    /// Tool calls that one answer asked for: they start almost together and the next model call waits for all.
    fn tool_round(&mut self) {
        let count = self.rng.between(self.agent.tools_per_step);
        let servers = self.session.servers.clone();
        let mut end_ns = self.now_ns;
        for _ in 0..count {
            let server = *self.rng.pick(&servers);
            let tool = self.rng.pick(server.tools);
            let duration_ns = self.rng.between(tool.duration_ms) * MS + self.rng.between((0, 999)) * 1000;
            let failure = self.rng.chance(tool.failures_permille).then_some(tool.failure);
            let result_bytes = if failure.is_some() {
                96
            } else {
                self.rng.between(tool.result_bytes)
            };
            self.mcp_call(server, McpTarget::Tool(tool), duration_ns, result_bytes, failure);
            end_ns = end_ns.max(self.now_ns + duration_ns);
            self.now_ns += self.rng.between((3, 25)) * MS;
            // About four bytes a token, as every agent reads the result in its next call.
            self.context += result_bytes / 4 + 12;
        }
        self.now_ns = end_ns.max(self.now_ns) + self.rng.between((5, 60)) * MS;
    }

    /// Some sessions start from a prompt of a server, some read a resource.
    fn prompts_and_resources(&mut self) {
        if !matches!(self.agent.dialect, company::Dialect::GenAi | company::Dialect::GenAi137) {
            return;
        }
        for server in self.session.servers.clone() {
            if !server.prompts.is_empty() && self.rng.chance(500) {
                let prompt = *self.rng.pick(server.prompts);
                self.fetch(server, McpTarget::Prompt(prompt), 400);
            }
            if !server.resources.is_empty() && self.rng.chance(400) {
                let resource = *self.rng.pick(server.resources);
                self.fetch(server, McpTarget::Resource(resource), 2400);
            }
        }
    }

    fn fetch(&mut self, server: &'static Server, target: McpTarget, result_bytes: i64) {
        let duration_ns = self.rng.between((10, 180)) * MS;
        self.mcp_call(server, target, duration_ns, result_bytes, None);
        self.now_ns += duration_ns + 5 * MS;
        self.context += result_bytes / 4;
    }

    fn mcp_call(
        &mut self,
        server: &'static Server,
        target: McpTarget,
        duration_ns: i64,
        result_bytes: i64,
        failure: Option<&'static str>,
    ) {
        self.n_requests += 1;
        let tool_call_id = format!("toolu_01{}", self.rng.hex(22));
        self.session.steps.push(Step::Mcp(McpCall {
            server,
            target,
            start_ns: self.now_ns,
            duration_ns,
            result_bytes,
            tool_call_id,
            request_id: self.n_requests + 2,
            failure,
        }));
    }
}

/// A random id in the form of a UUID version 4.
pub fn uuid_like(rng: &mut Rng) -> String {
    let hex = rng.hex(32);
    format!(
        "{}-{}-4{}-8{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn week(end: &str) -> Vec<Session> {
        days(end.parse().unwrap(), 7).into_iter().flat_map(day).collect()
    }

    #[test]
    fn token_counts_are_inclusive_and_never_negative() {
        for session in week("2026-11-22") {
            for step in &session.steps {
                if let Step::Model(call) = step {
                    assert!(call.cache_read >= 0 && call.cache_write >= 0 && call.output >= 0);
                    assert!(call.cache_read + call.cache_write <= call.input, "{call:?}");
                }
            }
        }
    }

    #[test]
    fn the_runaway_loop_stays_within_an_hour() {
        let sessions = week("2026-11-22");
        let longest = sessions.iter().max_by_key(|session| session.steps.len()).unwrap();
        assert_eq!(longest.agent.name, RUNAWAY_AGENT);
        assert_eq!(longest.steps.len(), usize::try_from(2 * RUNAWAY_STEPS).unwrap());
        assert!(
            longest.end_ns - longest.start_ns < HOUR,
            "{}",
            (longest.end_ns - longest.start_ns) / MINUTE
        );
    }

    #[test]
    fn sessions_stay_within_their_day() {
        let date: NaiveDate = "2026-11-19".parse().unwrap();
        let midnight_ns = date
            .and_hms_opt(0, 0, 0)
            .unwrap()
            .and_utc()
            .timestamp_nanos_opt()
            .unwrap();
        assert!(
            day(date)
                .iter()
                .all(|session| session.start_ns >= midnight_ns && session.end_ns < midnight_ns + 24 * HOUR)
        );
    }

    #[test]
    fn the_week_has_the_volume_of_a_company() {
        let sessions = week("2026-11-22");
        let steps = || sessions.iter().flat_map(|session| &session.steps);
        let n_models = steps().filter(|step| matches!(step, Step::Model(_))).count();
        let n_mcp = steps().filter(|step| matches!(step, Step::Mcp(_))).count();
        assert!((2_000..5_000).contains(&n_models), "{n_models}");
        assert!((7_000..12_000).contains(&n_mcp), "{n_mcp}");
    }
}
