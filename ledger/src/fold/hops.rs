//! The hops of one MCP call, each with its own time: what is left of its duration without the next hop's.
//!
//! A SERVER span with a CLIENT span of the same call below it is a gateway. Times across processes are those
//! of their clocks: a hop whose next one seems longer has an own time of 0.

use spanledger_model::{CallKind, Hop, Observation, ObservationId, Role};

use super::index::{Index, SPAN_KIND_SERVER};
use super::mcp_calls::{is_server_side, is_within};

/// OTLP's number for a CLIENT span.
const SPAN_KIND_CLIENT: i32 = 3;
/// Hops of a call that are told; longer chains are hostile.
const HOPS_MAX: usize = 256;

/// One hop of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HopTiming {
    /// The span.
    pub observation_id: ObservationId,
    /// Where on the way it was made.
    pub hop: Hop,
    /// Service that made it.
    pub service: Option<String>,
    /// The span's name.
    pub name: String,
    /// Its start, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// Its duration, nanoseconds.
    pub duration_ns: i64,
    /// Its duration without the hops within it, nanoseconds.
    pub own_ns: i64,
}

/// The hops of the call whose observations these are, outermost first.
#[must_use]
pub fn hops_of(observations: &[Observation]) -> Vec<HopTiming> {
    let index = Index::new(observations);
    let members: Vec<usize> = index.all().collect();
    hops_in(&index, &members)
}

/// The hops among the members of a call.
pub(crate) fn hops_in(index: &Index<'_>, members: &[usize]) -> Vec<HopTiming> {
    let mut spans: Vec<usize> = members
        .iter()
        .copied()
        .filter(|member| is_hop(index.get(*member)))
        .collect();
    let length = |span: usize| index.get(span).duration_ns.unwrap_or(0);
    spans.sort_by_key(|span| (std::cmp::Reverse(length(*span)), index.get(*span).start_ns, *span));
    spans.truncate(HOPS_MAX);
    let outer: Vec<Option<usize>> = (0..spans.len()).map(|at| outer_of(index, &spans, at)).collect();
    let mut timings: Vec<HopTiming> = spans
        .iter()
        .enumerate()
        .map(|(at, span)| {
            let observation = index.get(*span);
            let within: i64 = (0..spans.len())
                .filter(|inner| outer[*inner] == Some(at))
                .map(|inner| length(spans[inner]))
                .sum();
            HopTiming {
                observation_id: observation.observation_id,
                hop: role_of(index, &spans, *span),
                service: observation.dimensions.service.clone(),
                name: observation.name.clone(),
                start_ns: observation.start_ns,
                duration_ns: length(*span),
                own_ns: length(*span).saturating_sub(within).max(0),
            }
        })
        .collect();
    let depth = |at: usize| {
        std::iter::successors(outer[at], |above| outer[*above])
            .take(HOPS_MAX)
            .count()
    };
    let mut order: Vec<usize> = (0..timings.len()).collect();
    order.sort_by_key(|at| (depth(*at), timings[*at].start_ns, *at));
    let mut in_order: Vec<Option<HopTiming>> = timings.drain(..).map(Some).collect();
    order.into_iter().filter_map(|at| in_order[at].take()).collect()
}

fn is_hop(observation: &Observation) -> bool {
    observation.span_kind.is_some() && observation.role != Role::Detail && observation.kind != CallKind::Agent
}

/// The hop that a hop ran within: its nearest ancestor among them, else (in another trace) the shortest one
/// that contains it.
fn outer_of(index: &Index<'_>, spans: &[usize], at: usize) -> Option<usize> {
    let place = |position: usize| spans.iter().position(|span| *span == position);
    if let Some(above) = index.ancestors(spans[at]).find_map(place) {
        return (above != at).then_some(above);
    }
    let inner = index.get(spans[at]);
    let times = |observation: &Observation| (observation.start_ns, observation.end_ns());
    // The longest come first: of those before it the last that contains it is the nearest.
    (0..at).rev().find(|other| {
        let outer = index.get(spans[*other]);
        outer.trace_id != inner.trace_id && is_within(times(outer), times(inner))
    })
}

fn role_of(index: &Index<'_>, spans: &[usize], span: usize) -> Hop {
    let observation = index.get(span);
    let is_server = |position: usize| is_server_side(index.get(position));
    let above = || index.ancestors(span).filter(|above| spans.contains(above));
    let calls_on = || {
        spans.iter().any(|other| {
            index.get(*other).span_kind == Some(SPAN_KIND_CLIENT) && index.ancestors(*other).any(|above| above == span)
        })
    };
    match (observation.hop, observation.span_kind) {
        (Some(Hop::Server) | None, Some(SPAN_KIND_SERVER)) if calls_on() => Hop::Gateway,
        (Some(hop), _) => hop,
        (None, Some(SPAN_KIND_SERVER)) => Hop::Server,
        (None, Some(SPAN_KIND_CLIENT)) => above()
            .find(|above| is_server(*above))
            .map_or(Hop::Client, |_| Hop::Gateway),
        // Work inside a process is of the hop that it is done for.
        (None, _) => above()
            .find(|above| is_server(*above))
            .map_or(Hop::Host, |server| role_of_server(index, spans, server)),
    }
}

fn role_of_server(index: &Index<'_>, spans: &[usize], server: usize) -> Hop {
    let calls_on = spans.iter().any(|other| {
        index.get(*other).span_kind == Some(SPAN_KIND_CLIENT) && index.ancestors(*other).any(|above| above == server)
    });
    if calls_on { Hop::Gateway } else { Hop::Server }
}
