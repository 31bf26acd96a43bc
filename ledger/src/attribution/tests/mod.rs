//! The worked example to the last digit; the invariants over generated threads; metamorphic rules.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod booked;
mod causal;
mod evidence;
mod simulated;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use spanledger_model::{Bucket, FemtoUsd};

use super::atoms::Charged;
use super::{Atom, Cause, Claim, Context, Method, Owner, Policy, Turn, divide};

/// Femto-USD a token, by bucket.
#[derive(Debug, Clone, Copy)]
struct Rates {
    input: i128,
    read: i128,
    write_5m: i128,
    write_1h: i128,
    output: i128,
}

/// A turn and how its input and output are charged.
#[derive(Debug, Clone)]
struct Call {
    turn: Turn,
    read: i64,
    write_5m: i64,
    write_1h: i64,
}

fn charged(call: &Call, rates: Rates) -> Vec<Charged> {
    let fresh = call.turn.input - call.read - call.write_5m - call.write_1h;
    let pieces = [
        (Bucket::CacheRead, call.read, rates.read),
        (Bucket::CacheWrite1h, call.write_1h, rates.write_1h),
        (Bucket::CacheWrite5m, call.write_5m, rates.write_5m),
        (Bucket::Input, fresh, rates.input),
        (Bucket::Output, call.turn.output - call.turn.reasoning, rates.output),
        (Bucket::Reasoning, call.turn.reasoning, rates.output),
    ];
    pieces
        .into_iter()
        .filter(|(_, tokens, _)| *tokens > 0)
        .map(|(bucket, tokens, rate)| Charged {
            bucket,
            tokens: Some(tokens),
            quantity: None,
            cost: Some(FemtoUsd(i128::from(tokens) * rate)),
        })
        .collect()
}

/// The atoms of every call of a thread.
fn walk(calls: &[Call], rates: Rates, policy: Policy) -> Vec<Vec<Atom>> {
    let mut context = Context::new();
    let divide = |(position, call): (usize, &Call)| {
        let (segments, parts) = context.next(&call.turn);
        let held: i64 = segments.iter().map(|segment| segment.tokens).sum();
        assert_eq!(held, call.turn.input, "invariant A, call {position}");
        assert!(segments.iter().all(|segment| segment.tokens > 0));
        divide(segments, parts, &charged(call, rates), position, policy)
    };
    calls.iter().enumerate().map(divide).collect()
}

fn cost(atoms: &[Atom]) -> i128 {
    atoms.iter().map(|atom| atom.cost.unwrap().0).sum()
}

fn billed(call: &Call, rates: Rates) -> i128 {
    charged(call, rates).iter().map(|piece| piece.cost.unwrap().0).sum()
}

fn owner(name: &str) -> Owner {
    match name {
        "prompt:system" => Owner::System,
        "answer" => Owner::Answer,
        "reasoning" => Owner::Reasoning,
        name => match name.strip_prefix("prompt:").and_then(|name| name.split_once('@')) {
            Some((name, version)) => Owner::Prompt {
                name: name.to_owned(),
                version: Some(version.to_owned()),
            },
            None => tool(name),
        },
    }
}

fn tool(name: &str) -> Owner {
    let (server, tool) = name.split_once('/').unwrap();
    Owner::Tool {
        server: Some(server.to_owned()),
        tool: tool.to_owned(),
    }
}

fn cause(name: &str) -> (Cause, bool) {
    let (name, history) = name.strip_suffix(":history").map_or((name, false), |name| (name, true));
    let cause = match name {
        "definition" => Cause::Definition,
        "system" => Cause::System,
        "user" => Cause::User,
        "result" => Cause::Result,
        "call" => Cause::Call,
        "text" => Cause::Text,
        "reasoning" => Cause::Reasoning,
        other => panic!("{other}"),
    };
    (cause, history)
}

