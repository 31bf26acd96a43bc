//! Checks a book against vectors: known pairs of (model, usage) and cost.
//!
//! The format is that of `ledger/tests-data/README.md`: an array of rows with `m` (model), `p` (provider),
//! `ts` (instant), `u` (inclusive token counts) or `raw` (quantities by usage key), `ctx` (context) and `g`
//! with the expected `total`, or `error` where a cost must be refused. It charges nothing.

use serde::Serialize;
use spanledger_model::{FemtoUsd, Usage};

use super::json::Json;
use super::validity::parse_instant;
use super::{PriceBook, PriceQuery, UnitId};
use crate::error::{Error, Result};
use crate::rating::{Quantities, rate, rate_quantities};

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VectorReport {
    /// Version of the book.
    pub version: String,
    /// Vectors compared.
    pub n_checked: usize,
    /// Those that differ.
    pub differences: Vec<Difference>,
}

/// A vector that the book prices otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The vector's name, or its place in the file.
    pub id: String,
    /// What was expected: an exact amount, or `refused`; a model or provider.
    pub expected: String,
    /// What came out: an exact amount, `unpriced`, or why the usage was refused.
    pub found: String,
    /// Price record, where one was found.
    pub price_id: Option<String>,
}

/// Compares every vector of a file with a book: with its list prices, or with the contract's.
///
/// # Errors
/// Kind invalid naming the vector that cannot be read.
pub fn check(text: &str, book: &PriceBook, contracted: bool) -> Result<VectorReport> {
    let json = Json::parse(text).map_err(Error::invalid)?;
    let Json::Array(rows) = &json else {
        return Err(Error::invalid("expected an array of vectors"));
    };
    let mut report = VectorReport {
        version: book.version().to_owned(),
        n_checked: rows.len(),
        differences: Vec::new(),
    };
    for (index, row) in rows.iter().enumerate() {
        let place = format!("vector {index}");
        let id = row.get("id").and_then(Json::text).unwrap_or(&place);
        let difference = compare(row, book, contracted);
        report.differences.extend(
            difference
                .map_err(|error| Error::invalid(format!("{id}: {error}")))?
                .map(|(expected, found, price_id)| Difference {
                    id: id.to_owned(),
                    expected,
                    found,
                    price_id,
                }),
        );
    }
    Ok(report)
}

type Compared = Option<(String, String, Option<String>)>;

fn compare(row: &Json<'_>, book: &PriceBook, contracted: bool) -> std::result::Result<Compared, String> {
    let text = |key: &str| row.get(key).and_then(Json::text);
    let fields = row.get("ctx").map_or(&[][..], Json::fields).iter();
    let context: Option<Vec<(&str, &str)>> = fields.map(|(key, value)| Some((key.as_ref(), value.text()?))).collect();
    let context = context.ok_or("ctx must hold texts")?;
    let given = |name: &str| context.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let query = PriceQuery {
        provider: text("p"),
        model: text("m").ok_or("m, the model, is missing")?,
        at_ns: parse_instant(text("ts").ok_or("ts, the instant, is missing")?)?,
        processing: given("processing"),
        service_tier: given("service_tier"),
    };
    let price = match contracted {
        true => book.resolve_contracted(&query, &context),
        false => book.resolve_with(&query, &context),
    };
    let expected = row.get("g").ok_or("g, what is expected, is missing")?;
    let total = match expected.get("total").and_then(Json::digits) {
        Some(digits) => Some(FemtoUsd::parse(digits).ok_or("g.total is no number")?),
        None if expected.get("error").is_some() => None,
        None => return Err("g states neither total nor error".to_owned()),
    };
    let rated = match (&price, row.get("raw")) {
        (None, _) => None,
        (Some(price), Some(raw)) => Some(rate_quantities(price, &quantities(raw)?)),
        (Some(price), None) => Some(rate(price, &usage(row.get("u").ok_or("u, the usage, is missing")?)?)),
    };
    let price_id = price.as_ref().map(|price| price.price_id().to_string());
    let found = match rated {
        None => Err("unpriced".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(rated)) => Ok(rated.total),
    };
    let shown = |total: Option<FemtoUsd>| total.map_or_else(|| "refused".to_owned(), |total| total.to_string());
    match (&found, total) {
        (Err(_), None) => return Ok(None),
        (Ok(found), Some(total)) if *found == total => {}
        (Ok(found), _) => return Ok(Some((shown(total), found.to_string(), price_id))),
        (Err(error), _) => return Ok(Some((shown(total), error.clone(), price_id))),
    }
    let names = [
        ("model", price.as_ref().map(super::ResolvedPrice::model)),
        ("provider", price.as_ref().map(super::ResolvedPrice::provider)),
    ];
    for (key, found) in names {
        if let (Some(wanted), Some(found)) = (expected.get(key).and_then(Json::text), found)
            && wanted != found
        {
            return Ok(Some((format!("{key} {wanted}"), format!("{key} {found}"), price_id)));
        }
    }
    Ok(None)
}

