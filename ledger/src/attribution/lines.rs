//! Ledger lines by cause: the undivided lines of a model call, divided among who caused its tokens.
//!
//! Every measure of a line (tokens; list, contracted and effective cost) is divided on its own and sums to
//! what it was, so that totals, and every sum by the dimensions of calls, are those of the undivided lines.
//! Shares of one cause, touch, bucket and method are one line.

use std::collections::{BTreeMap, BTreeSet};

use spanledger_model::{Bucket, LedgerLine, Observation};

use super::atoms::{Charged, Policy, divide, split, weight};
use super::threads::{Sent, threads};
use super::{Atom, Cause, Context, Owner};
use crate::charge::{Charge, line_id};
use crate::fold::Folded;

/// Divides the charges of a component's model calls; `charges` are by position of the folded calls.
pub fn divide_charges(folded: &Folded, observations: &[Observation], charges: &mut [Charge], policy: Policy) {
    for thread in threads(folded, &Sent::of_all(observations)) {
        let mut context = Context::new();
        for (position, (call, turn)) in thread.calls.iter().zip(&thread.turns).enumerate() {
            let (segments, parts) = context.next(turn);
            let charge = &mut charges[*call];
            let charged: Vec<Charged> = charge.lines.iter().map(tokens_only).collect();
            let has_each_bucket_once = charge
                .lines
                .iter()
                .enumerate()
                .all(|(at, line)| !charge.lines[..at].iter().any(|earlier| earlier.bucket == line.bucket));
            if !has_each_bucket_once {
                // A bucket is priced in part: which tokens are which part is not known.
                continue;
            }
            let atoms = divide(segments, parts, &charged, position, policy);
            charge.lines = divided(&charge.lines, atoms);
        }
    }
}

/// A line as a piece to be divided by tokens: the costs follow the tokens afterwards.
fn tokens_only(line: &LedgerLine) -> Charged {
    Charged {
        bucket: line.bucket,
        tokens: line.tokens,
        quantity: line.quantity,
        cost: None,
    }
}

/// Definitions of a call that have lines of their own; those of smaller tools share one line a server. A host
/// with 90 tools would else write 90 lines a call.
const DEFINITIONS_MAX: usize = 16;

type Share = (Owner, Cause, bool, Option<&'static str>, super::Method);

fn divided(lines: &[LedgerLine], atoms: Vec<Atom>) -> Vec<LedgerLine> {
    let mut shares: BTreeMap<Bucket, BTreeMap<Share, i64>> = BTreeMap::new();
    let large = large_definitions(&atoms);
    for atom in atoms {
        let owner = match &*atom.owner {
            Owner::Tool { server, .. } if atom.cause == Cause::Definition && !large.contains(&*atom.owner) => {
                Owner::Server { server: server.clone() }
            }
            owner => owner.clone(),
        };
        let share = (owner, atom.cause, atom.history, atom.touch, atom.method);
        *shares.entry(atom.bucket).or_default().entry(share).or_default() += atom.tokens.unwrap_or(0);
    }
    let mut written = Vec::new();
    for line in lines {
        match shares.remove(&line.bucket).filter(|_| line.tokens.is_some()) {
            Some(shares) => written.extend(parts_of(line, &shares)),
            None => written.push(line.clone()),
        }
    }
    let n_calls = lines.iter().map(|line| line.n_calls).sum();
    for (at, line) in written.iter_mut().enumerate() {
        line.n_calls = if at == 0 { n_calls } else { 0 };
        line.line_id = line_id(line);
    }
    written
}

/// The owners of the largest definitions of a call.
fn large_definitions(atoms: &[Atom]) -> BTreeSet<Owner> {
    let mut sizes: BTreeMap<&Owner, i64> = BTreeMap::new();
    for atom in atoms.iter().filter(|atom| atom.cause == Cause::Definition) {
        *sizes.entry(&*atom.owner).or_default() += atom.tokens.unwrap_or(0);
    }
    let mut by_size: Vec<(&Owner, i64)> = sizes.into_iter().collect();
    by_size.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    by_size
        .into_iter()
        .take(DEFINITIONS_MAX)
        .map(|(owner, _)| owner.clone())
        .collect()
}

fn parts_of(line: &LedgerLine, shares: &BTreeMap<Share, i64>) -> Vec<LedgerLine> {
    let weights: Vec<u128> = shares.values().copied().map(weight).collect();
    let of = |cost| split(cost, &weights);
    let (list, contracted, effective) = (of(line.list_cost), of(line.contracted_cost), of(line.effective_cost));
    let mut parts = Vec::with_capacity(shares.len());
    for (at, ((owner, cause, history, touch, method), tokens)) in shares.iter().enumerate() {
        let mut part = line.clone();
        part.tokens = Some(*tokens);
        part.list_cost = list[at];
        part.contracted_cost = contracted[at];
        part.effective_cost = effective[at];
        part.cause = cause.as_str();
        part.history = *history;
        part.touch = *touch;
        part.method = method.as_str();
        name(&mut part, owner);
        parts.push(part);
    }
    parts
}

/// Names the cause. A managed prompt that the call itself names stays on what nobody else caused.
fn name(line: &mut LedgerLine, owner: &Owner) {
    match owner {
        Owner::Tool { server, tool } => {
            line.server.clone_from(server);
            line.tool = named(tool);
            line.prompt = None;
        }
        Owner::Server { server } => {
            line.server.clone_from(server);
            line.prompt = None;
        }
        Owner::Prompt { name, .. } => line.prompt = named(name),
        Owner::Resource { server, uri } => {
            line.server.clone_from(server);
            line.resource_uri = named(uri);
            line.prompt = None;
        }
        Owner::System | Owner::Conversation | Owner::Base | Owner::Request => {}
        Owner::Answer | Owner::Reasoning | Owner::Unknown => line.prompt = None,
    }
}

/// A name, or nothing where the record of the call gave none.
fn named(name: &str) -> Option<String> {
    Some(name.to_owned()).filter(|name| !name.is_empty())
}
