//! Charging: from a call and the price book to ledger lines that sum to the call's cost, exactly.
//!
//! List and contracted cost stand side by side on each line; a call that no contract holds for has no
//! contracted cost. The effective cost is the first that is known of: the contracted cost, the cost the
//! record itself reports, the list cost ([`CostOrder`](crate::prices::CostOrder) may say otherwise). A usage
//! that none can price is *unpriced*: its lines carry tokens and no cost, never 0. Where the effective total
//! is a reported one, the rated pieces are scaled to it by largest remainder.
//! A tool with a price of its own has one line of cause `direct` for each call.
//! A line is made for each bucket of the call as a whole, `undivided`; [`crate::attribution`] divides those of
//! model calls among who caused them.

use std::sync::Arc;

use spanledger_model::{Bucket, Call, CallKind, FemtoUsd, LedgerLine, LineId, LineKind, Status, Usage};

use crate::prices::{CostBasis, PriceBook, PriceQuery, ResolvedPrice, ToolPrice};
use crate::rating::{self, Piece, Rated};

/// What a call costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Charge {
    /// Its lines; none for a call that no price applies to.
    pub lines: Vec<LedgerLine>,
    /// Sum of the lines; absent where the call is unpriced or nothing is charged for it.
    pub own_cost: Option<FemtoUsd>,
}

/// Service tiers that are the list price itself.
const PLAIN_TIERS: [&str; 4] = ["standard", "default", "auto", "on_demand"];

/// The costs of a call side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallCost {
    /// Its parts, by bucket; what no price names comes last.
    pub parts: Vec<CostPart>,
    /// Price record of the cost that is charged.
    pub price_id: Option<Arc<str>>,
    /// True where a price or a report says what the call costs.
    pub is_priced: bool,
}

/// A part of a call with what it costs by each measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostPart {
    /// Token kind.
    pub bucket: Bucket,
    /// Tokens, where the bucket counts tokens.
    pub tokens: Option<i64>,
    /// Searches, requests.
    pub quantity: Option<i64>,
    /// By the list price.
    pub list: Option<FemtoUsd>,
    /// By the contract's price.
    pub contracted: Option<FemtoUsd>,
    /// What is charged.
    pub effective: Option<FemtoUsd>,
}

/// Charges a call.
#[must_use]
pub fn charge(call: &Call, book: &PriceBook, settled_ns: i64) -> Charge {
    let tool = tool_price(call, book);
    let cost = match tool {
        // A cost reported for the tool's call is one of the tool, and stands beside the tool's price.
        Some(_) if !call.usage.is_chargeable() => CallCost::default(),
        _ => cost_of(call, book),
    };
    let mut lines = lines(call, &cost.parts, settled_ns);
    let is_rated = |part: &CostPart| part.list.is_some() || part.contracted.is_some() || part.effective.is_some();
    for (line, _) in lines.iter_mut().zip(&cost.parts).filter(|(_, part)| is_rated(part)) {
        line.price_id.clone_from(&cost.price_id);
        line.price_version = cost.price_id.as_ref().map(|_| book.shared_version());
    }
    let direct = tool.map(|price| direct_line(call, price, book, settled_ns));
    let is_priced = cost.is_priced || direct.as_ref().is_some_and(|line| line.effective_cost.is_some());
    lines.extend(direct);
    if let Some(first) = lines.first_mut() {
        first.n_calls = 1;
    }
    let own_cost = is_priced.then(|| lines.iter().filter_map(|line| line.effective_cost).sum());
    Charge { lines, own_cost }
}

/// What a call of a model costs by each measure; nothing for a call that no price applies to.
#[must_use]
pub fn cost_of(call: &Call, book: &PriceBook) -> CallCost {
    cost_in(call, book, &[])
}

