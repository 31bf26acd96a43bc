//! What surrounds the model calls of a component, gathered once: frames above them, tools and whose they are,
//! lists of tools, owners. An owner is made once and shared, so that the walk copies no names.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use hashbrown::HashMap;
use spanledger_model::names::without_server;
use spanledger_model::{Call, CallKind};

use super::sent::{ContextSizes, Sent};
use crate::attribution::Owner;
use crate::fold::Folded;
use crate::fold::names::names_agree;

/// The method by which a server asks its host for a model call.
const SAMPLING: &str = "sampling/createMessage";

/// Owners that every thread has.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) system: Arc<Owner>,
    pub(super) conversation: Arc<Owner>,
    pub(super) base: Arc<Owner>,
    pub(super) answer: Arc<Owner>,
    pub(super) reasoning: Arc<Owner>,
}

pub(super) struct Around<'f> {
    pub(super) calls: &'f [Call],
    /// For each call the tool call it ran within.
    pub(super) above: Vec<Option<usize>>,
    /// For each call the nearest tool call, agent run or sampling request above it.
    frames: Vec<Option<usize>>,
    /// Tool, resource and prompt calls by their end.
    pub(super) tools: Vec<usize>,
    /// Ends of those by the tool call they ran within, sorted.
    ends: HashMap<Option<usize>, Vec<i64>>,
    /// For each tool, resource and prompt call whose it is.
    owners: Vec<Option<Arc<Owner>>>,
    /// The tools that were called, each once.
    called: Vec<(Arc<Owner>, &'f str)>,
    /// Lists of tools that were fetched, by start.
    pub(super) lists: Vec<(usize, ContextSizes<'f>)>,
    pub(super) sent: &'f Sent<'f>,
    pub(super) common: Common,
    /// Owners of definitions, by server and name.
    defined: RefCell<HashMap<String, HashMap<String, Arc<Owner>>>>,
}

impl<'f> Around<'f> {
    pub(super) fn new(folded: &'f Folded, sent: &'f Sent<'f>) -> Self {
        let calls = &folded.calls;
        let is_tool = |at: usize| calls[at].kind == CallKind::Tool;
        let is_frame =
            |at: usize| matches!(calls[at].kind, CallKind::Tool | CallKind::Agent) || is_sampling(&calls[at]);
        let above = nearest(&folded.parents, is_tool);
        let mut tools = Vec::new();
        let mut ends: HashMap<Option<usize>, Vec<i64>> = HashMap::new();
        let mut interned: HashMap<Named<'f>, Arc<Owner>> = HashMap::new();
        let mut owners = vec![None; calls.len()];
        let mut called = Vec::new();
        let mut lists = Vec::new();
        for (position, call) in calls.iter().enumerate() {
            match call.kind {
                CallKind::Tool | CallKind::Resource | CallKind::Prompt => {
                    tools.push(position);
                    ends.entry(above[position]).or_default().push(end_ns(call));
                    let named = Named::of(call);
                    let owner = interned.entry(named).or_insert_with(|| {
                        let owner = Arc::new(named.owner());
                        if let Some(name) = call.mcp.tool.as_deref().filter(|_| call.kind == CallKind::Tool) {
                            called.push((Arc::clone(&owner), name));
                        }
                        owner
                    });
                    owners[position] = Some(Arc::clone(owner));
                }
                CallKind::Mcp => lists.extend(sent.of(call).map(|listed| (position, listed))),
                _ => {}
            }
        }
        tools.sort_by_key(|tool| (end_ns(&calls[*tool]), calls[*tool].call_id));
        ends.values_mut().for_each(|ends| ends.sort_unstable());
        called.sort();
        lists.sort_by_key(|(list, _)| (calls[*list].start_ns, calls[*list].call_id));
        Self {
            calls,
            above,
            frames: nearest(&folded.parents, is_frame),
            tools,
            ends,
            owners,
            called,
            lists,
            sent,
            common: Common {
                system: Arc::new(Owner::System),
                conversation: Arc::new(Owner::Conversation),
                base: Arc::new(Owner::Base),
                answer: Arc::new(Owner::Answer),
                reasoning: Arc::new(Owner::Reasoning),
            },
            defined: RefCell::default(),
        }
    }

    /// Whose a tool, resource or prompt call is.
    pub(super) fn owner(&self, position: usize) -> Arc<Owner> {
        match &self.owners[position] {
            Some(owner) => Arc::clone(owner),
            None => Arc::new(Named::of(&self.calls[position]).owner()),
        }
    }

    /// How many tool calls within the same tool call ended between two times.
    pub(super) fn n_returned(&self, within: Option<usize>, from_ns: i64, to_ns: i64) -> usize {
        let Some(ends) = self.ends.get(&within) else { return 0 };
        let before = |time_ns: i64| ends.partition_point(|end| *end <= time_ns);
        before(to_ns).saturating_sub(before(from_ns))
    }

    /// The call that asked for a model call: the sampling request it answers or, with one above it, the tool call
    /// in which that was sent; or the tool call of a server that it ran within with no agent between (how a
    /// sampling request is answered since 2026-07-28, and how a server's own model calls look).
    pub(super) fn asked_by(&self, position: usize) -> Option<usize> {
        let frame = self.frames[position]?;
        let call = &self.calls[frame];
        match call.kind {
            CallKind::Tool => call.mcp.server.is_some().then_some(frame),
            CallKind::Mcp => Some(self.above[frame].unwrap_or(frame)),
            _ => None,
        }
    }

    /// Whose model calls are that a tool call or a sampling request asked for.
    pub(super) fn asker(&self, asked_by: usize) -> Arc<Owner> {
        let call = &self.calls[asked_by];
        match call.kind {
            CallKind::Tool => self.owner(asked_by),
            _ => Arc::new(Owner::Server {
                server: call.mcp.server.clone(),
            }),
        }
    }

    /// Whose definition a name is: as called in this component, else with the server its spelling shows.
    pub(super) fn defined(&self, name: &str, server: Option<&str>) -> Arc<Owner> {
        let mut known = self.defined.borrow_mut();
        let of_server = match known.get_mut(server.unwrap_or_default()) {
            Some(of_server) => of_server,
            None => known.entry(server.unwrap_or_default().to_owned()).or_default(),
        };
        if let Some(owner) = of_server.get(name) {
            return Arc::clone(owner);
        }
        let owner = self.find_defined(name, server);
        of_server.insert(name.to_owned(), Arc::clone(&owner));
        owner
    }

    fn find_defined(&self, name: &str, server: Option<&str>) -> Arc<Owner> {
        let called = self.called.iter().map(|(owner, tool)| (server_of(owner), *tool));
        let (defined_by, tool) = owner_of_definition(name, server, called);
        let same = |(owner, called): &&(Arc<Owner>, &str)| server_of(owner) == defined_by && *called == tool;
        match self.called.iter().find(same) {
            Some((owner, _)) => Arc::clone(owner),
            None => Arc::new(Owner::Tool {
                server: defined_by.map(str::to_owned),
                tool: tool.to_owned(),
            }),
        }
    }

    /// The id of the agent that a call is of.
    pub(super) fn agent_id(&self, position: usize) -> Option<Cow<'f, str>> {
        self.sent.agent_of(&self.calls[position])
    }
}

