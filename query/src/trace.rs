//! The tree of one trace: spans, the calls they are, and what each cost alone and with everything below.
//!
//! Nodes come flat, in the order a tree is read (parents before children, earlier before later), each
//! with its depth: a trace of any shape is then safe to write and to read. A call that was read from a log
//! record has no span of its own; it hangs under the span it was written in.

use std::collections::HashMap;

use serde::ser::{Serialize, SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_model::{FemtoUsd, TraceId};

use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::TRACE_SPANS_MAX;
use crate::rows::{Row, rows};
use crate::time::format_instant;
use crate::views::IS_UNPRICED;

/// One span, or one call without a span of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceNode {
    /// Distance from its root.
    pub depth: usize,
    /// Span id, hex; absent for a call that was read from a log record.
    pub span_id: Option<String>,
    /// Parent span id, hex, also where that span is not in the trace.
    pub parent_span_id: Option<String>,
    /// Call id, hex, where it is a call.
    pub call_id: Option<String>,
    /// The call's kind, or `span`.
    pub kind: String,
    /// Span's name, with what the call was about where the name does not say it.
    pub name: String,
    /// Emitter.
    pub service: Option<String>,
    /// `unset`, `ok`, `error`: the worse of span and call.
    pub status: String,
    /// Class of the failure.
    pub error_type: Option<String>,
    /// Start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Duration, nanoseconds.
    pub duration_ns: Option<i64>,
    /// MCP and model fields of the call, by column name, where there are any.
    pub fields: Vec<(&'static str, String)>,
    /// Input tokens of the call.
    pub input_tokens: Option<i64>,
    /// Of these, read from a cache.
    pub cache_read_tokens: Option<i64>,
    /// Output tokens of the call.
    pub output_tokens: Option<i64>,
    /// Cost of the call alone; `None` where it is unpriced or nothing is charged for it.
    pub own_cost: Option<FemtoUsd>,
    /// Cost of it and everything below; `None` where nothing in there is priced.
    pub total_cost: Option<FemtoUsd>,
    /// Calls in there whose cost is not known.
    pub unpriced_calls: i64,
}

/// A trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceTree {
    /// Trace id, hex.
    pub trace_id: String,
    /// Start of its first node, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// From there to its last end, nanoseconds.
    pub duration_ns: i64,
    /// Cost of everything; `None` where nothing is priced and something is unpriced.
    pub total_cost: Option<FemtoUsd>,
    /// Calls whose cost is not known.
    pub unpriced_calls: i64,
    /// Spans in the tree.
    pub n_spans: usize,
    /// True where the trace has more spans than are read.
    pub truncated: bool,
    /// Nodes, parents before children.
    pub nodes: Vec<TraceNode>,
}

/// Fields of a call that a node shows.
const FIELDS: [&str; 8] = [
    "server",
    "tool",
    "prompt",
    "resource_uri",
    "mcp_method",
    "provider",
    "model",
    "agent",
];

/// What a subtree costs, while it is summed up.
#[derive(Clone, Copy, Default)]
struct Sum {
    cost: FemtoUsd,
    n_priced: i64,
    n_unpriced: i64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.cost += other.cost;
        self.n_priced += other.n_priced;
        self.n_unpriced += other.n_unpriced;
    }

    /// The cost where there is one to tell.
    fn priced(self) -> Option<FemtoUsd> {
        (self.n_priced > 0).then_some(self.cost)
    }
}

struct Draft {
    node: TraceNode,
    own: Sum,
    parent: Option<usize>,
}

impl Engine {
    /// The tree of a trace.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where the principal's tenant has no such trace, and those of
    /// [`Engine::sql`].
    pub async fn trace(&self, principal: &Principal, trace_id: TraceId) -> Result<TraceTree> {
        tree(&self.session(principal), trace_id).await
    }
}