/// As [`cost_of`], in a context that the call itself does not tell, such as `("region", "eu-west-1")`.
#[must_use]
pub fn cost_in(call: &Call, book: &PriceBook, context: &[(&str, &str)]) -> CallCost {
    let answered_without_usage = call.kind == CallKind::Llm && call.status != Status::Error;
    let is_chargeable = call.usage.is_chargeable() || call.reported_cost.is_some();
    if !is_chargeable && !answered_without_usage {
        return CallCost::default();
    }
    let [list, contracted] = rate(call, book, context);
    let mut parts = match (&list, &contracted) {
        (None, None) => {
            let pieces = unpriced_pieces(&call.usage);
            pieces.iter().map(CostPart::of).collect()
        }
        _ => side_by_side(list.as_ref(), contracted.as_ref()),
    };
    // A reported zero beside a price above zero is an emitter that knows no price, not a free call.
    let is_above_zero = |rated: &Option<Rated>| rated.as_ref().is_some_and(|rated| rated.total.0 > 0);
    let knows_no_price =
        |cost: FemtoUsd| cost == FemtoUsd::ZERO && (is_above_zero(&list) || is_above_zero(&contracted));
    let reported = call.reported_cost.filter(|cost| !knows_no_price(*cost));
    let is_known = |basis: &CostBasis| match basis {
        CostBasis::Contract => contracted.is_some(),
        CostBasis::Reported => reported.is_some(),
        CostBasis::List => list.is_some(),
    };
    let basis = book.cost_order().iter().find(is_known);
    match (basis, reported) {
        (Some(CostBasis::Contract), _) => parts.iter_mut().for_each(|part| part.effective = part.contracted),
        (Some(CostBasis::List), _) => parts.iter_mut().for_each(|part| part.effective = part.list),
        (Some(CostBasis::Reported), Some(total)) => {
            let is_shapeless = list.is_none() && contracted.is_none();
            let shaped = |part: &&mut CostPart| is_shapeless || part.list.is_some() || part.contracted.is_some();
            let mut shape: Vec<&mut CostPart> = parts.iter_mut().filter(shaped).collect();
            let pieces: Vec<Piece> = shape.iter().map(|part| part.piece()).collect();
            for (part, piece) in shape.iter_mut().zip(rating::scale_to(&pieces, total)) {
                part.effective = Some(piece.cost);
            }
        }
        _ => {}
    }
    let rated = match basis {
        Some(CostBasis::Contract) => contracted.as_ref(),
        _ => list.as_ref().or(contracted.as_ref()),
    };
    CallCost {
        parts,
        price_id: rated.map(|rated| Arc::clone(&rated.price_id)),
        is_priced: basis.is_some(),
    }
}

impl CostPart {
    fn of(piece: &Piece) -> Self {
        Self {
            bucket: piece.bucket,
            tokens: piece.tokens,
            quantity: piece.quantity,
            list: None,
            contracted: None,
            effective: None,
        }
    }

    /// Its shape for a reported cost to be spread over.
    fn piece(&self) -> Piece {
        Piece {
            bucket: self.bucket,
            tokens: self.tokens,
            quantity: self.quantity,
            cost: self.contracted.or(self.list).unwrap_or_default(),
            cost_of_one: None,
        }
    }
}

