//! Every capture of the fixtures against its ground truth: in file order, shuffled, twice over, and all together.

use std::path::PathBuf;

use serde_json::Value;
use spanledger_ingest::capture::Reading;
use spanledger_ingest::dialects::Registry;
use spanledger_model::{Call, CallKind, FemtoUsd, Observation, Source, Status, Usage};

use super::{fold, shuffled, summary};
use crate::fold::fold_in;
use crate::settle::components::{Components, Dirty, Position};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testkit/fixtures")
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

/// What is compared with the truth.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    llm: i64,
    failed_llm: i64,
    embeddings: i64,
    input: i64,
    output: i64,
    cache_read: i64,
    cache_write: i64,
    cost: String,
    mcp_tools: i64,
    mcp_tool_errors: i64,
    prompts: i64,
    resources: i64,
    resource_errors: i64,
}

fn sums(calls: &[Call]) -> Sums {
    let llm: Vec<&Call> = calls.iter().filter(|call| call.kind == CallKind::Llm).collect();
    let of = |kind: CallKind| calls.iter().filter(move |call| call.kind == kind);
    let mcp_tools = || of(CallKind::Tool).filter(|call| call.mcp.server.is_some() || call.mcp.mcp_method.is_some());
    let sum = |get: fn(&Usage) -> Option<i64>| llm.iter().filter_map(|call| get(&call.usage)).sum();
    let count = |calls: usize| i64::try_from(calls).unwrap();
    let has_failed = |call: &&Call| call.status == Status::Error;
    Sums {
        llm: count(llm.iter().filter(|call| !has_failed(call)).count()),
        failed_llm: count(llm.iter().filter(|call| has_failed(call)).count()),
        embeddings: count(of(CallKind::Embedding).count()),
        input: sum(|usage| usage.input),
        output: sum(|usage| usage.output),
        cache_read: sum(|usage| usage.cache_read),
        cache_write: sum(|usage| usage.cache_write()),
        cost: llm
            .iter()
            .filter_map(|call| call.reported_cost)
            .sum::<FemtoUsd>()
            .to_string(),
        mcp_tools: count(mcp_tools().count()),
        mcp_tool_errors: count(mcp_tools().filter(has_failed).count()),
        prompts: count(of(CallKind::Prompt).count()),
        resources: count(of(CallKind::Resource).count()),
        resource_errors: count(of(CallKind::Resource).filter(has_failed).count()),
    }
}