async fn tree(session: &Session, trace_id: TraceId) -> Result<TraceTree> {
    let options = QueryOptions {
        rows_max: TRACE_SPANS_MAX,
        ..QueryOptions::default()
    };
    let spans = session
        .query(
            &format!(
                "SELECT span_id, parent_span_id, name, service, status, start_ns, duration_ns, mcp_method FROM spans \
                 WHERE trace_id = '{trace_id}' ORDER BY start_ns, span_id LIMIT {}",
                TRACE_SPANS_MAX + 1
            ),
            &options,
        )
        .await?;
    let calls = session
        .query(
            &format!(
                "SELECT call_id, kind, operation, span_id, parent_span_id, service, status, error_type, start_ns, duration_ns, \
                 server, tool, prompt, resource_uri, mcp_method, provider, COALESCE(response_model, request_model) AS model, \
                 agent, input_tokens, cache_read_tokens, output_tokens, own_cost, \
                 CASE WHEN {IS_UNPRICED} THEN 1 ELSE 0 END AS unpriced FROM calls \
                 WHERE trace_id = '{trace_id}' ORDER BY start_ns, call_id LIMIT {}",
                TRACE_SPANS_MAX + 1
            ),
            &options,
        )
        .await?;
    let mut drafts = Vec::new();
    let mut by_span: HashMap<String, usize> = HashMap::new();
    for row in rows(&spans) {
        let node = span_node(row);
        let Some(span_id) = node.span_id.clone() else { continue };
        // A span delivered twice is stored twice until compaction: it is one node.
        by_span.entry(span_id).or_insert_with(|| {
            drafts.push(Draft {
                node,
                own: Sum::default(),
                parent: None,
            });
            drafts.len() - 1
        });
    }
    let n_spans = drafts.len();
    add_calls(&mut drafts, &by_span, &rows(&calls).collect::<Vec<_>>());
    if drafts.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no trace {trace_id}")));
    }
    for draft in &mut drafts[..n_spans] {
        draft.parent = draft
            .node
            .parent_span_id
            .as_ref()
            .and_then(|parent| by_span.get(parent).copied());
    }
    hang_on_calls(&mut drafts, n_spans);
    let (nodes, total) = arrange(drafts);
    let start_ns = nodes.iter().map(|node| node.start_ns).min().unwrap_or(0);
    let ends = nodes
        .iter()
        .map(|node| node.start_ns.saturating_add(node.duration_ns.unwrap_or(0)));
    Ok(TraceTree {
        trace_id: trace_id.to_string(),
        start_ns,
        duration_ns: ends.max().unwrap_or(start_ns).saturating_sub(start_ns),
        total_cost: total.priced().or((total.n_unpriced == 0).then_some(FemtoUsd::ZERO)),
        unpriced_calls: total.n_unpriced,
        n_spans,
        truncated: spans.truncated || calls.truncated,
        nodes,
    })
}

fn span_node(row: Row<'_>) -> TraceNode {
    TraceNode {
        span_id: row.text("span_id"),
        parent_span_id: row.text("parent_span_id"),
        kind: "span".to_owned(),
        name: row.text("name").unwrap_or_default(),
        service: row.text("service"),
        status: row.text("status").unwrap_or_default(),
        start_ns: row.count("start_ns"),
        duration_ns: row.int("duration_ns"),
        fields: row
            .text("mcp_method")
            .map(|method| ("mcp_method", method))
            .into_iter()
            .collect(),
        ..TraceNode::default()
    }
}