/// The parts that either price has, each once, with what neither has at the end: visible, and unpriced.
fn side_by_side(list: Option<&Rated>, contracted: Option<&Rated>) -> Vec<CostPart> {
    // Nothing was used, and that is known: one request that costs 0.
    let pieces = |rated: &Rated| match rated.pieces.as_slice() {
        [] => rating::scale_to(&[], FemtoUsd::ZERO),
        pieces => pieces.to_vec(),
    };
    let mut parts: Vec<CostPart> = Vec::new();
    for (rated, is_contract) in [(list, false), (contracted, true)] {
        for piece in rated.iter().flat_map(|rated| pieces(rated)) {
            let at = parts.iter().position(|part| part.bucket == piece.bucket);
            let at = at.unwrap_or_else(|| {
                parts.push(CostPart::of(&piece));
                parts.len() - 1
            });
            if let Some(part) = parts.get_mut(at) {
                let cost = if is_contract {
                    &mut part.contracted
                } else {
                    &mut part.list
                };
                *cost = Some(piece.cost);
            }
        }
    }
    parts.sort_by_key(|part| part.bucket);
    let unrated = [list, contracted]
        .into_iter()
        .flatten()
        .flat_map(|rated| &rated.unrated);
    for (bucket, count) in unrated {
        if parts.iter().any(|part| part.bucket == *bucket) {
            continue;
        }
        let counts_tokens = bucket.counts_tokens();
        parts.push(CostPart {
            bucket: *bucket,
            tokens: counts_tokens.then_some(*count),
            quantity: (!counts_tokens).then_some(*count),
            list: None,
            contracted: None,
            effective: None,
        });
    }
    parts
}

/// The price of a tool's call, where its tool has one and this call is to be paid.
fn tool_price<'b>(call: &Call, book: &'b PriceBook) -> Option<&'b ToolPrice> {
    let tool = call.mcp.tool.as_deref().filter(|_| call.kind == CallKind::Tool)?;
    let price = book.tool_price(call.mcp.server.as_deref(), tool, call.start_ns)?;
    (!price.errors_free || call.status != Status::Error).then_some(price)
}

/// The line of a tool's own price. What the tool is paid is known and no share of anything, so its method is
/// the surest there is.
fn direct_line(call: &Call, price: &ToolPrice, book: &PriceBook, settled_ns: i64) -> LedgerLine {
    let agreed = price.cost(call.duration_ns, call.sizes.response_bytes);
    let reported = call.reported_cost.filter(|_| !call.usage.is_chargeable());
    let effective = book.cost_order().iter().find_map(|basis| match basis {
        CostBasis::Contract | CostBasis::List => agreed,
        CostBasis::Reported => reported,
    });
    let part = CostPart {
        bucket: Bucket::Request,
        tokens: None,
        quantity: Some(1),
        list: agreed,
        contracted: agreed,
        effective,
    };
    LedgerLine {
        server: shared(call.mcp.server.as_deref()),
        tool: shared(call.mcp.tool.as_deref()),
        cause: "direct",
        method: "content",
        price_id: Some(Arc::from(price.id.as_str())),
        price_version: Some(book.shared_version()),
        ..line(call, &part, settled_ns)
    }
}

/// The model that is billed: the one that answered, else the one asked for.
#[must_use]
pub fn billed_model(call: &Call) -> Option<&str> {
    call.model
        .response_model
        .as_deref()
        .or(call.model.request_model.as_deref())
}

/// The list price and the contract's for a call of a model, in a context that the call itself does not tell.
#[must_use]
pub fn prices_of<'b>(call: &Call, book: &'b PriceBook, context: &[(&str, &str)]) -> [Option<ResolvedPrice<'b>>; 2] {
    let plain = |tier: &&str| !PLAIN_TIERS.contains(&tier.to_ascii_lowercase().as_str());
    let query = |model| PriceQuery {
        provider: call.model.provider.as_deref(),
        model,
        at_ns: call.start_ns,
        processing: call.model.processing.as_deref(),
        service_tier: call.model.service_tier.as_deref().filter(plain),
    };
    let models = [
        call.model.response_model.as_deref(),
        call.model.request_model.as_deref(),
    ];
    let models = || models.into_iter().flatten();
    let list = models().find_map(|model| book.resolve_with(&query(model), context));
    let contracted = models().find_map(|model| book.resolve_contracted(&query(model), context));
    [list, contracted]
}

/// By the list price, and by the contract's.
fn rate(call: &Call, book: &PriceBook, context: &[(&str, &str)]) -> [Option<Rated>; 2] {
    // Not reported is not 0: only usage that somebody stated can be rated.
    if call.usage.is_empty() {
        return [None, None];
    }
    prices_of(call, book, context).map(|price| match rating::rate(&price?, &call.usage) {
        Ok(rated) => Some(rated),
        Err(error) => {
            tracing::warn!(call_id = %call.call_id, %error, "usage cannot be rated and stays unpriced");
            None
        }
    })
}

