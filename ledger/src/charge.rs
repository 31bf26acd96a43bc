//! Charging: from a call and the price book to ledger lines that sum to the call's cost, exactly.
//!
//! The effective cost is, in this order: the cost the record itself reports, else the list price; a usage
//! that neither can price is *unpriced*: its lines carry tokens and no cost, never 0. Where the effective
//! total is a reported one, the rated pieces are scaled to it by largest remainder.
//! Each line goes to the call's own dimensions; who within the context caused it is not divided yet, and the
//! lines say so (`cause` and `method` are `undivided`).

use spanledger_model::ids::content_hash;
use spanledger_model::{Bucket, Call, CallKind, FemtoUsd, LedgerLine, LineId, LineKind, Status, Usage};

use crate::prices::{PriceBook, PriceQuery};
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

/// Charges a call.
#[must_use]
pub fn charge(call: &Call, book: &PriceBook, settled_ns: i64) -> Charge {
    let answered_without_usage = call.kind == CallKind::Llm && call.status != Status::Error;
    let is_chargeable = call.usage.is_chargeable() || call.reported_cost.is_some();
    if !is_chargeable && !answered_without_usage {
        return Charge::default();
    }
    let rated = rate(call, book);
    let pieces = match &rated {
        Some(rated) if !rated.pieces.is_empty() => rated.pieces.clone(),
        // Nothing was used, and that is known: one request that costs 0.
        Some(_) => rating::scale_to(&[], FemtoUsd::ZERO),
        None => unpriced_pieces(&call.usage),
    };
    // A reported zero beside a price above zero is an emitter that knows no price, not a free call.
    let knows_no_price =
        |cost: FemtoUsd| cost == FemtoUsd::ZERO && rated.as_ref().is_some_and(|rated| rated.total.0 > 0);
    let reported = call.reported_cost.filter(|cost| !knows_no_price(*cost));
    let effective: Vec<Option<FemtoUsd>> = match reported {
        Some(total) => rating::scale_to(&pieces, total)
            .iter()
            .map(|piece| Some(piece.cost))
            .collect(),
        None => pieces.iter().map(|piece| rated.as_ref().map(|_| piece.cost)).collect(),
    };
    let price_id = rated.as_ref().map(|rated| rated.price_id.clone());
    let mut lines: Vec<LedgerLine> = pieces
        .iter()
        .zip(effective)
        .map(|(piece, effective)| {
            let mut line = line(call, piece.bucket, piece.tokens, piece.quantity, settled_ns);
            line.list_cost = rated.as_ref().map(|_| piece.cost);
            line.effective_cost = effective;
            line.price_id.clone_from(&price_id);
            line.price_version = price_id.as_ref().map(|_| book.version().to_owned());
            line
        })
        .collect();
    // What the price record has no rate for stays visible, and unpriced.
    let unrated = rated.iter().flat_map(|rated| rated.unrated.iter().copied());
    lines.extend(unrated.map(|(bucket, count)| {
        let counts_tokens = bucket.counts_tokens();
        line(
            call,
            bucket,
            counts_tokens.then_some(count),
            (!counts_tokens).then_some(count),
            settled_ns,
        )
    }));
    if let Some(first) = lines.first_mut() {
        first.n_calls = 1;
    }
    for line in &mut lines {
        line.line_id = line_id(line);
    }
    let own_cost =
        (reported.is_some() || rated.is_some()).then(|| lines.iter().filter_map(|line| line.effective_cost).sum());
    Charge { lines, own_cost }
}

/// The model that is billed: the one that answered, else the one asked for.
#[must_use]
pub fn billed_model(call: &Call) -> Option<&str> {
    call.model
        .response_model
        .as_deref()
        .or(call.model.request_model.as_deref())
}

fn rate(call: &Call, book: &PriceBook) -> Option<Rated> {
    // Not reported is not 0: only usage that somebody stated can be rated.
    if call.usage.is_empty() {
        return None;
    }
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
    let price = models
        .into_iter()
        .flatten()
        .find_map(|model| book.resolve(&query(model)))?;
    match rating::rate(&price, &call.usage) {
        Ok(rated) => Some(rated),
        Err(error) => {
            tracing::warn!(call_id = %call.call_id, %error, "usage cannot be rated and stays unpriced");
            None
        }
    }
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

fn line(call: &Call, bucket: Bucket, tokens: Option<i64>, quantity: Option<i64>, settled_ns: i64) -> LedgerLine {
    let is_fee = !bucket.counts_tokens();
    LedgerLine {
        tenant: call.tenant.clone(),
        // Stored in microseconds: kept so from the start, that a line read back equals the line written.
        time_ns: call.start_ns.div_euclid(1_000) * 1_000,
        line_id: LineId::default(),
        line_kind: LineKind::Charge,
        call_id: Some(call.call_id),
        trace_id: call.trace_id,
        span_id: call.span_id,
        dimensions: call.dimensions.clone(),
        provider: call.model.provider.clone(),
        model: billed_model(call).map(str::to_owned),
        server: None,
        tool: None,
        prompt: call.mcp.prompt.clone(),
        resource_uri: None,
        cause: if is_fee { "fee" } else { "undivided" },
        history: false,
        touch: None,
        bucket,
        method: "undivided",
        n_calls: 0,
        tokens,
        quantity,
        list_cost: None,
        contracted_cost: None,
        effective_cost: None,
        price_id: None,
        price_version: None,
        settled_ns: settled_ns.div_euclid(1_000) * 1_000,
    }
}

/// The line that takes `line` back: every measure with the other sign.
#[must_use]
pub fn reversal_of(line: &LedgerLine, settled_ns: i64) -> LedgerLine {
    let negated = |cost: Option<FemtoUsd>| cost.map(|cost| -cost);
    let mut reversal = LedgerLine {
        line_kind: LineKind::Reversal,
        n_calls: -line.n_calls,
        tokens: line.tokens.map(|tokens| -tokens),
        quantity: line.quantity.map(|quantity| -quantity),
        list_cost: negated(line.list_cost),
        contracted_cost: negated(line.contracted_cost),
        effective_cost: negated(line.effective_cost),
        settled_ns: settled_ns.div_euclid(1_000) * 1_000,
        ..line.clone()
    };
    reversal.line_id = line_id(&reversal);
    reversal
}

/// The content of a line, without when and as what it was written: equal for a charge and its reversal.
#[must_use]
pub fn content_of(line: &LedgerLine) -> [u8; 16] {
    let mut plain = match line.line_kind {
        LineKind::Charge => line.clone(),
        LineKind::Reversal => reversal_of(line, 0),
    };
    plain.line_kind = LineKind::Charge;
    plain.line_id = LineId::default();
    plain.settled_ns = 0;
    content_hash(&plain)
}

fn line_id(line: &LedgerLine) -> LineId {
    let mut plain = line.clone();
    plain.line_id = LineId::default();
    LineId(content_hash(&plain))
}