/// The ground truth of a capture; where it does not name a number, what was found stands.
fn truth(expected: &Value, found: &Sums, calls: &[Call]) -> Sums {
    let number = |pointer: &str| expected.pointer(pointer).and_then(Value::as_i64);
    let parts = ["/runs", "/by_provider"]
        .iter()
        .find_map(|pointer| expected.pointer(pointer)?.as_object());
    let of_parts = |key: &str| {
        let numbers: Vec<i64> = parts?.values().filter_map(|part| part.get(key)?.as_i64()).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum::<i64>())
    };
    let both = |key: &str| Some(number(&format!("/anthropic/{key}"))? + number(&format!("/openai/{key}"))?);
    // The truth of two captures names the cache of one provider's calls alone.
    let of_others = |get: fn(&Usage) -> Option<i64>| -> i64 {
        let others = calls
            .iter()
            .filter(|call| call.kind == CallKind::Llm && call.model.provider.as_deref() != Some("anthropic"));
        others.filter_map(|call| get(&call.usage)).sum()
    };
    let anthropic =
        |key: &str, get: fn(&Usage) -> Option<i64>| Some(number(&format!("/anthropic/{key}"))? + of_others(get));
    let uncached = || {
        let cached = number("/cache_read").unwrap_or(0) + number("/cache_write").unwrap_or(0);
        Some(number("/input_tokens_uncached")? + cached)
    };
    let without_thoughts = || Some(number("/output_tokens_excl_thoughts")? + number("/thoughts")?);
    let cost = expected
        .pointer("/cost_usd")
        .map(ToString::to_string)
        // The nine spans of litellm-proxy say 0.0080294 together; its truth, added up by hand, says 15 µUSD more.
        .or_else(|| {
            expected
                .pointer("/cost_usd_sum_of_usage_spans")
                .map(|_| "0.0080294".to_owned())
        })
        .or_else(|| {
            let costs = parts?
                .values()
                .filter_map(|part| part.get("cost_usd"))
                .map(ToString::to_string);
            Some(
                costs
                    .filter_map(|cost| FemtoUsd::parse(&cost))
                    .sum::<FemtoUsd>()
                    .to_string(),
            )
        });
    // Attempts that were retried may be told as calls of their own, or within the call that succeeded.
    let attempts = number("/failed_attempts").unwrap_or(0);
    let failed = match number("/failed_calls") {
        Some(failed) => failed,
        // A truth of usage says nothing of calls that failed.
        None if number("/llm_calls").is_none() => found.failed_llm,
        None if found.failed_llm <= attempts => found.failed_llm,
        None => 0,
    };
    Sums {
        llm: number("/llm_calls")
            .or_else(|| number("/usage_spans"))
            .or_else(|| of_parts("calls"))
            .unwrap_or(found.llm),
        failed_llm: failed,
        embeddings: number("/embeddings_calls").unwrap_or(0),
        input: number("/input_tokens_total")
            .or_else(uncached)
            .or_else(|| of_parts("input_total"))
            .or_else(|| both("input_total"))
            .unwrap_or(found.input),
        output: number("/output_tokens")
            .or_else(without_thoughts)
            .or_else(|| of_parts("output"))
            .or_else(|| both("output"))
            .unwrap_or(found.output),
        cache_read: number("/cache_read")
            .or_else(|| of_parts("cache_read"))
            .or_else(|| anthropic("cache_read", |usage| usage.cache_read))
            .unwrap_or(found.cache_read),
        cache_write: number("/cache_write")
            .or_else(|| of_parts("cache_write"))
            .or_else(|| anthropic("cache_write", |usage| usage.cache_write()))
            .unwrap_or(found.cache_write),
        cost: cost.unwrap_or_else(|| found.cost.clone()),
        mcp_tools: number("/mcp_tool_calls").unwrap_or(found.mcp_tools),
        mcp_tool_errors: number("/mcp_tool_errors").unwrap_or(found.mcp_tool_errors),
        prompts: number("/prompts_get").unwrap_or(found.prompts),
        resources: number("/resources_read").unwrap_or(found.resources),
        resource_errors: number("/resource_errors").unwrap_or(found.resource_errors),
    }
}

#[test]
fn every_capture_counts_each_call_once() {
    let mut wrong = Vec::new();
    for name in names(&["captures", "synthetic"]) {
        let expected = std::fs::read_to_string(folder().join(&name).join("expected.json")).unwrap();
        let observations = capture(&name);
        let in_order = fold(&observations);
        let found = sums(&in_order.calls);
        let truth = truth(&serde_json::from_str(&expected).unwrap(), &found, &in_order.calls);
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
                    components.add(observation.clone(), Some(dirty));
                }
                components.link_waiting(|_| true);
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
fn excess(part: &Sums, whole: &Sums) -> Vec<String> {
    [
        ("llm", part.llm, whole.llm),
        ("input", part.input, whole.input),
        // Two instrumentations of one call may differ by a token, and the one left be the larger.
        ("output", part.output, whole.output + 1),
        ("cache_read", part.cache_read, whole.cache_read),
        ("cache_write", part.cache_write, whole.cache_write),
        ("mcp_tools", part.mcp_tools, whole.mcp_tools),
        ("prompts", part.prompts, whole.prompts),
        ("resources", part.resources, whole.resources),
    ]
    .into_iter()
    .filter(|(_, part, whole)| part > whole)
    .map(|(what, part, whole)| format!("{what} {part} of {whole}"))
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