/// The parts of a usage without a price: what would be charged once the model has one.
fn unpriced_pieces(usage: &Usage) -> Vec<Piece> {
    let pieces = rating::split_usage(usage).unwrap_or_else(|error| {
        tracing::warn!(%error, "usage contradicts itself; its input and output are kept as they are");
        let plain = Usage {
            input: usage.input,
            output: usage.output,
            ..Usage::default()
        };
        rating::split_usage(&plain).unwrap_or_default()
    });
    if pieces.is_empty() {
        // Answered, but nobody said with how many tokens: one request that cannot be priced.
        return rating::scale_to(&[], FemtoUsd::ZERO);
    }
    pieces
}

/// The lines of a call's parts, which share what they say.
fn lines(call: &Call, parts: &[CostPart], settled_ns: i64) -> Vec<LedgerLine> {
    let mut lines: Vec<LedgerLine> = Vec::with_capacity(parts.len() + 1);
    for part in parts {
        lines.push(match lines.first() {
            Some(first) => of_part(first.clone(), part),
            None => line(call, part, settled_ns),
        });
    }
    lines
}

fn shared(text: Option<&str>) -> Option<Arc<str>> {
    text.map(Arc::from)
}

fn of_part(line: LedgerLine, part: &CostPart) -> LedgerLine {
    LedgerLine {
        cause: if part.bucket.counts_tokens() {
            "undivided"
        } else {
            "fee"
        },
        bucket: part.bucket,
        tokens: part.tokens,
        quantity: part.quantity,
        list_cost: part.list,
        contracted_cost: part.contracted,
        effective_cost: part.effective,
        ..line
    }
}

fn line(call: &Call, part: &CostPart, settled_ns: i64) -> LedgerLine {
    let line = LedgerLine {
        tenant: call.tenant.clone(),
        // Stored in microseconds: kept so from the start, that a line read back equals the line written.
        time_ns: call.start_ns.div_euclid(1_000) * 1_000,
        line_id: LineId::default(),
        line_kind: LineKind::Charge,
        call_id: Some(call.call_id),
        trace_id: call.trace_id,
        span_id: call.span_id,
        dimensions: Arc::new(call.dimensions.clone()),
        provider: shared(call.model.provider.as_deref()),
        model: shared(billed_model(call)),
        server: None,
        tool: None,
        prompt: shared(call.mcp.prompt.as_deref()),
        resource_uri: None,
        cause: "undivided",
        history: false,
        touch: None,
        bucket: part.bucket,
        method: "undivided",
        n_calls: 0,
        tokens: None,
        quantity: None,
        list_cost: None,
        contracted_cost: None,
        effective_cost: None,
        price_id: None,
        price_version: None,
        settled_ns: settled_ns.div_euclid(1_000) * 1_000,
    };
    of_part(line, part)
}

/// The line that takes `line` back: every measure with the other sign. Ids are given when lines are written.
#[must_use]
pub fn reversal_of(line: &LedgerLine, settled_ns: i64) -> LedgerLine {
    let negated = |cost: Option<FemtoUsd>| cost.map(|cost| -cost);
    LedgerLine {
        line_id: LineId::default(),
        line_kind: LineKind::Reversal,
        n_calls: -line.n_calls,
        tokens: line.tokens.map(|tokens| -tokens),
        quantity: line.quantity.map(|quantity| -quantity),
        list_cost: negated(line.list_cost),
        contracted_cost: negated(line.contracted_cost),
        effective_cost: negated(line.effective_cost),
        settled_ns: settled_ns.div_euclid(1_000) * 1_000,
        ..line.clone()
    }
}

#[cfg(test)]
mod tests;
