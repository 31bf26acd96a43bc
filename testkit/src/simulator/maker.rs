//! Makes a session from a seed: one [`Maker`] draws everything, in the order in which it happens.
//!
//! Every constant is a round figure near what was measured, or a guess where nothing was. A figure of merit is
//! worth no more than they are: do not tune attribution to them. Times only order events.

use super::{Action, Counts, ModelCall, Owner, Part, Rates, Segment, Session, Shape, Tool};
use crate::random::Rng;

/// Tokens a provider puts around a message.
const FRAMING: (u64, u64) = (12, 20);
/// A context of more tokens than this is compacted, in sessions that compact.
const COMPACTED_ABOVE: (u64, u64) = (20_000, 150_000);
/// OpenAI's cache works in steps of so many tokens, from 1,024 on.
const CACHE_STEP: i64 = 128;
const CACHE_MIN: i64 = 1_024;
/// Room between two events of a session, milliseconds.
const PAUSE_MS: i64 = 10;

/// One USD a million tokens, in femto-USD a token.
const USD_PER_MILLION: i128 = 1_000_000_000;

const fn rates(model: &'static str, thousandths: [i128; 3], cache_write: Option<i128>) -> Rates {
    const THOUSANDTH: i128 = USD_PER_MILLION / 1_000;
    Rates {
        model,
        input: thousandths[0] * THOUSANDTH,
        cache_read: thousandths[1] * THOUSANDTH,
        cache_write: match cache_write {
            Some(price) => Some(price * THOUSANDTH),
            None => None,
        },
        output: thousandths[2] * THOUSANDTH,
    }
}

/// Three classes of models; prices in thousandths of a USD a million tokens.
const MODELS: [Rates; 3] = [
    rates("large", [5_000, 500, 25_000], Some(6_250)),
    rates("medium", [3_000, 300, 15_000], Some(3_750)),
    rates("small", [250, 25, 2_000], None),
];

/// A kind of text: bytes of a token, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    Json,
    Prose,
    Code,
}

impl Text {
    fn range(self) -> (u64, u64) {
        match self {
            Self::Json => (250, 350),
            Self::Prose => (380, 450),
            Self::Code => (300, 360),
        }
    }
}

/// The session of a seed.
pub(super) fn session(seed: u64, shape: Shape) -> Session {
    let mut maker = Maker {
        rng: Rng::new(seed),
        session: Session {
            seed,
            tools: Vec::new(),
            calls: Vec::new(),
            actions: Vec::new(),
        },
        now_ms: 0,
        n_threads: 1,
        n_resources: 0,
    };
    maker.run(shape);
    maker.session
}

struct Maker {
    rng: Rng,
    session: Session,
    now_ms: i64,
    n_threads: usize,
    n_resources: usize,
}

/// One conversation while it is being made.
struct Conversation {
    thread: usize,
    within: Option<usize>,
    rates: Rates,
    thinks: bool,
    tools: Vec<usize>,
    compacted_above: i64,
    context: Vec<Segment>,
    /// What the cache holds.
    cached: Vec<Segment>,
    new: Vec<Segment>,
}

impl Conversation {
    /// Adds something that the model did not write.
    fn add(&mut self, segment: Segment) {
        self.context.push(segment);
        self.new.push(segment);
    }
}

impl Maker {
    fn run(&mut self, shape: Shape) {
        self.catalogue(shape);
        let n_calls = self.between(shape.calls);
        let rates = MODELS[self.below(MODELS.len())];
        let compacts = self.chance(25);
        let mut main = Conversation {
            thread: 0,
            within: None,
            rates,
            thinks: self.chance(50),
            tools: (0..self.session.tools.len()).collect(),
            compacted_above: if compacts {
                self.between_i64(COMPACTED_ABOVE)
            } else {
                i64::MAX
            },
            context: Vec::new(),
            cached: Vec::new(),
            new: Vec::new(),
        };
        self.base(&mut main);
        if self.chance(20) {
            self.fetch(&mut main, Owner::Prompt, Part::User);
        }
        if self.chance(15) {
            self.fetch_resource(&mut main);
        }
        let first = self.message(150.0);
        main.add(first);
        if self.chance(40) {
            self.side_call(rates, first);
        }
        self.converse(&mut main, n_calls);
    }

