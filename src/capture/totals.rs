//! What a capture comes to, in the words of `expected.json`, and how that compares with its ground truth.
//!
//! `expected.json` names what is known of the run from outside (the emitter's API and its script); every name
//! that is known here is compared, the others are told as not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use spanledger_ingest::capture::Reading;
use spanledger_ledger::charge::charge;
use spanledger_ledger::fold::fold;
use spanledger_ledger::prices::PriceBook;
use spanledger_model::{Call, CallKind, FemtoUsd, Status, Usage};

/// Costs are compared to a millionth of a cent: a ground truth is often rounded.
const COST_SLACK: FemtoUsd = FemtoUsd(10_000_000);
/// What `expected.json` says of a run and we do not compare.
const DESCRIPTIVE: [&str; 8] = [
    "model",
    "note",
    "notes",
    "user",
    "session",
    "team",
    "interactions",
    "service",
];

/// The calls of a capture, with their costs.
pub fn calls(reading: &Reading, book: &Arc<PriceBook>) -> Vec<Call> {
    let mut calls = fold(&reading.observations).calls;
    for call in &mut calls {
        call.own_cost = charge(call, book, 0).own_cost;
    }
    calls
}

/// The totals of some calls, by the names of `expected.json`.
pub fn totals(calls: &[Call]) -> BTreeMap<&'static str, Value> {
    let of = |kind: CallKind| calls.iter().filter(move |call| call.kind == kind);
    let failed = |call: &&Call| call.status == Status::Error;
    let count = |n: usize| Value::from(n);
    let sum = |get: fn(&Usage) -> Option<i64>| -> i64 { of(CallKind::Llm).filter_map(|call| get(&call.usage)).sum() };
    let (read, written) = (sum(|usage| usage.cache_read), sum(|usage| usage.cache_write()));
    let input = sum(|usage| usage.input);
    let is_mcp = |call: &&Call| call.mcp.server.is_some();
    let cost: FemtoUsd = of(CallKind::Llm).filter_map(|call| call.own_cost).sum();
    let reasoning = sum(|usage| usage.reasoning);
    let output = sum(|usage| usage.output);
    BTreeMap::from([
        (
            "llm_calls",
            count(of(CallKind::Llm).filter(|call| !failed(call)).count()),
        ),
        ("failed_calls", count(of(CallKind::Llm).filter(failed).count())),
        ("embeddings_calls", count(of(CallKind::Embedding).count())),
        (
            "embeddings_input_tokens",
            of(CallKind::Embedding)
                .filter_map(|call| call.usage.input)
                .sum::<i64>()
                .into(),
        ),
        ("input_tokens_total", input.into()),
        ("input_tokens_uncached", (input - read - written).into()),
        ("cache_read", read.into()),
        ("cache_write", written.into()),
        ("output_tokens", output.into()),
        ("output_tokens_excl_thoughts", (output - reasoning).into()),
        ("reasoning", reasoning.into()),
        ("thoughts", reasoning.into()),
        ("cost_usd", cost.to_string().into()),
        ("tool_calls", count(of(CallKind::Tool).count())),
        ("mcp_tool_calls", count(of(CallKind::Tool).filter(is_mcp).count())),
        (
            "mcp_tool_errors",
            count(of(CallKind::Tool).filter(is_mcp).filter(failed).count()),
        ),
        ("prompts_get", count(of(CallKind::Prompt).count())),
        ("resources_read", count(of(CallKind::Resource).count())),
        ("resource_errors", count(of(CallKind::Resource).filter(failed).count())),
    ])
}

/// A skeleton of `expected.json`: what we read, to be corrected by hand.
pub fn skeleton(calls: &[Call]) -> Value {
    let totals = totals(calls);
    let mut expected = Map::new();
    expected.insert(
        "note".to_owned(),
        "what Spanledger read: replace every number by what the emitter's API and your script really did".into(),
    );
    let names = [
        "llm_calls",
        "failed_calls",
        "embeddings_calls",
        "input_tokens_total",
        "cache_read",
        "cache_write",
        "output_tokens",
        "reasoning",
        "tool_calls",
        "mcp_tool_calls",
        "mcp_tool_errors",
        "prompts_get",
        "resources_read",
        "resource_errors",
    ];
    for name in names {
        if let Some(total) = totals
            .get(name)
            .filter(|total| **total != json!(0) || name.ends_with("calls"))
        {
            expected.insert(name.to_owned(), total.clone());
        }
    }
    let models: BTreeSet<&str> = calls
        .iter()
        .filter(|call| call.kind == CallKind::Llm)
        .filter_map(|call| {
            call.model
                .response_model
                .as_deref()
                .or(call.model.request_model.as_deref())
        })
        .collect();
    if !models.is_empty() {
        let models: Vec<&str> = models.into_iter().collect();
        expected.insert("model".to_owned(), models.join(", ").into());
    }
    Value::Object(expected)
}