/// Server and tool of a definition: those of the tool that was called by such a name, else of the server that its
/// spelling shows. `server` is the one that listed it; `called` the servers and tools that were called in the same
/// conversation, in order.
pub fn owner_of_definition<'n>(
    name: &'n str,
    server: Option<&'n str>,
    called: impl Iterator<Item = (Option<&'n str>, &'n str)> + Clone,
) -> (Option<&'n str>, &'n str) {
    let same = called.clone().find(|(of, tool)| {
        let same_server = server.is_none() || *of == server;
        same_server && names_agree(Some(name), Some(tool))
    });
    if let Some(same) = same {
        return same;
    }
    if let Some((server, tool)) = name.strip_prefix("mcp__").and_then(|rest| rest.split_once("__")) {
        return (Some(server), tool);
    }
    for known in called.filter_map(|(server, _)| server) {
        if let Some(bare) = without_server(name, known, true) {
            return (Some(known), bare);
        }
    }
    (server, name)
}

pub(super) fn end_ns(call: &Call) -> i64 {
    call.start_ns.saturating_add(call.duration_ns.unwrap_or(0))
}

fn is_sampling(call: &Call) -> bool {
    call.kind == CallKind::Mcp && call.mcp.mcp_method.as_deref() == Some(SAMPLING)
}

fn server_of(owner: &Owner) -> Option<&str> {
    match owner {
        Owner::Tool { server, .. } => server.as_deref(),
        _ => None,
    }
}

/// For each position the nearest above it that is one of those. Each position is gone over once.
fn nearest(parents: &[Option<usize>], is_one: impl Fn(usize) -> bool) -> Vec<Option<usize>> {
    let mut found: Vec<Option<Option<usize>>> = vec![None; parents.len()];
    let mut path = Vec::new();
    for start in 0..parents.len() {
        let mut at = start;
        let above = loop {
            if let Some(known) = found[at] {
                break known;
            }
            path.push(at);
            // Parents form no rings; should they, the walk ends where it began.
            match parents[at].filter(|_| path.len() <= parents.len()) {
                None => break None,
                Some(parent) if is_one(parent) => break Some(parent),
                Some(parent) => at = parent,
            }
        };
        path.drain(..).for_each(|at| found[at] = Some(above));
    }
    found.into_iter().map(Option::flatten).collect()
}

/// Who a tool, resource or prompt call belongs to, in the words of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Named<'c> {
    kind: CallKind,
    server: Option<&'c str>,
    name: &'c str,
    version: Option<&'c str>,
}

impl<'c> Named<'c> {
    fn of(call: &'c Call) -> Self {
        let mcp = &call.mcp;
        let (server, name, version) = match call.kind {
            CallKind::Resource => (&mcp.server, &mcp.resource_uri, &None),
            CallKind::Prompt => (&None, &mcp.prompt, &mcp.prompt_version),
            _ => (&mcp.server, &mcp.tool, &None),
        };
        Self {
            kind: call.kind,
            server: server.as_deref(),
            name: name.as_deref().unwrap_or_default(),
            version: version.as_deref(),
        }
    }

    fn owner(self) -> Owner {
        let (server, name) = (self.server.map(str::to_owned), self.name.to_owned());
        match self.kind {
            CallKind::Resource => Owner::Resource { server, uri: name },
            CallKind::Prompt => Owner::Prompt {
                name,
                version: self.version.map(str::to_owned),
            },
            _ => Owner::Tool { server, tool: name },
        }
    }
}
