//! Every capture of the fixtures against its ground truth: in file order, shuffled, twice over, and all together.

use std::path::PathBuf;

use spanledger_ingest::capture::Reading;
use spanledger_ingest::dialects::Registry;
use spanledger_model::{Call, CallKind, FemtoUsd, Observation, Source, Status, Usage};
use spanledger_testkit::captures::{Capture, Truth};

use super::{fold, shuffled, summary};
use crate::fold::fold_in;
use crate::settle::components::{Arrival, Components, Dirty, Position};

fn folder() -> PathBuf {
    spanledger_testkit::workspace().join("testkit/fixtures")
}

/// The captures and the synthetic fixtures that have a ground truth.
fn names(kinds: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for kind in kinds {
        for entry in std::fs::read_dir(folder().join(kind)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().join("expected.json").exists() {
                names.push(format!("{kind}/{}", entry.file_name().into_string().unwrap()));
            }
        }
    }
    names.sort();
    names
}

pub(super) fn capture(name: &str) -> Vec<Observation> {
    let reading = Reading::of(&folder().join(name), &Registry::builtin()).unwrap();
    assert_eq!(reading.n_rejected, 0, "{name}");
    reading.observations
}

/// What some calls come to; their cache alone that of one provider, where it is named.
fn sums_of(calls: &[Call], cache_of: Option<&'static str>) -> Truth {
    let of = |kind: CallKind| calls.iter().filter(move |call| call.kind == kind);
    let llm = || of(CallKind::Llm);
    let is_mcp = |call: &&Call| call.mcp.server.is_some() || call.mcp.mcp_method.is_some();
    let mcp_tools = || of(CallKind::Tool).filter(is_mcp);
    // The truth of two captures names the cache of one provider's calls alone.
    let is_cached = |call: &&Call| {
        let provider = call.model.provider.as_deref();
        cache_of.is_none() || cache_of == provider
    };
    let sum = |get: fn(&Usage) -> Option<i64>| Some(llm().filter_map(|call| get(&call.usage)).sum());
    let cached = |get: fn(&Usage) -> Option<i64>| {
        let calls = llm().filter(is_cached);
        Some(calls.filter_map(|call| get(&call.usage)).sum())
    };
    let count = |calls: usize| i64::try_from(calls).ok();
    let has_failed = |call: &&Call| call.status == Status::Error;
    let cost: FemtoUsd = llm().filter_map(|call| call.reported_cost).sum();
    Truth {
        llm_calls: count(llm().filter(|call| !has_failed(call)).count()),
        failed_llm_calls: count(llm().filter(has_failed).count()),
        embeddings: count(of(CallKind::Embedding).count()),
        input: sum(|usage| usage.input),
        output: sum(|usage| usage.output),
        cache_read: cached(|usage| usage.cache_read),
        cache_write: cached(|usage| usage.cache_write()),
        cache_of,
        cost: Some(cost.to_string()),
        tool_calls: count(of(CallKind::Tool).count()),
        mcp_tool_calls: count(mcp_tools().count()),
        mcp_tool_errors: count(mcp_tools().filter(has_failed).count()),
        prompts: count(of(CallKind::Prompt).count()),
        resources: count(of(CallKind::Resource).count()),
        resource_errors: count(of(CallKind::Resource).filter(has_failed).count()),
    }
}

fn sums(calls: &[Call]) -> Truth {
    sums_of(calls, None)
}

/// The same, as far as a ground truth names it.
fn measured(calls: &[Call], truth: &Truth) -> Truth {
    let found = sums_of(calls, truth.cache_of);
    let of_those_named = |named: Option<i64>, found: Option<i64>| named.and(found);
    Truth {
        llm_calls: of_those_named(truth.llm_calls, found.llm_calls),
        failed_llm_calls: of_those_named(truth.failed_llm_calls, found.failed_llm_calls),
        embeddings: of_those_named(truth.embeddings, found.embeddings),
        input: of_those_named(truth.input, found.input),
        output: of_those_named(truth.output, found.output),
        cache_read: of_those_named(truth.cache_read, found.cache_read),
        cache_write: of_those_named(truth.cache_write, found.cache_write),
        cache_of: truth.cache_of,
        cost: truth.cost.as_ref().and(found.cost),
        tool_calls: of_those_named(truth.tool_calls, found.tool_calls),
        mcp_tool_calls: of_those_named(truth.mcp_tool_calls, found.mcp_tool_calls),
        mcp_tool_errors: of_those_named(truth.mcp_tool_errors, found.mcp_tool_errors),
        prompts: of_those_named(truth.prompts, found.prompts),
        resources: of_those_named(truth.resources, found.resources),
        resource_errors: of_those_named(truth.resource_errors, found.resource_errors),
    }
}

/// The ground truth, as strict as a fold can be held to it.
fn truth(capture: &Capture, calls: &[Call]) -> Truth {
    let mut truth = capture.totals();
    truth.cost = truth
        .cost
        .and_then(|cost| FemtoUsd::parse(&cost))
        .map(|cost| cost.to_string());
    // No truth keeps silent on embeddings that were made.
    truth.embeddings = truth.embeddings.or(Some(0));
    // Attempts that were retried may be told as calls of their own, or within the call that succeeded; a truth of
    // usage says nothing of calls that failed.
    if truth.failed_llm_calls.is_none() && capture.expected.get("llm_calls").is_some() {
        let failed = calls
            .iter()
            .filter(|call| call.kind == CallKind::Llm && call.status == Status::Error);
        let n_failed = i64::try_from(failed.count()).unwrap();
        truth.failed_llm_calls = Some(n_failed.min(capture.truth("/failed_attempts")));
    }
    truth
}