fn claims(value: &Value) -> Vec<Claim> {
    let entries = value.as_array().into_iter().flatten();
    let claim = |entry: &Value| Claim {
        owner: Arc::new(owner(entry[0].as_str().unwrap())),
        cause: cause(entry[1].as_str().unwrap()).0,
        weight: entry[2].as_u64().unwrap(),
        tokens_max: None,
        method: Method::Content,
    };
    entries.map(claim).collect()
}

type Row = (usize, Owner, Cause, bool, Option<Bucket>, i64, i128);

fn rows(expected: &Value, has_bucket: bool) -> Vec<Row> {
    let row = |atom: &Value| {
        let (cause, history) = cause(atom["kind"].as_str().unwrap());
        let bucket = has_bucket.then(|| Bucket::parse(atom["bucket"].as_str().unwrap()).unwrap());
        (
            usize::try_from(atom["call"].as_u64().unwrap()).unwrap(),
            owner(atom["owner"].as_str().unwrap()),
            cause,
            history,
            bucket,
            atom["tokens"].as_i64().unwrap(),
            atom["femto_usd"].as_str().unwrap().parse().unwrap(),
        )
    };
    let mut rows: Vec<Row> = expected.as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

fn rows_of(walked: &[Vec<Atom>], has_bucket: bool) -> Vec<Row> {
    let row = |position: usize, atom: &Atom| {
        // The example books reasoning under the output's bucket, whose rate it has.
        let bucket = if atom.bucket == Bucket::Reasoning {
            Bucket::Output
        } else {
            atom.bucket
        };
        (
            position + 1,
            (*atom.owner).clone(),
            atom.cause,
            atom.history,
            has_bucket.then_some(bucket),
            atom.tokens.unwrap(),
            atom.cost.unwrap().0,
        )
    };
    let calls = walked.iter().enumerate();
    let mut rows: Vec<Row> = calls
        .flat_map(|(position, atoms)| atoms.iter().map(move |atom| row(position, atom)))
        .collect();
    rows.sort();
    rows
}

#[test]
fn the_worked_example_is_right_to_the_last_digit() {
    let text = include_str!("../../../tests-data/attribution-example.json");
    let example: Value = serde_json::from_str(text).unwrap();
    let per_token = |name: &str| -> i128 {
        // USD per million tokens is nano-USD × 1,000 a token: one million femto-USD per thousandth.
        let usd: f64 = example["rates_usd_per_mtok"][name].as_str().unwrap().parse().unwrap();
        (usd * 1e9).round() as i128
    };
    let rates = Rates {
        input: per_token("input"),
        read: per_token("cache_read"),
        write_5m: per_token("cache_write_5m"),
        write_1h: per_token("cache_write_1h"),
        output: per_token("output"),
    };
    let number = |call: &Value, key: &str| call[key].as_i64().unwrap();
    let calls: Vec<Call> = example["calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| Call {
            turn: Turn {
                input: number(call, "I"),
                output: number(call, "O"),
                reasoning: number(call, "reason"),
                base: claims(&call["base"]),
                arrived: claims(&call["new"]),
                parts: claims(&call["out"]),
            },
            read: number(call, "R"),
            write_5m: number(call, "W5"),
            write_1h: number(call, "W1"),
        })
        .collect();
    let walked = walk(&calls, rates, Policy::Prefix);
    assert_eq!(rows_of(&walked, true), rows(&example["atoms"], true));
    let total: i128 = walked.iter().map(|atoms| cost(atoms)).sum();
    assert_eq!(total.to_string(), example["total_femto_usd"].as_str().unwrap());
    let blended = walk(&calls, rates, Policy::Blended);
    assert_eq!(rows_of(&blended, false), rows(&example["blended"], false));
}

const RATES: Rates = Rates {
    input: 3_000_000_000,
    read: 300_000_000,
    write_5m: 3_750_000_000,
    write_1h: 6_000_000_000,
    output: 15_000_000_000,
};

