//! Lines of calls and of hours: the same amounts in both, and those of the reference, to the last digit.

use std::collections::BTreeMap;

use spanledger_model::{Bucket, FemtoUsd, LedgerLine};
use spanledger_testkit::simulator::{self, Shape};

use super::super::threads::{Sent, threads};
use super::super::{Context, Policy, book_lines, divide, divide_charges};
use super::simulated::{Evidence, reported};
use crate::attribution::atoms::Charged;
use crate::charge::{Charge, charge};
use crate::fold::Folded;
use crate::prices::PriceBook;
use crate::settle::lines::Lines;

const HOUR_NS: i64 = 3_600_000_000_000;
const SHAPE: Shape = Shape {
    tools: (5, 40),
    servers: (1, 6),
    calls: (2, 30),
};

/// A simulated session whose calls are of one conversation and cost awkward amounts here and there.
fn session(seed: u64, evidence: Evidence) -> (Folded, Vec<spanledger_model::Observation>) {
    let (mut folded, observations) = reported(&simulator::session(seed, SHAPE), evidence);
    for (at, call) in folded.calls.iter_mut().enumerate() {
        call.dimensions.session_id = Some(format!("session-{seed}"));
        // Past an hour's end now and then; a reported cost that no token's price divides.
        call.start_ns += HOUR_NS * 100 + HOUR_NS / 2;
        if at % 3 == 0 {
            call.reported_cost = FemtoUsd::parse(&format!("0.01{at}7"));
        }
    }
    (folded, observations)
}

fn charges(folded: &Folded, book: &PriceBook) -> Vec<Charge> {
    folded.calls.iter().map(|call| charge(call, book, 0)).collect()
}

/// All that a line says but the call and the time within the hour, with its measures.
fn sums<'l>(lines: impl IntoIterator<Item = &'l LedgerLine>) -> BTreeMap<String, (i64, i128, i128)> {
    let mut sums: BTreeMap<String, (i64, i128, i128)> = BTreeMap::new();
    for line in lines {
        let says = (
            (
                line.time_ns.div_euclid(HOUR_NS),
                &line.dimensions,
                &line.model,
                &line.price_id,
            ),
            (&line.server, &line.tool, &line.prompt, &line.resource_uri),
            (line.cause, line.history, line.touch, line.bucket, line.method),
        );
        let sum = sums.entry(format!("{says:?}")).or_default();
        sum.0 += line.tokens.unwrap_or(0);
        sum.1 += line.list_cost.map_or(0, |cost| cost.0);
        sum.2 += line.effective_cost.map_or(0, |cost| cost.0);
    }
    sums
}

#[test]
fn lines_of_hours_are_the_sums_of_lines_of_calls() {
    let book = PriceBook::embedded().unwrap();
    let (mut n_carried, mut n_of_calls) = (0, 0);
    for seed in 0..80 {
        let evidence = [Evidence::Stated, Evidence::Bytes, Evidence::Counts][seed as usize % 3];
        let policy = [Policy::Prefix, Policy::Blended][seed as usize % 2];
        let (folded, observations) = session(seed, evidence);
        let mut of_calls = charges(&folded, &book);
        divide_charges(&folded, &observations, &mut of_calls, policy);
        let booked = book_lines(&folded, &observations, charges(&folded, &book), policy);
        assert_eq!(
            sums(&booked),
            sums(of_calls.iter().flat_map(|charge| &charge.lines)),
            "seed {seed}"
        );
        n_carried += booked.iter().filter(|line| line.call_id.is_none()).count();
        n_of_calls += of_calls.iter().map(|charge| charge.lines.len()).sum::<usize>();
        for line in booked.iter().filter(|line| line.call_id.is_none()) {
            assert!(
                line.span_id.is_none() && line.trace_id.is_none() && line.n_calls > 0,
                "{line:?}"
            );
        }
        let n_calls: i64 = booked
            .iter()
            .filter(|line| line.call_id.is_some())
            .map(|line| line.n_calls)
            .sum();
        let n_charged = of_calls.iter().filter(|charge| !charge.lines.is_empty()).count();
        assert!(n_calls <= i64::try_from(n_charged).unwrap(), "seed {seed}");
    }
    assert!(n_carried * 3 < n_of_calls, "{n_carried} of {n_of_calls}");
}