/// A call that is alone on its span is that span's node; any other gets a node under the span.
fn add_calls(drafts: &mut Vec<Draft>, by_span: &HashMap<String, usize>, calls: &[Row<'_>]) {
    let mut n_on_span: HashMap<usize, usize> = HashMap::new();
    let anchor = |row: &Row<'_>| row.text("span_id").and_then(|span| by_span.get(&span).copied());
    for position in calls.iter().filter_map(anchor) {
        *n_on_span.entry(position).or_default() += 1;
    }
    for row in calls {
        let own = match (row.cost("own_cost"), row.count("unpriced")) {
            (Some(cost), _) => Sum {
                cost,
                n_priced: 1,
                n_unpriced: 0,
            },
            (None, 0) => Sum::default(),
            (None, _) => Sum {
                n_unpriced: 1,
                ..Sum::default()
            },
        };
        let call = call_node(*row);
        match anchor(row) {
            Some(position) if n_on_span.get(&position) == Some(&1) => {
                let draft = &mut drafts[position];
                draft.own = own;
                merge(&mut draft.node, call);
            }
            anchored => {
                let parent = anchored.or_else(|| by_span.get(call.parent_span_id.as_ref()?).copied());
                drafts.push(Draft {
                    node: call,
                    own,
                    parent,
                });
            }
        }
    }
}

/// Raw spans expire before the calls that were read from them: a call then hangs under the call of its parent span.
fn hang_on_calls(drafts: &mut [Draft], n_spans: usize) {
    let mut of_span: HashMap<String, usize> = HashMap::new();
    for (position, draft) in drafts.iter().enumerate().skip(n_spans) {
        if let Some(span_id) = draft.node.span_id.clone() {
            of_span.entry(span_id).or_insert(position);
        }
    }
    for draft in drafts.iter_mut().skip(n_spans).filter(|draft| draft.parent.is_none()) {
        let parent = draft.node.parent_span_id.as_ref();
        draft.parent = parent.and_then(|parent| of_span.get(parent)).copied();
    }
}

fn call_node(row: Row<'_>) -> TraceNode {
    let fields: Vec<(&'static str, String)> = FIELDS
        .into_iter()
        .filter_map(|name| Some((name, row.text(name)?)))
        .collect();
    let kind = row.text("kind").unwrap_or_default();
    let subject = [
        "tool",
        "prompt",
        "resource_uri",
        "model",
        "operation",
        "mcp_method",
        "agent",
    ]
    .into_iter()
    .find_map(|name| row.text(name));
    TraceNode {
        span_id: row.text("span_id"),
        parent_span_id: row.text("parent_span_id"),
        call_id: row.text("call_id"),
        name: subject.unwrap_or_else(|| kind.clone()),
        kind,
        service: row.text("service"),
        status: row.text("status").unwrap_or_default(),
        error_type: row.text("error_type"),
        start_ns: row.count("start_ns"),
        duration_ns: row.int("duration_ns"),
        fields,
        input_tokens: row.int("input_tokens"),
        cache_read_tokens: row.int("cache_read_tokens"),
        output_tokens: row.int("output_tokens"),
        ..TraceNode::default()
    }
}

/// Tells a span's node which call it is. The span keeps its own times.
fn merge(node: &mut TraceNode, call: TraceNode) {
    if call.kind != "agent" && !node.name.contains(&call.name) {
        node.name = format!("{} {}", node.name, call.name);
    }
    node.call_id = call.call_id;
    node.kind = call.kind;
    if call.status == "error" || node.status.is_empty() {
        node.status = call.status;
    }
    node.error_type = call.error_type;
    node.service = node.service.take().or(call.service);
    node.fields = call.fields;
    node.input_tokens = call.input_tokens;
    node.cache_read_tokens = call.cache_read_tokens;
    node.output_tokens = call.output_tokens;
}

/// Nodes in reading order with depths and totals, and the total of all. Parents that form a circle (a
/// hostile or broken emitter) are cut at the earliest node.
fn arrange(drafts: Vec<Draft>) -> (Vec<TraceNode>, Sum) {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); drafts.len()];
    let mut order: Vec<usize> = (0..drafts.len()).collect();
    order.sort_by_key(|position| (drafts[*position].node.start_ns, *position));
    for position in &order {
        if let Some(parent) = drafts[*position].parent.filter(|parent| parent != position) {
            children[parent].push(*position);
        }
    }
    let roots = order.iter().filter(|position| drafts[**position].parent.is_none());
    let mut visited = vec![false; drafts.len()];
    // (position, depth, index of the parent in reading order)
    let mut read: Vec<(usize, usize, Option<usize>)> = Vec::with_capacity(drafts.len());
    for start in roots.chain(&order) {
        let mut stack = vec![(*start, 0, None)];
        while let Some((position, depth, parent)) = stack.pop() {
            if std::mem::replace(&mut visited[position], true) {
                continue;
            }
            read.push((position, depth, parent));
            let own_index = read.len() - 1;
            let below = children[position].iter().rev();
            stack.extend(below.map(|child| (*child, depth + 1, Some(own_index))));
        }
    }
    let mut sums: Vec<Sum> = read.iter().map(|(position, ..)| drafts[*position].own).collect();
    let mut all = Sum::default();
    for index in (0..read.len()).rev() {
        let sum = sums[index];
        match read[index].2 {
            Some(parent) => sums[parent].add(sum),
            None => all.add(sum),
        }
    }
    let mut drafts: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    let nodes = read.iter().zip(&sums).filter_map(|((position, depth, _), sum)| {
        let draft = drafts[*position].take()?;
        Some(TraceNode {
            depth: *depth,
            own_cost: draft.own.priced(),
            total_cost: sum.priced(),
            unpriced_calls: sum.n_unpriced,
            ..draft.node
        })
    });
    (nodes.collect(), all)
}

