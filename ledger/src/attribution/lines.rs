//! Ledger lines by cause: the undivided lines of a model call, divided among who caused its tokens.
//!
//! Every measure of a line (tokens; list, contracted and effective cost) is divided on its own and sums to
//! what it was, so that totals, and every sum by the dimensions of calls, are those of the undivided lines.
//! Shares of one cause, touch, bucket and method are one line.
//!
//! A conversation of 200 calls with 90 tools has 25,000 shares, because every call sends again what the calls
//! before it sent. The ledger does not hold them one by one ([`book_lines`]): what a call sends or gets for the
//! first time has a line of its own, and what it only *carries* (definitions, instructions, and whatever an
//! earlier call sent first) is summed in [`carried`]. [`divide_charges`] is the same division call by call, for
//! those who ask about one. Both add up to the same amounts, to the last digit.

use std::sync::Arc;

use hashbrown::HashMap;
use spanledger_model::money::split_by_largest_remainder;
use spanledger_model::{Bucket, FemtoUsd, LedgerLine, Observation};

use super::atoms::{Charged, PREFIX, Policy, divide, weight};
use super::carried::Carried;
use super::threads::{Sent, threads};
use super::{Atom, Cause, Context, Method, Owner};
use crate::charge::Charge;
use crate::fold::Folded;

/// Divides the charges of a component's model calls, call by call; `charges` are by position of the folded calls.
pub fn divide_charges(folded: &Folded, observations: &[Observation], charges: &mut [Charge], policy: Policy) {
    let mut names = Names::default();
    walk(folded, observations, charges, |lines, atoms| {
        let mut divided = Vec::with_capacity(atoms.len());
        names.divide(lines, &atoms, policy, |names, line, share| {
            divided.push(share.line_of(names, line));
        });
        count_once(lines, &mut divided);
        *lines = divided;
    });
}

/// The lines of a component as the ledger holds them: first-hand ones by call, carried ones by hour.
#[must_use]
pub fn book_lines(
    folded: &Folded,
    observations: &[Observation],
    mut charges: Vec<Charge>,
    policy: Policy,
) -> Vec<LedgerLine> {
    let mut names = Names::default();
    let mut carried = Carried::default();
    let n_whole: usize = charges.iter().map(|charge| charge.lines.len()).sum();
    let mut booked = Vec::with_capacity(n_whole * 2);
    walk(folded, observations, &mut charges, |lines, atoms| {
        let from = booked.len();
        names.divide(lines, &atoms, policy, |names, line, share| {
            // What belongs to no conversation and no trace could not be found again without its call.
            let is_of_more = line.dimensions.session_id.is_some() || line.trace_id.is_some();
            if share.is_carried && is_of_more {
                carried.add(line, &share);
            } else {
                booked.push(share.line_of(names, line));
            }
        });
        count_once(lines, &mut booked[from..]);
        lines.clear();
    });
    booked.extend(charges.into_iter().flat_map(|charge| charge.lines));
    booked.extend(carried.into_lines(&names));
    booked
}