#[test]
fn the_lines_of_a_call_sum_to_its_charge_bucket_by_bucket() {
    let book = PriceBook::embedded().unwrap();
    for seed in 0..60 {
        for policy in [Policy::Prefix, Policy::Blended] {
            let (folded, observations) = session(seed, Evidence::Stated);
            let whole = charges(&folded, &book);
            let mut divided = whole.clone();
            divide_charges(&folded, &observations, &mut divided, policy);
            let by_bucket = |charge: &Charge| {
                let mut sums: BTreeMap<Bucket, (i64, i64, i128, i128)> = BTreeMap::new();
                for line in &charge.lines {
                    let sum = sums.entry(line.bucket).or_default();
                    sum.0 += line.tokens.unwrap_or(0);
                    sum.1 += line.n_calls;
                    sum.2 += line.list_cost.map_or(0, |cost| cost.0);
                    sum.3 += line.effective_cost.map_or(0, |cost| cost.0);
                }
                let n_calls: i64 = sums.values().map(|sum| sum.1).sum();
                let sums: Vec<_> = sums
                    .into_iter()
                    .map(|(bucket, sum)| (bucket, sum.0, sum.2, sum.3))
                    .collect();
                (n_calls, sums)
            };
            for (whole, divided) in whole.iter().zip(&divided) {
                assert_eq!(by_bucket(whole), by_bucket(divided), "seed {seed} {policy:?}");
            }
        }
    }
}

/// Costs by what is told of an input's part, of one call.
type Parts = BTreeMap<String, i128>;

#[test]
fn lines_have_the_costs_of_the_reference() {
    let book = PriceBook::embedded().unwrap();
    for seed in 0..40 {
        for policy in [Policy::Prefix, Policy::Blended] {
            let (folded, observations) = session(seed, Evidence::Stated);
            let whole = charges(&folded, &book);
            let mut divided = whole.clone();
            divide_charges(&folded, &observations, &mut divided, policy);
            for thread in threads(&folded, &Sent::of_all(&observations)) {
                let mut context = Context::new();
                for (position, (call, turn)) in thread.calls.iter().zip(&thread.turns).enumerate() {
                    let (segments, parts) = context.next(turn);
                    let lines = &whole[*call].lines;
                    if lines.iter().any(|line| line.effective_cost.is_none()) {
                        continue;
                    }
                    let charged: Vec<Charged> = lines.iter().map(charged).collect();
                    let mut reference = Parts::new();
                    for atom in divide(segments, parts, &charged, position, policy) {
                        let says = (atom.cause.as_str(), atom.history, atom.touch, atom.method.as_str());
                        *reference.entry(format!("{says:?}")).or_default() += atom.cost.unwrap().0;
                    }
                    let mut found = Parts::new();
                    for line in &divided[*call].lines {
                        let says = (line.cause, line.history, line.touch, line.method);
                        *found.entry(format!("{says:?}")).or_default() += line.effective_cost.unwrap().0;
                    }
                    reference.retain(|_, cost| *cost != 0);
                    found.retain(|_, cost| *cost != 0);
                    let keys = |parts: &Parts| parts.keys().cloned().collect::<Vec<_>>();
                    assert_eq!(keys(&found), keys(&reference), "seed {seed} call {call} {policy:?}");
                    // Shares of one name are divided together, so a femto-USD of a remainder may fall elsewhere.
                    let n_atoms = i128::try_from(segments.len() + parts.len()).unwrap();
                    for (found, reference) in found.values().zip(reference.values()) {
                        assert!(
                            (found - reference).abs() <= n_atoms,
                            "seed {seed} call {call} {policy:?}"
                        );
                    }
                }
            }
        }
    }
}

fn charged(line: &LedgerLine) -> Charged {
    Charged {
        bucket: line.bucket,
        tokens: line.tokens,
        quantity: line.quantity,
        cost: line.effective_cost,
    }
}

#[test]
fn call_by_call_the_ledger_comes_to_the_same_sums() {
    let book = PriceBook::embedded().unwrap();
    for seed in 0..30 {
        let (folded, observations) = session(seed, Evidence::Bytes);
        let mut in_force = Lines::default();
        let mut appended = Vec::new();
        for n_calls in 1..=folded.calls.len() {
            let known = Folded {
                calls: folded.calls[..n_calls].to_vec(),
                parents: folded.parents[..n_calls]
                    .iter()
                    .map(|parent| parent.filter(|parent| *parent < n_calls))
                    .collect(),
            };
            let wanted = Lines::of(book_lines(
                &known,
                &observations,
                charges(&known, &book),
                Policy::Prefix,
            ));
            appended.extend(in_force.changes_to(&wanted, b"session", i64::try_from(n_calls).unwrap() * 1_000));
            in_force = wanted;
        }
        let whole = Lines::of(book_lines(
            &folded,
            &observations,
            charges(&folded, &book),
            Policy::Prefix,
        ));
        assert!(
            Lines::of(appended.clone()).changes_to(&whole, b"session", 0).is_empty(),
            "seed {seed}"
        );
        let mut ids: Vec<_> = appended.iter().map(|line| line.line_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(
            ids.len(),
            appended.len(),
            "every line has an id of its own: seed {seed}"
        );
    }
}