impl Serialize for TraceNode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("depth", &self.depth)?;
        map.serialize_entry("span_id", &self.span_id)?;
        map.serialize_entry("parent_span_id", &self.parent_span_id)?;
        map.serialize_entry("call_id", &self.call_id)?;
        map.serialize_entry("kind", &self.kind)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("service", &self.service)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("error_type", &self.error_type)?;
        map.serialize_entry("time", &format_instant(self.start_ns))?;
        map.serialize_entry("start_ns", &self.start_ns)?;
        map.serialize_entry("duration_ns", &self.duration_ns)?;
        for name in FIELDS {
            let value = self.fields.iter().find(|field| field.0 == name).map(|field| &field.1);
            map.serialize_entry(name, &value)?;
        }
        map.serialize_entry("input_tokens", &self.input_tokens)?;
        map.serialize_entry("cache_read_tokens", &self.cache_read_tokens)?;
        map.serialize_entry("output_tokens", &self.output_tokens)?;
        map.serialize_entry("own_cost", &self.own_cost.map(|cost| cost.to_string()))?;
        map.serialize_entry("total_cost", &self.total_cost.map(|cost| cost.to_string()))?;
        map.serialize_entry("unpriced_calls", &self.unpriced_calls)?;
        map.end()
    }
}

impl Serialize for TraceTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("trace_id", &self.trace_id)?;
        map.serialize_entry("time", &format_instant(self.start_ns))?;
        map.serialize_entry("start_ns", &self.start_ns)?;
        map.serialize_entry("duration_ns", &self.duration_ns)?;
        map.serialize_entry("total_cost", &self.total_cost.map(|cost| cost.to_string()))?;
        map.serialize_entry("currency", crate::costs::CURRENCY)?;
        map.serialize_entry("unpriced_calls", &self.unpriced_calls)?;
        map.serialize_entry("n_spans", &self.n_spans)?;
        map.serialize_entry("truncated", &self.truncated)?;
        map.serialize_entry("nodes", &self.nodes)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(start_ns: i64, parent: Option<usize>, femto: i128) -> Draft {
        Draft {
            node: TraceNode {
                start_ns,
                ..TraceNode::default()
            },
            own: Sum {
                cost: FemtoUsd(femto),
                n_priced: 1,
                n_unpriced: 0,
            },
            parent,
        }
    }

    #[test]
    fn totals_sum_up_what_is_below() {
        let (nodes, all) = arrange(vec![
            draft(0, None, 1),
            draft(2, Some(0), 10),
            draft(1, Some(0), 100),
            draft(3, Some(2), 1_000),
        ]);
        let shown: Vec<_> = nodes
            .iter()
            .map(|node| (node.start_ns, node.depth, node.total_cost))
            .collect();
        assert_eq!(
            shown,
            [
                (0, 0, Some(FemtoUsd(1_111))),
                (1, 1, Some(FemtoUsd(1_100))),
                (3, 2, Some(FemtoUsd(1_000))),
                (2, 1, Some(FemtoUsd(10)))
            ]
        );
        assert_eq!(all.cost, FemtoUsd(1_111));
    }

    #[test]
    fn parents_in_a_circle_lose_no_node_and_no_cost() {
        let (nodes, all) = arrange(vec![
            draft(0, Some(1), 1),
            draft(1, Some(0), 10),
            draft(2, Some(2), 100),
        ]);
        assert_eq!(nodes.len(), 3);
        assert_eq!(all.cost, FemtoUsd(111));
    }

    #[test]
    fn a_chain_of_ten_thousand_spans_is_arranged() {
        let chain = (0..10_000usize).map(|position| draft(position as i64, position.checked_sub(1), 1));
        let (nodes, _) = arrange(chain.collect());
        assert_eq!(nodes.last().map(|node| node.depth), Some(9_999));
    }
}