/// Goes through the model calls that can be divided, thread by thread, with the lines of each and the atoms they
/// are to be divided by. The atoms are of tokens only: the costs follow the tokens.
fn walk(
    folded: &Folded,
    observations: &[Observation],
    charges: &mut [Charge],
    mut visit: impl FnMut(&mut Vec<LedgerLine>, Vec<Atom>),
) {
    let mut charged: Vec<Charged> = Vec::new();
    for thread in threads(folded, &Sent::of_all(observations)) {
        let mut context = Context::new();
        for (position, (call, turn)) in thread.calls.iter().zip(&thread.turns).enumerate() {
            let (segments, parts) = context.next(turn);
            let lines = &mut charges[*call].lines;
            let has_each_bucket_once = lines
                .iter()
                .enumerate()
                .all(|(at, line)| !lines[..at].iter().any(|earlier| earlier.bucket == line.bucket));
            if !has_each_bucket_once {
                // A bucket is priced in part: which tokens are which part is not known.
                continue;
            }
            charged.clear();
            charged.extend(lines.iter().map(tokens_only));
            let mut atoms = divide(segments, parts, &charged, position, Policy::Prefix);
            thread.give_to_asker(&mut atoms);
            visit(lines, atoms);
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

/// The first of a call's lines counts the call.
fn count_once(whole: &[LedgerLine], parts: &mut [LedgerLine]) {
    let n_calls = whole.iter().map(|line| line.n_calls).sum();
    for (at, part) in parts.iter_mut().enumerate() {
        part.n_calls = if at == 0 { n_calls } else { 0 };
    }
}

/// Who a share is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    owner: Arc<Owner>,
    cause: Cause,
    history: bool,
    touch: Option<&'static str>,
    method: Method,
}

/// What a name says in the columns of a line.
#[derive(Debug, Default)]
pub(super) struct Columns {
    server: Option<Arc<str>>,
    tool: Option<Arc<str>>,
    prompt: Option<Arc<str>>,
    resource_uri: Option<Arc<str>>,
    /// True where the prompt that the call itself names is not the cause.
    is_not_prompted: bool,
}

/// A part of a line: who it is of, and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// Position in [`Names`].
    pub(super) name: usize,
    pub(super) is_carried: bool,
    pub(super) tokens: Option<i64>,
    pub(super) list_cost: Option<FemtoUsd>,
    pub(super) contracted_cost: Option<FemtoUsd>,
    pub(super) effective_cost: Option<FemtoUsd>,
}

/// The names of a component's shares, each once.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: Vec<(Name, Columns)>,
    by_name: HashMap<Name, usize>,
    /// By the address of the owner, which `names` keeps alive: most owners are shared by all calls.
    by_address: HashMap<(usize, Cause, bool, Option<&'static str>, Method), usize>,
    /// Where a name (first-hand, then carried) stands in `shares`; `usize::MAX` where it does not.
    places: Vec<[usize; 2]>,
    /// A buffer, used again from line to line.
    shares: Vec<Share>,
}

const NOWHERE: [usize; 2] = [usize::MAX; 2];

impl Names {
    /// Names the cause of a line.
    pub(super) fn write_to(&self, name: usize, line: &mut LedgerLine) {
        let (name, columns) = &self.names[name];
        line.cause = name.cause.as_str();
        line.history = name.history;
        line.touch = name.touch;
        line.method = name.method.as_str();
        line.server.clone_from(&columns.server);
        line.tool.clone_from(&columns.tool);
        line.resource_uri.clone_from(&columns.resource_uri);
        if columns.is_not_prompted {
            line.prompt.clone_from(&columns.prompt);
        }
    }

    fn position(&mut self, atom: &Atom) -> usize {
        let address = (
            Arc::as_ptr(&atom.owner) as usize,
            atom.cause,
            atom.history,
            atom.touch,
            atom.method,
        );
        if let Some(position) = self.by_address.get(&address) {
            return *position;
        }
        let name = Name {
            owner: Arc::clone(&atom.owner),
            cause: atom.cause,
            history: atom.history,
            touch: atom.touch,
            method: atom.method,
        };
        match self.by_name.get(&name) {
            // Another copy of the owner, which nobody keeps alive: its address may be used again.
            Some(position) => *position,
            None => {
                let position = self.names.len();
                self.by_address.insert(address, position);
                self.by_name.insert(name.clone(), position);
                let columns = Columns::of(&name.owner);
                self.names.push((name, columns));
                self.places.push(NOWHERE);
                position
            }
        }
    }

    /// Divides the lines of a call among its atoms, and passes every share on. By the prefix a line is divided
    /// among the atoms of its own bucket; blended, an input line is divided among all of the input's.
    fn divide(
        &mut self,
        lines: &[LedgerLine],
        atoms: &[Atom],
        policy: Policy,
        mut pass_on: impl FnMut(&Self, &LedgerLine, Share),
    ) {
        let is_blended = |line: &LedgerLine| policy == Policy::Blended && is_input(line.bucket);
        for line in lines.iter().filter(|line| !is_blended(line)) {
            let mut shares = self.shares(atoms.iter().filter(|atom| atom.bucket == line.bucket));
            give_costs(line, &mut shares);
            for share in &mut shares {
                share.tokens = share.tokens.filter(|_| line.tokens.is_some());
                pass_on(self, line, *share);
            }
            self.shares = shares;
        }
        let blended: Vec<&LedgerLine> = lines.iter().filter(|line| is_blended(line)).collect();
        if !blended.is_empty() {
            let shares = self.shares(atoms.iter().filter(|atom| is_input(atom.bucket)));
            for (line, shares) in blended.iter().zip(blend(&blended, &shares)) {
                shares.iter().for_each(|share| pass_on(self, line, *share));
            }
            self.shares = shares;
        }
    }

    /// The atoms' tokens by name, in the order of the context.
    fn shares<'a>(&mut self, atoms: impl Iterator<Item = &'a Atom>) -> Vec<Share> {
        let mut shares = std::mem::take(&mut self.shares);
        shares.clear();
        for atom in atoms {
            let name = self.position(atom);
            let place = &mut self.places[name][usize::from(atom.is_carried)];
            if *place == usize::MAX {
                *place = shares.len();
                shares.push(Share {
                    name,
                    is_carried: atom.is_carried,
                    tokens: Some(0),
                    list_cost: None,
                    contracted_cost: None,
                    effective_cost: None,
                });
            }
            if let Some(tokens) = &mut shares[*place].tokens {
                *tokens = tokens.saturating_add(atom.tokens.unwrap_or(0));
            }
        }
        for share in &shares {
            self.places[share.name] = NOWHERE;
        }
        shares
    }
}

fn is_input(bucket: Bucket) -> bool {
    PREFIX.contains(&bucket)
}