fn any_claim(causes: &'static [Cause]) -> impl Strategy<Value = Claim> {
    (0..6_u8, 0..causes.len(), 0..5_000_u64, any::<bool>()).prop_map(move |(name, cause, weight, is_bounded)| Claim {
        owner: Arc::new(tool(&format!("server/tool_{name}"))),
        cause: causes[cause],
        weight,
        tokens_max: is_bounded.then(|| i64::try_from(weight).unwrap() + 32),
        method: Method::Bytes,
    })
}

prop_compose! {
    fn any_call()(
        input in 0..200_000_i64,
        output in 0..8_000_i64,
        reasoning in 0..100_i64,
        read in 0..=100_i64,
        write_5m in 0..=100_i64,
        write_1h in 0..=100_i64,
        base in prop::collection::vec(any_claim(&[Cause::Definition, Cause::System, Cause::User]), 0..8),
        arrived in prop::collection::vec(any_claim(&[Cause::Result, Cause::User]), 0..5),
        parts in prop::collection::vec(any_claim(&[Cause::Call, Cause::Text]), 0..4),
    ) -> Call {
        let read = input * read / 100;
        let write_5m = (input - read) * write_5m / 100;
        let write_1h = (input - read - write_5m) * write_1h / 100;
        let reasoning = output * reasoning / 100;
        Call { turn: Turn { input, output, reasoning, base, arrived, parts }, read, write_5m, write_1h }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn segments_sum_to_the_input_and_atoms_to_the_bill(calls in prop::collection::vec(any_call(), 1..12)) {
        for policy in [Policy::Prefix, Policy::Blended] {
            for (atoms, call) in walk(&calls, RATES, policy).iter().zip(&calls) {
                prop_assert_eq!(cost(atoms), billed(call, RATES));
                let tokens: i64 = atoms.iter().filter_map(|atom| atom.tokens).sum();
                prop_assert_eq!(tokens, call.turn.input + call.turn.output);
            }
        }
    }

    #[test]
    fn doubled_rates_double_every_atom(calls in prop::collection::vec(any_call(), 1..6)) {
        let doubled = Rates {
            input: RATES.input * 2, read: RATES.read * 2, write_5m: RATES.write_5m * 2,
            write_1h: RATES.write_1h * 2, output: RATES.output * 2,
        };
        let (once, twice) = (walk(&calls, RATES, Policy::Prefix), walk(&calls, doubled, Policy::Prefix));
        for (once, twice) in once.iter().flatten().zip(twice.iter().flatten()) {
            prop_assert_eq!(once.cost.unwrap().0 * 2, twice.cost.unwrap().0);
        }
    }

    #[test]
    fn a_new_name_changes_nothing_but_the_name(calls in prop::collection::vec(any_call(), 1..6)) {
        let renamed = |claims: &[Claim]| -> Vec<Claim> {
            let rename = |claim: &Claim| match &*claim.owner {
                Owner::Tool { tool: name, .. } if name == "tool_1" => Claim {
                    owner: Arc::new(tool("server/zzz")),
                    ..claim.clone()
                },
                _ => claim.clone(),
            };
            claims.iter().map(rename).collect()
        };
        let others: Vec<Call> = calls
            .iter()
            .map(|call| {
                let turn = Turn {
                    base: renamed(&call.turn.base),
                    arrived: renamed(&call.turn.arrived),
                    parts: renamed(&call.turn.parts),
                    ..call.turn.clone()
                };
                Call { turn, ..call.clone() }
            })
            .collect();
        let (before, after) = (walk(&calls, RATES, Policy::Prefix), walk(&others, RATES, Policy::Prefix));
        for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
            prop_assert_eq!((before.tokens, before.cost, before.bucket), (after.tokens, after.cost, after.bucket));
        }
    }
}

fn definition(name: &str, weight: u64) -> Claim {
    Claim {
        owner: Arc::new(tool(name)),
        cause: Cause::Definition,
        weight,
        tokens_max: None,
        method: Method::Content,
    }
}

fn lone(input: i64, base: Vec<Claim>) -> Call {
    Call {
        turn: Turn {
            input,
            output: 10,
            base,
            ..Turn::default()
        },
        read: 0,
        write_5m: 0,
        write_1h: 0,
    }
}