    fn catalogue(&mut self, shape: Shape) {
        let n_tools = self.between(shape.tools);
        let n_servers = self.between(shape.servers).min(n_tools);
        for tool in 0..n_tools {
            let server = tool * n_servers / n_tools;
            let tool = self.tool(Some(format!("server{server}")), format!("tool{tool}"));
            self.session.tools.push(tool);
        }
        let starts_agents = self.tool(None, "Task".to_owned());
        self.session.tools.push(starts_agents);
    }

    fn tool(&mut self, server: Option<String>, name: String) -> Tool {
        let definition_tokens = self.log_normal(400.0, 0.8, 40, 6_000);
        let kind = [Text::Json, Text::Json, Text::Prose, Text::Code][self.below(4)];
        Tool {
            server,
            name,
            definition_bytes: self.bytes(definition_tokens, Text::Json),
            definition_tokens,
            result_median: self.log_normal(400.0, 1.0, 20, 8_000),
            kind,
        }
    }

    /// Definitions of the conversation's tools, then instructions.
    fn base(&mut self, conversation: &mut Conversation) {
        for tool in conversation.tools.clone() {
            let of = &self.session.tools[tool];
            conversation.add(Segment {
                owner: Owner::Tool(tool),
                part: Part::Definition,
                tokens: of.definition_tokens,
                bytes: of.definition_bytes,
            });
        }
        let tokens = self.log_normal(2_500.0, 0.8, 100, 20_000);
        let system = self.segment(Owner::System, Part::System, tokens, Text::Prose);
        conversation.add(system);
    }

    /// A prompt or a resource is fetched and read with the next call.
    fn fetch(&mut self, conversation: &mut Conversation, owner: Owner, part: Part) {
        let tokens = self.log_normal(600.0, 1.0, 30, 20_000);
        let segment = self.segment(owner, part, tokens, Text::Prose);
        self.act(owner, conversation.within, 40, segment.bytes, false);
        conversation.add(segment);
    }

    fn fetch_resource(&mut self, conversation: &mut Conversation) {
        self.n_resources += 1;
        self.fetch(conversation, Owner::Resource(self.n_resources), Part::Result);
    }

    /// A title for the session, by the small model or by the same.
    fn side_call(&mut self, rates: Rates, message: Segment) {
        let rates = if self.chance(80) { MODELS[2] } else { rates };
        let tokens = self.log_normal(150.0, 0.4, 40, 800);
        let system = self.segment(Owner::System, Part::System, tokens, Text::Prose);
        let mut side = Conversation {
            thread: self.n_threads,
            within: None,
            rates,
            thinks: false,
            tools: Vec::new(),
            compacted_above: i64::MAX,
            context: vec![system, message],
            cached: Vec::new(),
            new: vec![system, message],
        };
        self.n_threads += 1;
        let title = self.segment(Owner::Answer, Part::Text, 12, Text::Prose);
        self.call(&mut side, vec![title], false);
    }

    /// Model calls and what runs between them.
    fn converse(&mut self, conversation: &mut Conversation, n_calls: u64) {
        for call in 1..=n_calls {
            if self.chance(3) {
                self.call(conversation, Vec::new(), true);
            }
            let is_last = call == n_calls;
            let wants_tools = !is_last && !conversation.tools.is_empty() && self.chance(85);
            let n_tools = match self.below(100) {
                _ if !wants_tools => 0,
                0..70 => 1,
                70..85 => 2,
                85..95 => 3,
                _ => 4,
            };
            let mut output = Vec::new();
            if conversation.thinks {
                let tokens = self.log_normal(150.0, 1.0, 10, 5_000);
                output.push(Segment {
                    owner: Owner::Reasoning,
                    part: Part::Reasoning,
                    tokens,
                    bytes: 0,
                });
            }
            if n_tools == 0 || self.chance(60) {
                let median = if n_tools == 0 { 250.0 } else { 40.0 };
                let tokens = self.log_normal(median, 0.8, 3, 4_000);
                output.push(self.segment(Owner::Answer, Part::Text, tokens, Text::Prose));
            }
            let first_call = output.len();
            for _ in 0..n_tools {
                let owner = Owner::Tool(self.choose(&conversation.tools));
                let tokens = self.log_normal(60.0, 0.8, 10, 6_000);
                output.push(self.segment(owner, Part::Call, tokens, Text::Json));
            }
            let called = output[first_call..].to_vec();
            self.call(conversation, output, false);
            if is_last {
                break;
            }
            self.run_tools(conversation, &called);
            if called.is_empty() || self.chance(2) {
                let message = self.message(60.0);
                conversation.add(message);
            }
            if self.chance(1) {
                self.fetch_resource(conversation);
            }
            self.compact(conversation);
        }
    }