/// Each input line of a call, divided among all shares of its input: tokens by largest remainder; costs so that
/// each share has its part of the call's whole input cost by largest remainder, and each line keeps its sum.
fn blend(lines: &[&LedgerLine], shares: &[Share]) -> Vec<Vec<Share>> {
    let weights: Vec<u128> = shares.iter().map(|share| weight(share.tokens.unwrap_or(0))).collect();
    let mut blended: Vec<Vec<Share>> = Vec::with_capacity(lines.len());
    for line in lines {
        let tokens = split_by_largest_remainder(i128::from(line.tokens.unwrap_or(0)), &weights);
        let of_line = shares.iter().zip(tokens).map(|(share, tokens)| Share {
            tokens: line.tokens.and_then(|_| i64::try_from(tokens).ok()),
            ..*share
        });
        blended.push(of_line.collect());
    }
    blend_costs(
        lines,
        &weights,
        &mut blended,
        |line| line.list_cost,
        |share| &mut share.list_cost,
    );
    blend_costs(
        lines,
        &weights,
        &mut blended,
        |line| line.contracted_cost,
        |share| &mut share.contracted_cost,
    );
    blend_costs(
        lines,
        &weights,
        &mut blended,
        |line| line.effective_cost,
        |share| &mut share.effective_cost,
    );
    blended
}

/// Line by line first; what the shares of all lines then differ from those of their sum, a few femto-USD, the
/// dearest line makes good.
fn blend_costs(
    lines: &[&LedgerLine],
    weights: &[u128],
    blended: &mut [Vec<Share>],
    cost_of: fn(&LedgerLine) -> Option<FemtoUsd>,
    place: fn(&mut Share) -> &mut Option<FemtoUsd>,
) {
    let priced: Vec<(usize, FemtoUsd)> = lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| Some((at, cost_of(line)?)))
        .collect();
    let total: FemtoUsd = priced.iter().map(|(_, cost)| *cost).sum();
    let mut missing = split_by_largest_remainder(total.0, weights);
    for (at, cost) in &priced {
        let parts = split_by_largest_remainder(cost.0, weights);
        for ((share, part), missing) in blended[*at].iter_mut().zip(parts).zip(&mut missing) {
            *place(share) = Some(FemtoUsd(part));
            *missing -= part;
        }
    }
    let Some((dearest, _)) = priced.iter().max_by_key(|(at, cost)| (cost.0, *at)) else {
        return;
    };
    for (share, missing) in blended[*dearest].iter_mut().zip(missing) {
        if let Some(cost) = place(share) {
            cost.0 += missing;
        }
    }
}

/// Divides the costs of a line among its shares, in proportion to their tokens.
fn give_costs(line: &LedgerLine, shares: &mut [Share]) {
    let total: i64 = shares.iter().filter_map(|share| share.tokens).sum();
    // Where a token costs a whole number of femto-USD, which is nearly always, each share is exact.
    let cost_of_one = |cost: FemtoUsd| match i128::from(total) {
        total @ 1.. if cost.0 % total == 0 => Some(cost.0 / total),
        _ => None,
    };
    let mut give = |cost: Option<FemtoUsd>, place: fn(&mut Share) -> &mut Option<FemtoUsd>| {
        let Some(cost) = cost else { return };
        if let Some(one) = cost_of_one(cost) {
            for share in shares.iter_mut() {
                *place(share) = Some(FemtoUsd(one * i128::from(share.tokens.unwrap_or(0))));
            }
            return;
        }
        let weights: Vec<u128> = shares.iter().map(|share| weight(share.tokens.unwrap_or(0))).collect();
        for (share, part) in shares.iter_mut().zip(split_by_largest_remainder(cost.0, &weights)) {
            *place(share) = Some(FemtoUsd(part));
        }
    };
    give(line.list_cost, |share| &mut share.list_cost);
    give(line.contracted_cost, |share| &mut share.contracted_cost);
    give(line.effective_cost, |share| &mut share.effective_cost);
}

impl Share {
    /// The share as a line of the call.
    fn line_of(&self, names: &Names, line: &LedgerLine) -> LedgerLine {
        let mut part = line.clone();
        part.tokens = self.tokens;
        part.list_cost = self.list_cost;
        part.contracted_cost = self.contracted_cost;
        part.effective_cost = self.effective_cost;
        names.write_to(self.name, &mut part);
        part
    }
}

impl Columns {
    /// A managed prompt that the call itself names stays on what nobody else caused.
    fn of(owner: &Owner) -> Self {
        let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
        match owner {
            Owner::Tool { server, tool } => Self {
                server: shared(server),
                tool: named(tool),
                is_not_prompted: true,
                ..Self::default()
            },
            Owner::Server { server } => Self {
                server: shared(server),
                is_not_prompted: true,
                ..Self::default()
            },
            Owner::Prompt { name, .. } => Self {
                prompt: named(name),
                is_not_prompted: true,
                ..Self::default()
            },
            Owner::Resource { server, uri } => Self {
                server: shared(server),
                resource_uri: named(uri),
                is_not_prompted: true,
                ..Self::default()
            },
            Owner::System | Owner::Conversation | Owner::Base | Owner::Request => Self::default(),
            Owner::Answer | Owner::Reasoning | Owner::Unknown => Self {
                is_not_prompted: true,
                ..Self::default()
            },
        }
    }
}

/// A name, or nothing where the record of the call gave none.
fn named(name: &str) -> Option<Arc<str>> {
    Some(name).filter(|name| !name.is_empty()).map(Arc::from)
}