/// One number of the ground truth beside ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name; of a provider or model as `openai.output`.
    pub name: String,
    /// What the ground truth says.
    pub expected: Value,
    /// What we read; `None` where we do not know the name.
    pub read: Option<Value>,
    /// True where both are the same.
    pub is_equal: bool,
}

/// Compares calls with a ground truth, name by name.
pub fn compare(expected: &Value, calls: &[Call]) -> Vec<Compared> {
    let mut compared = Vec::new();
    let Some(expected) = expected.as_object() else {
        return compared;
    };
    let all = totals(calls);
    for (name, value) in expected {
        match value {
            _ if DESCRIPTIVE.contains(&name.as_str()) => {}
            Value::Object(part) if name == "by_model" => {
                for (model, part) in part {
                    let part = part.as_object().cloned().unwrap_or_default();
                    group(model, &part, &of(calls, |call| is_model(call, model)), &mut compared);
                }
            }
            Value::Object(part) if matches!(name.as_str(), "anthropic" | "openai" | "google") => {
                group(name, part, &of(calls, |call| is_provider(call, name)), &mut compared);
            }
            value => compared.push(one(name.clone(), value, all.get(name.as_str()))),
        }
    }
    compared
}

fn of(calls: &[Call], belongs: impl Fn(&Call) -> bool) -> Vec<Call> {
    calls.iter().filter(|call| belongs(call)).cloned().collect()
}

fn is_provider(call: &Call, provider: &str) -> bool {
    call.model
        .provider
        .as_deref()
        .is_some_and(|name| name == provider || name.ends_with(provider))
}

fn is_model(call: &Call, model: &str) -> bool {
    let names = [&call.model.response_model, &call.model.request_model];
    // `claude-sonnet-4-5-20250929` is `claude-sonnet-4-5`; `gpt-5-mini` is not `gpt-5`.
    let is_dated = |rest: &str| rest.is_empty() || rest.starts_with("-20");
    names
        .into_iter()
        .flatten()
        .any(|name| name.strip_prefix(model).is_some_and(is_dated))
}

fn group(name: &str, part: &Map<String, Value>, calls: &[Call], compared: &mut Vec<Compared>) {
    let totals = totals(calls);
    for (key, value) in part {
        let long = match key.as_str() {
            "calls" => "llm_calls",
            "input_total" => "input_tokens_total",
            "output" => "output_tokens",
            other => other,
        };
        compared.push(one(format!("{name}.{key}"), value, totals.get(long)));
    }
}

fn one(name: String, expected: &Value, read: Option<&Value>) -> Compared {
    let is_equal = match read {
        Some(Value::String(read)) => {
            let expected = expected.as_str().map_or_else(|| expected.to_string(), str::to_owned);
            match (FemtoUsd::parse(&expected), FemtoUsd::parse(read)) {
                (Some(expected), Some(read)) => (expected.0 - read.0).abs() <= COST_SLACK.0,
                _ => false,
            }
        }
        Some(read) => read == expected,
        None => false,
    };
    Compared {
        name,
        expected: expected.clone(),
        read: read.cloned(),
        is_equal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_we_know_are_compared_and_others_are_told() {
        let expected = json!({"llm_calls": 0, "output_tokens": 5, "cost_usd": 0.0, "model": "x", "odd": 1,
            "openai": {"calls": 0, "output": 1}});
        let compared = compare(&expected, &[]);
        let of = |name: &str| compared.iter().find(|one| one.name == name).unwrap();
        assert!(of("llm_calls").is_equal && of("cost_usd").is_equal && of("openai.calls").is_equal);
        assert!(!of("output_tokens").is_equal && of("openai.output").read == Some(json!(0)));
        assert!(of("odd").read.is_none() && compared.len() == 6);
    }

    #[test]
    fn a_skeleton_equals_what_it_was_made_of() {
        let compared = compare(&skeleton(&[]), &[]);
        assert!(compared.iter().all(|one| one.is_equal), "{compared:?}");
    }
}