    /// Some tools are called often, most never: half of the calls go to the first few.
    fn choose(&mut self, tools: &[usize]) -> usize {
        let among = if self.chance(60) {
            tools.len().min(6)
        } else {
            tools.len()
        };
        // The catalogue's order says nothing, so "the first few" are those after a fixed step.
        let start = self.session.seed as usize % tools.len();
        tools[(start + self.below(among) * 7) % tools.len()]
    }

    /// Runs the tools that a model call asked for, side by side; what they return arrives in the order asked.
    fn run_tools(&mut self, conversation: &mut Conversation, called: &[Segment]) {
        let started = self.now_ms;
        let mut ended = started;
        for call in called {
            let Owner::Tool(tool) = call.owner else { continue };
            self.now_ms = started;
            let starts_agent = self.session.tools[tool].server.is_none();
            let is_failed = self.chance(5);
            let (median, kind) = (self.session.tools[tool].result_median, self.session.tools[tool].kind);
            let tokens = if is_failed {
                self.log_normal(40.0, 0.5, 5, 400)
            } else {
                self.log_normal(median as f64, 1.1, 3, 60_000)
            };
            let mut result = self.segment(call.owner, Part::Result, tokens, kind);
            result.tokens += self.framing();
            let action = self.act(call.owner, conversation.within, call.bytes, result.bytes, is_failed);
            if starts_agent && conversation.within.is_none() && !is_failed {
                self.sub_agent(conversation, action);
            }
            ended = ended.max(self.now_ms);
            conversation.add(result);
        }
        self.now_ms = ended;
    }

    /// A sub-agent works within a tool call, with all tools or with some.
    fn sub_agent(&mut self, caller: &Conversation, action: usize) {
        let own = self.session.tools.len() - 1;
        let with_all = self.chance(50);
        let mut tools: Vec<usize> = caller.tools.iter().copied().filter(|tool| *tool != own).collect();
        if !with_all {
            let n_tools = 1 + self.below(tools.len());
            tools.truncate(n_tools);
        }
        let mut agent = Conversation {
            thread: self.n_threads,
            within: Some(action),
            rates: caller.rates,
            thinks: caller.thinks,
            tools,
            compacted_above: i64::MAX,
            context: Vec::new(),
            cached: Vec::new(),
            new: Vec::new(),
        };
        self.n_threads += 1;
        let started = self.session.actions[action].start_ms;
        self.now_ms = started + 1;
        self.base(&mut agent);
        let task = self.message(200.0);
        agent.add(task);
        let n_calls = 1 + self.rng.below(6);
        self.converse(&mut agent, n_calls);
        self.session.actions[action].duration_ms = self.now_ms - started;
        self.now_ms += PAUSE_MS;
    }

    /// Halves what stands after the base by summarising what is older than the last messages.
    fn compact(&mut self, conversation: &mut Conversation) {
        let tokens = |context: &[Segment]| context.iter().map(|segment| segment.tokens).sum::<i64>();
        let total = tokens(&conversation.context);
        if total <= conversation.compacted_above {
            return;
        }
        let base = conversation
            .context
            .iter()
            .take_while(|segment| matches!(segment.part, Part::Definition | Part::System))
            .count();
        let recent = conversation.new.len();
        let end = conversation.context.len() - recent.min(conversation.context.len() - base);
        for at in base..end {
            // A third to two thirds of every piece goes, more of long ones.
            let keeps = 20 + self.rng.below(40);
            let segment = &mut conversation.context[at];
            segment.tokens = (segment.tokens * keeps as i64 / 100).max(1);
        }
    }