fn by_owner(walked: &[Vec<Atom>]) -> BTreeMap<Owner, i128> {
    let mut costs = BTreeMap::new();
    for atom in walked.iter().flatten() {
        *costs.entry((*atom.owner).clone()).or_default() += atom.cost.unwrap().0;
    }
    costs
}

#[test]
fn splitting_a_tool_splits_its_cost() {
    let whole = [lone(1_000, vec![definition("s/a", 600), definition("s/b", 400)])];
    let split = [lone(
        1_000,
        vec![definition("s/a1", 200), definition("s/a2", 400), definition("s/b", 400)],
    )];
    let (whole, split) = (
        by_owner(&walk(&whole, RATES, Policy::Prefix)),
        by_owner(&walk(&split, RATES, Policy::Prefix)),
    );
    assert_eq!(whole[&tool("s/a")], split[&tool("s/a1")] + split[&tool("s/a2")]);
    assert_eq!(whole[&tool("s/b")], split[&tool("s/b")]);
}

#[test]
fn a_tool_that_is_never_called_only_adds_what_its_definition_costs() {
    let without = [lone(1_000, vec![definition("s/a", 600), definition("s/b", 400)])];
    let with = [lone(
        1_500,
        vec![
            definition("s/a", 600),
            definition("s/b", 400),
            definition("s/idle", 500),
        ],
    )];
    let (without, with) = (
        by_owner(&walk(&without, RATES, Policy::Prefix)),
        by_owner(&walk(&with, RATES, Policy::Prefix)),
    );
    assert_eq!(with[&tool("s/idle")], 500 * RATES.input);
    for (owner, cost) in without {
        assert_eq!(with[&owner], cost, "{owner:?}");
    }
}

#[test]
fn a_very_long_context_stays_bounded_and_exact() {
    let mut calls = Vec::new();
    for position in 0..3_000_i64 {
        let mut call = lone(1_000 + position * 60, Vec::new());
        call.turn.arrived = vec![Claim {
            cause: Cause::Result,
            ..definition(&format!("s/t{}", position % 7), 10)
        }];
        call.read = call.turn.input - 60;
        calls.push(call);
    }
    let walked = walk(&calls, RATES, Policy::Prefix);
    assert!(walked.iter().all(|atoms| atoms.len() < 3_000));
    for (atoms, call) in walked.iter().zip(&calls) {
        assert_eq!(cost(atoms), billed(call, RATES));
    }
}

#[test]
fn growth_beyond_what_results_can_be_is_nobodys() {
    let mut second = lone(1_000 + 10 + 5_000, Vec::new());
    second.turn.arrived = vec![Claim {
        cause: Cause::Result,
        tokens_max: Some(132),
        method: Method::Bytes,
        ..definition("s/a", 100)
    }];
    let walked = walk(&[lone(1_000, Vec::new()), second], RATES, Policy::Prefix);
    let costs = by_owner(&walked);
    assert_eq!(costs[&tool("s/a")], 132 * RATES.input);
    assert_eq!(costs[&Owner::Unknown], (5_000 - 132) * RATES.input);
}

#[test]
fn a_compacted_context_keeps_definitions_and_the_causes_of_the_rest() {
    let mut second = lone(9_000, Vec::new());
    second.turn.arrived = vec![Claim {
        cause: Cause::Result,
        ..definition("s/a", 100)
    }];
    let calls = [lone(1_000, vec![definition("s/a", 1)]), second, lone(3_000, Vec::new())];
    let walked = walk(&calls, RATES, Policy::Prefix);
    let of = |cause: Cause| -> i64 {
        let atoms = walked[2].iter().filter(|atom| atom.cause == cause && !atom.history);
        atoms
            .filter(|atom| atom.bucket == Bucket::Input)
            .filter_map(|atom| atom.tokens)
            .sum()
    };
    assert_eq!(of(Cause::Definition), 1_000);
    assert!(of(Cause::Result) > 1_900);
}