#[test]
fn every_capture_counts_each_call_once() {
    let mut wrong = Vec::new();
    for name in names(&["captures", "synthetic"]) {
        let recorded = match name.split_once('/').unwrap() {
            ("captures", name) => Capture::load(name),
            (_, name) => Capture::load_synthetic(name),
        };
        let observations = capture(&name);
        let in_order = fold(&observations);
        let truth = truth(&recorded.unwrap(), &in_order.calls);
        let found = measured(&in_order.calls, &truth);
        if found != truth {
            let calls = summary(&in_order.calls);
            wrong.push(format!(
                "{name}:\n found {found:?}\n truth {truth:?}\n{}",
                calls.join("\n")
            ));
        }
        let twice: Vec<Observation> = observations.iter().chain(&observations).cloned().collect();
        for seed in [3, 0x9e37_79b9_7f4a_7c15, 0x1234_5678_9abc_def1] {
            if fold(&shuffled(&twice, seed)).calls != in_order.calls {
                wrong.push(format!(
                    "{name}: twice over, shuffled with seed {seed}, the calls differ"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_captures_together_give_the_sum() {
    // Not the synthetic ones: their times are made up and coincide, and a call is also known by its time.
    let (mut calls, mut all) = (Vec::new(), Vec::new());
    for name in names(&["captures"]) {
        let observations = capture(&name);
        calls.extend(fold(&observations).calls);
        all.extend(observations);
    }
    let together = fold(&shuffled(&all, 0x9e37_79b9_7f4a_7c15)).calls;
    let describe = |calls: &[Call]| {
        summary(calls)
            .into_iter()
            .collect::<std::collections::BTreeSet<String>>()
    };
    let (apart, joined) = (describe(&calls), describe(&together));
    let differences: Vec<String> = apart
        .symmetric_difference(&joined)
        .map(|call| format!("{} {call}", if apart.contains(call) { "apart" } else { "joined" }))
        .collect();
    assert_eq!(sums(&together), sums(&calls), "{}", differences.join("\n"));
}

#[test]
fn every_capture_settles_component_by_component_to_the_same_calls() {
    let mut wrong = Vec::new();
    for name in names(&["captures", "synthetic"]) {
        let observations = capture(&name);
        for seed in [1, 0x1234_5678_9abc_def1] {
            let mut components = Components::default();
            let dirty = Dirty {
                floor: Position::default(),
                since_ns: 0,
                last_ns: 0,
            };
            for batch in shuffled(&observations, seed).chunks(40) {
                for observation in batch {
                    components.add(observation.clone(), Some(dirty), Arrival::New);
                }
                drop(components.link_waiting(|_| true));
            }
            let folded = components
                .due(|_| true)
                .into_iter()
                .filter_map(|id| components.get(id))
                .flat_map(|component| fold_in(&component.observations, components.context()).calls);
            let mut calls: Vec<Call> = folded.collect();
            calls.sort_by_key(|call| (call.start_ns, call.call_id));
            let whole = fold(&observations).calls;
            if calls != whole {
                wrong.push(format!("{name}: {:?} but together {:?}", sums(&calls), sums(&whole)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What exceeds the sums of a whole capture in those of a part of it.
fn excess(part: &Truth, whole: &Truth) -> Vec<String> {
    [
        ("llm_calls", part.llm_calls, whole.llm_calls),
        ("input", part.input, whole.input),
        // Two instrumentations of one call may differ by a token, and the one left be the larger.
        ("output", part.output, whole.output.map(|output| output + 1)),
        ("cache_read", part.cache_read, whole.cache_read),
        ("cache_write", part.cache_write, whole.cache_write),
        ("mcp_tool_calls", part.mcp_tool_calls, whole.mcp_tool_calls),
        ("prompts", part.prompts, whole.prompts),
        ("resources", part.resources, whole.resources),
    ]
    .into_iter()
    .filter(|(_, part, whole)| part > whole)
    .map(|(what, part, whole)| format!("{what} {part:?} of {whole:?}"))
    .collect()
}

#[test]
fn whatever_signals_and_records_are_missing_nothing_is_counted_twice() {
    let mut wrong = Vec::new();
    // Of the synthetic ones a part may be more: a gateway's counters without its spans, beside a client's calls.
    for name in names(&["captures"]) {
        let observations = capture(&name);
        let whole = sums(&fold(&observations).calls);
        let mut check = |what: &str, keep: &dyn Fn(usize, &Observation) -> bool| {
            let part: Vec<Observation> = observations
                .iter()
                .enumerate()
                .filter(|(position, observation)| keep(*position, observation))
                .map(|(_, observation)| observation.clone())
                .collect();
            let excess = excess(&sums(&fold(&part).calls), &whole);
            if !excess.is_empty() {
                wrong.push(format!("{name}, {what}: {}", excess.join(", ")));
            }
        };
        for source in [Source::Span, Source::Log, Source::Metric] {
            check(&format!("{source:?} alone"), &|_, observation| {
                observation.source == source
            });
            check(&format!("without {source:?}"), &|_, observation| {
                observation.source != source
            });
        }
        for seed in 1..40_u64 {
            let kept_of_8 = seed % 7 + 1;
            check(&format!("{kept_of_8} of 8 records, seed {seed}"), &|position, _| {
                let hash = (position as u64 + 1).wrapping_mul(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
                (hash >> 40) % 8 < kept_of_8
            });
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}