fn usage(counts: &Json<'_>) -> std::result::Result<Usage, String> {
    let mut usage = Usage::default();
    for (key, value) in counts.fields() {
        let field = match key.as_ref() {
            "input" => &mut usage.input,
            "cache_read" => &mut usage.cache_read,
            "cache_write_5m" => &mut usage.cache_write_5m,
            "cache_write_1h" => &mut usage.cache_write_1h,
            "output" => &mut usage.output,
            "reasoning" => &mut usage.reasoning,
            "input_audio" => &mut usage.audio_input,
            "output_audio" => &mut usage.audio_output,
            "input_image" => &mut usage.image_input,
            "web_searches" => &mut usage.web_searches,
            _ => return Err(format!("unknown count {key:?} in u")),
        };
        let count = value.digits().and_then(|digits| digits.parse::<i64>().ok());
        *field = Some(count.ok_or_else(|| format!("{key} is no whole number"))?);
    }
    Ok(usage)
}

fn quantities(raw: &Json<'_>) -> std::result::Result<Quantities, String> {
    let mut quantities = Quantities::default();
    for (key, value) in raw.fields() {
        let unit = UnitId::of_usage_key(key).ok_or_else(|| format!("unknown quantity {key:?} in raw"))?;
        // Durations are counted in milliseconds.
        let scale = if key.ends_with("_seconds") { 1_000 } else { 1 };
        let amount = value
            .digits()
            .and_then(FemtoUsd::parse)
            .and_then(|amount| amount.0.checked_mul(scale));
        let amount = amount.filter(|amount| amount % FemtoUsd::ONE_USD.0 == 0);
        let count = amount.and_then(|amount| i64::try_from(amount / FemtoUsd::ONE_USD.0).ok());
        quantities.set(
            unit,
            count.ok_or_else(|| format!("{key} is no number of what it counts"))?,
        );
    }
    Ok(quantities)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_published_vectors_agree_and_a_wrong_one_is_told() {
        let book = PriceBook::embedded().unwrap();
        for (text, n_rows) in [
            (include_str!("../../tests-data/vectors.json"), 269),
            (include_str!("../../tests-data/effective-dated.json"), 72),
            (include_str!("../../tests-data/extras.json"), 28),
        ] {
            let report = check(text, &book, false).unwrap();
            assert_eq!((report.n_checked, report.differences.as_slice()), (n_rows, &[][..]));
        }
        let wrong = r#"[{"id": "x", "p": "openai", "m": "gpt-4o", "ts": "2026-11-18", "u": {"input": 1000000}, "g": {"total": "2.4"}},
            {"p": "openai", "m": "nosuch", "ts": "2026-11-18", "u": {"input": 1}, "g": {"total": 1}}]"#;
        let report = check(wrong, &book, false).unwrap();
        let told: Vec<_> = report
            .differences
            .iter()
            .map(|it| (it.id.as_str(), it.expected.as_str(), it.found.as_str()))
            .collect();
        assert_eq!(told, [("x", "2.4", "2.5"), ("vector 1", "1", "unpriced")]);
        assert!(
            check(r#"[{"m": "x"}]"#, &book, false)
                .unwrap_err()
                .to_string()
                .contains("vector 0: ts")
        );
    }
}