    /// One model call on the conversation as it stands.
    fn call(&mut self, conversation: &mut Conversation, output: Vec<Segment>, is_failed: bool) {
        let context = conversation.context.clone();
        let input: i64 = context.iter().map(|segment| segment.tokens).sum();
        let (cache_read, cache_write) = self.cache(conversation, input);
        let sum = |reasoning: bool| -> i64 {
            let of = output.iter().filter(|part| (part.part == Part::Reasoning) == reasoning);
            of.map(|part| part.tokens).sum()
        };
        let reasoning = sum(true);
        let duration_ms = 200 + self.between_i64((0, 2_000));
        let read_again = output.iter().filter(|part| part.part != Part::Reasoning);
        conversation.context.extend(read_again.copied());
        self.session.calls.push(ModelCall {
            thread: conversation.thread,
            within: conversation.within,
            start_ms: self.now_ms,
            duration_ms,
            rates: conversation.rates,
            counts: Counts {
                input,
                cache_read,
                cache_write,
                output: sum(false) + reasoning,
                reasoning,
            },
            is_failed,
            context,
            new: std::mem::take(&mut conversation.new),
            output,
        });
        self.now_ms += duration_ms + PAUSE_MS;
    }

    /// How much is read from the cache and written to it. What is common with what was sent last is read,
    /// unless it has expired; a provider with breakpoints writes up to the last one, near the end.
    fn cache(&mut self, conversation: &mut Conversation, input: i64) -> (i64, i64) {
        let same = conversation.cached.iter().zip(&conversation.context);
        let common: i64 = same.take_while(|(a, b)| a == b).map(|(a, _)| a.tokens).sum();
        conversation.cached.clone_from(&conversation.context);
        let has_expired = self.chance(6);
        let tail = self.between_i64((0, 60)).min(input);
        if conversation.rates.cache_write.is_some() {
            let read = if has_expired { 0 } else { common.min(input - tail) };
            return (read, input - tail - read);
        }
        let read = common / CACHE_STEP * CACHE_STEP;
        (if has_expired || read < CACHE_MIN { 0 } else { read }, 0)
    }

    fn message(&mut self, median: f64) -> Segment {
        let tokens = self.log_normal(median, 1.2, 3, 8_000);
        let mut message = self.segment(Owner::User, Part::User, tokens, Text::Prose);
        message.tokens += self.framing();
        message
    }

    fn act(&mut self, owner: Owner, within: Option<usize>, request: i64, response: i64, is_failed: bool) -> usize {
        let duration_ms = 5 + self.between_i64((0, 500));
        self.session.actions.push(Action {
            owner,
            within,
            start_ms: self.now_ms,
            duration_ms,
            request_bytes: request,
            response_bytes: response,
            is_failed,
        });
        self.now_ms += duration_ms + PAUSE_MS;
        self.session.actions.len() - 1
    }

    fn segment(&mut self, owner: Owner, part: Part, tokens: i64, text: Text) -> Segment {
        Segment {
            owner,
            part,
            tokens,
            bytes: self.bytes(tokens, text),
        }
    }

    fn bytes(&mut self, tokens: i64, text: Text) -> i64 {
        (tokens * self.between_i64(text.range()) / 100).max(1)
    }

    fn framing(&mut self) -> i64 {
        self.between_i64(FRAMING)
    }

    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.rng.below(most - least + 1)
    }

    fn between_i64(&mut self, range: (u64, u64)) -> i64 {
        i64::try_from(self.between(range)).unwrap_or(i64::MAX)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    /// A heavy-tailed size: log-normal of that median and spread (Box and Muller, 1958), within bounds.
    fn log_normal(&mut self, median: f64, sigma: f64, least: i64, most: i64) -> i64 {
        let mut uniform = || (self.rng.below(1 << 53) as f64 + 0.5) / (1_u64 << 53) as f64;
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        ((median * (sigma * normal).exp()) as i64).clamp(least, most)
    }
}
