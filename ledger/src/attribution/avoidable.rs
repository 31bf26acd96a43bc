//! What a call would have cost less without a part of it: priced again, not summed up.
//!
//! The pieces of a call sum to its cost, and so say who *caused* it. What leaving a tool out would *save* is another
//! question where a price has tiers: without the tool's tokens the whole request may fall below a tier, and every other
//! token becomes cheaper too. Such savings overlap, so they are never added up over tools. Without tiers, and
//! without fees that stay, both are the same. What the model would have answered instead is not guessed at.

use spanledger_model::{Bucket, Call, FemtoUsd, LedgerLine, Usage};

use crate::charge::cost_of;
use crate::prices::{CostBasis, PriceBook};

/// Prices calls again.
#[derive(Debug)]
pub struct Repricer {
    /// The book without reported costs: they say nothing of another usage.
    book: PriceBook,
}

impl Repricer {
    /// Prices by a book.
    #[must_use]
    pub fn new(book: &PriceBook) -> Self {
        Self {
            book: book.with_cost_order(book.cost_order().without(CostBasis::Reported)),
        }
    }

    /// What a call would have cost less without the lines that `is_part` names; `lines` are those of the call, divided
    /// ([`divide_charges`](super::divide_charges)). `None` where no price is known. A cost that the record reported shrinks in
    /// proportion to the price, rounded down to whole femto-USD.
    pub fn avoidable(
        &self,
        call: &Call,
        lines: &[LedgerLine],
        is_part: impl Fn(&LedgerLine) -> bool,
    ) -> Option<FemtoUsd> {
        let billed = call.own_cost?;
        let mut without = call.clone();
        for line in lines.iter().filter(|line| is_part(line)) {
            take_out(&mut without.usage, line);
        }
        let priced = self.price(call)?;
        let saved = priced - self.price(&without).unwrap_or_default();
        if billed == priced {
            return Some(saved);
        }
        // billed × saved ÷ priced; a call of such a size that this leaves 128 bits is not told.
        (priced.0 > 0)
            .then(|| {
                billed
                    .0
                    .checked_mul(saved.0)
                    .map(|product| FemtoUsd(product / priced.0))
            })
            .flatten()
    }

    fn price(&self, call: &Call) -> Option<FemtoUsd> {
        if call.usage.is_empty() {
            return Some(FemtoUsd::ZERO);
        }
        let cost = cost_of(call, &self.book);
        cost.is_priced
            .then(|| cost.parts.iter().filter_map(|part| part.effective).sum())
    }
}

/// Takes a line's tokens out of a usage, whose counts include their parts.
fn take_out(usage: &mut Usage, line: &LedgerLine) {
    let count = line.tokens.or(line.quantity).unwrap_or(0);
    let less = |place: &mut Option<i64>| *place = place.map(|whole| (whole - count).max(0));
    match line.bucket {
        Bucket::Input => less(&mut usage.input),
        Bucket::CacheRead => [&mut usage.input, &mut usage.cache_read].into_iter().for_each(less),
        Bucket::CacheWrite5m => [&mut usage.input, &mut usage.cache_write_5m].into_iter().for_each(less),
        Bucket::CacheWrite1h => [&mut usage.input, &mut usage.cache_write_1h].into_iter().for_each(less),
        Bucket::AudioInput => [&mut usage.input, &mut usage.audio_input].into_iter().for_each(less),
        Bucket::ImageInput => [&mut usage.input, &mut usage.image_input].into_iter().for_each(less),
        Bucket::Output => less(&mut usage.output),
        Bucket::Reasoning => [&mut usage.output, &mut usage.reasoning].into_iter().for_each(less),
        Bucket::AudioOutput => [&mut usage.output, &mut usage.audio_output].into_iter().for_each(less),
        Bucket::WebSearch => less(&mut usage.web_searches),
        // The fee of the request stays.
        Bucket::Request => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};
    use spanledger_model::{CallId, CallKind, Confidence, Status, TenantId};

    use super::*;
    use crate::charge::charge;

    /// A call of claude-sonnet-4-5: above 200,000 input tokens 6 USD in and 22.5 out a million, else 3 and 15.
    fn call(input: i64, reported: Option<&str>) -> (Call, PriceBook) {
        let book = PriceBook::clone(&PriceBook::embedded().unwrap());
        let mut call = Call {
            tenant: TenantId::from_credential("default"),
            call_id: CallId([1; 16]),
            kind: CallKind::Llm,
            operation: None,
            start_ns: 1_795_000_000_000_000_000,
            duration_ns: None,
            dialects: String::new(),
            observation_ids: Vec::new(),
            rules: String::new(),
            confidence: Confidence::Reported,
            hops: 1,
            status: Status::Ok,
            error_type: None,
            dimensions: Dimensions::default(),
            allocated_by: None,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            mcp: McpFields::default(),
            model: ModelFields {
                provider: Some("anthropic".to_owned()),
                response_model: Some("claude-sonnet-4-5".to_owned()),
                ..ModelFields::default()
            },
            usage: Usage {
                input: Some(input),
                output: Some(1_000),
                ..Usage::default()
            },
            sizes: Sizes::default(),
            reported_cost: reported.and_then(FemtoUsd::parse),
            own_cost: None,
            total_cost: None,
        };
        call.own_cost = charge(&call, &book, 0).own_cost;
        (call, book)
    }

    /// The input line in two parts, the first of which is a tool's.
    fn parts(call: &Call, book: &PriceBook, tokens: i64) -> Vec<LedgerLine> {
        let mut lines = charge(call, book, 0).lines;
        let mut tools = lines.iter().find(|line| line.bucket == Bucket::Input).unwrap().clone();
        tools.tool = Some("search".into());
        lines[0].tokens = lines[0].tokens.map(|whole| whole - tokens);
        tools.tokens = Some(tokens);
        lines.push(tools);
        lines
    }

    fn saved(input: i64, tokens: i64, reported: Option<&str>) -> Option<String> {
        let (call, book) = call(input, reported);
        let lines = parts(&call, &book, tokens);
        let saved = Repricer::new(&book).avoidable(&call, &lines, |line| line.tool.as_deref() == Some("search"));
        saved.map(|saved| saved.to_string())
    }

    #[test]
    fn within_a_tier_what_is_avoidable_is_what_it_cost() {
        assert_eq!(saved(100_000, 10_000, None).as_deref(), Some("0.03"));
        assert_eq!(saved(300_000, 10_000, None).as_deref(), Some("0.06"));
    }

    #[test]
    fn without_a_part_the_whole_request_may_fall_below_a_tier() {
        // 205,000 × 6 + 1,000 × 22.5 a million, against 195,000 × 3 + 1,000 × 15.
        assert_eq!(saved(205_000, 10_000, None).as_deref(), Some("0.6525"));
    }

    #[test]
    fn a_reported_cost_shrinks_in_proportion() {
        // Twice the list price of 0.315 was reported.
        assert_eq!(saved(100_000, 10_000, Some("0.63")).as_deref(), Some("0.06"));
    }

    #[test]
    fn what_has_no_price_saves_nobody_knows_what() {
        let (mut call, book) = call(1_000, None);
        call.model.response_model = Some("in-house-7b".to_owned());
        call.own_cost = None;
        assert_eq!(Repricer::new(&book).avoidable(&call, &[], |_| true), None);
    }
}
