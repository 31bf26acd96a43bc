//! The price vectors, and properties of the rule.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::prices::{PriceBook, PriceQuery};

const VECTORS: &str = include_str!("../../tests-data/vectors.json");
const EFFECTIVE_DATED: &str = include_str!("../../tests-data/effective-dated.json");
const EXTRAS: &str = include_str!("../../tests-data/extras.json");
const RATES: &str = include_str!("../../tests-data/rates.json");

fn rows(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str()
}

fn instant_ns(row: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text(row, "ts").unwrap())
        .unwrap()
        .timestamp_nanos_opt()
        .unwrap()
}

fn usage(row: &Value) -> Usage {
    let counts = row["u"].as_object().unwrap();
    let known = [
        "input",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "output",
        "reasoning",
        "input_audio",
        "output_audio",
        "input_image",
        "web_searches",
    ];
    assert!(counts.keys().all(|key| known.contains(&key.as_str())), "{row}");
    let count = |key: &str| counts.get(key).map(|count| count.as_i64().unwrap());
    Usage {
        input: count("input"),
        cache_read: count("cache_read"),
        cache_write_5m: count("cache_write_5m"),
        cache_write_1h: count("cache_write_1h"),
        output: count("output"),
        reasoning: count("reasoning"),
        audio_input: count("input_audio"),
        audio_output: count("output_audio"),
        image_input: count("input_image"),
        web_searches: count("web_searches"),
    }
}

fn raw_quantities(row: &Value) -> Quantities {
    let mut quantities = Quantities::default();
    for (key, value) in row["raw"].as_object().unwrap() {
        let unit = UnitId::of_usage_key(key).unwrap();
        let scale = if key.ends_with("_seconds") { 1_000 } else { 1 };
        quantities.set(unit, value.as_i64().unwrap() * scale);
    }
    quantities
}

fn context(row: &Value) -> Vec<(&str, &str)> {
    let fields = row.get("ctx").and_then(Value::as_object).into_iter().flatten();
    fields
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        .collect()
}

fn resolve<'b>(book: &'b PriceBook, row: &Value) -> Option<ResolvedPrice<'b>> {
    let context = context(row);
    let given = |name: &str| context.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let query = PriceQuery {
        provider: text(row, "p"),
        model: text(row, "m").unwrap(),
        at_ns: instant_ns(row),
        processing: given("processing"),
        service_tier: given("service_tier"),
    };
    let rest: Vec<_> = context
        .iter()
        .copied()
        .filter(|(key, _)| *key != "processing" && *key != "service_tier")
        .collect();
    book.resolve_with(&query, &rest)
}

/// Input side and output side, as genai-prices reports them.
fn sides(rated: &Rated) -> (FemtoUsd, FemtoUsd) {
    let side = |wanted: &[Bucket]| {
        rated
            .pieces
            .iter()
            .filter(|piece| wanted.contains(&piece.bucket))
            .map(|piece| piece.cost)
            .sum()
    };
    let input = [
        Bucket::Input,
        Bucket::CacheRead,
        Bucket::CacheWrite5m,
        Bucket::CacheWrite1h,
        Bucket::AudioInput,
        Bucket::ImageInput,
    ];
    (
        side(&input),
        side(&[Bucket::Output, Bucket::Reasoning, Bucket::AudioOutput]),
    )
}

/// `None` where the row agrees digit for digit, else what differs.
fn difference(
    row: &Value,
    price: Option<&ResolvedPrice<'_>>,
    rated: Option<Result<Rated, RatingError>>,
) -> Option<String> {
    let (id, expected) = (text(row, "id").unwrap(), &row["g"]);
    let refused = expected.get("error").is_some();
    let rated = match rated {
        None if refused => return None,
        Some(Err(_)) if refused => return None,
        None => return Some(format!("{id}: unpriced")),
        Some(Err(error)) => return Some(format!("{id}: {error}")),
        Some(Ok(rated)) if refused => return Some(format!("{id}: {} instead of {expected}", rated.total)),
        Some(Ok(rated)) => rated,
    };
    let (input, output) = sides(&rated);
    let sum: FemtoUsd = rated.pieces.iter().map(|piece| piece.cost).sum();
    assert_eq!(sum, rated.total, "{id}");
    let amount = |key: &str| FemtoUsd::parse(text(expected, key).unwrap()).unwrap();
    let agrees = rated.total == amount("total")
        && input == amount("input")
        && output == amount("output")
        && text(expected, "model").is_none_or(|model| price.unwrap().model() == model)
        && text(expected, "provider").is_none_or(|provider| price.unwrap().provider() == provider);
    (!agrees).then(|| {
        format!(
            "{id}: {} = {input} + {output} of {} instead of {expected}",
            rated.total, rated.price_id
        )
    })
}

fn check(rows: &[Value], n_expected: usize, book: &PriceBook, model_names: bool) {
    let differences: Vec<_> = rows
        .iter()
        .filter_map(|row| {
            let price = resolve(book, row);
            let rated = price.as_ref().map(|price| match row.get("raw") {
                Some(_) => rate_quantities(price, &raw_quantities(row)),
                None => rate(price, &usage(row)),
            });
            let mut row = row.clone();
            if !model_names {
                row["g"].as_object_mut().unwrap().remove("model");
            }
            difference(&row, price.as_ref(), rated)
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
    assert_eq!(rows.len(), n_expected);
}

#[test]
fn every_vector_is_priced_digit_for_digit_from_the_embedded_book() {
    check(&rows(VECTORS), 269, &PriceBook::embedded().unwrap(), true);
}

#[test]
fn every_dated_vector_is_priced_digit_for_digit() {
    check(&rows(EFFECTIVE_DATED), 72, &PriceBook::embedded().unwrap(), true);
}

#[test]
fn every_extra_is_priced_or_refused_as_genai_prices_does() {
    check(&rows(EXTRAS), 28, &PriceBook::embedded().unwrap(), true);
}

#[test]
fn extras_that_usage_can_say_are_rated_the_same_from_usage() {
    let book = PriceBook::embedded().unwrap();
    let keys = [
        ("input_tokens", "input"),
        ("output_tokens", "output"),
        ("cache_read_tokens", "cache_read"),
        ("cache_write_tokens", "cache_write_5m"),
        ("web_searches", "web_searches"),
    ];
    let mut n_checked = 0;
    for mut row in rows(EXTRAS) {
        let raw = row["raw"].as_object().unwrap();
        let renamed = raw
            .iter()
            .map(|(key, value)| Some((keys.iter().find(|(from, _)| from == key)?.1.to_owned(), value.clone())));
        let Some(renamed) = renamed.collect::<Option<Map<_, _>>>() else {
            continue;
        };
        row["u"] = renamed.into();
        let price = resolve(&book, &row);
        let rated = price.as_ref().map(|price| rate(price, &usage(&row)));
        assert_eq!(difference(&row, price.as_ref(), rated), None);
        n_checked += 1;
    }
    assert_eq!(n_checked, 25);
}

/// `rates.json` as a catalogue: one model for each `provider|model`, a variant for each context.
fn book_of_rates() -> PriceBook {
    let rates: Value = serde_json::from_str(RATES).unwrap();
    let mut providers: std::collections::BTreeMap<&str, Vec<Value>> = std::collections::BTreeMap::new();
    for (name, contexts) in rates["g"].as_object().unwrap() {
        let (provider, model) = name.split_once('|').unwrap();
        let variants = contexts
            .as_object()
            .unwrap()
            .iter()
            .filter(|(context, _)| *context != "{}");
        let variants = variants.map(
            |(context, prices)| json!({"when": serde_json::from_str::<Value>(context).unwrap(), "prices": prices}),
        );
        providers.entry(provider).or_default().push(json!({
            "id": model,
            "match": {"equals": model},
            "prices": contexts["{}"],
            "price_variants": variants.collect::<Vec<_>>(),
        }));
    }
    let providers: Vec<_> = providers
        .into_iter()
        .map(|(id, models)| json!({"id": id, "models": models}))
        .collect();
    PriceBook::import("rates", "2026-11-22", &Value::from(providers).to_string(), None).unwrap()
}

#[test]
fn every_vector_is_priced_digit_for_digit_from_the_stated_rates() {
    check(&rows(VECTORS), 269, &book_of_rates(), false);
}

#[test]
fn the_embedded_book_holds_the_stated_rates() {
    let (embedded, stated) = (PriceBook::embedded().unwrap(), book_of_rates());
    let mut n_checked = 0;
    for row in rows(VECTORS) {
        let (Some(ours), Some(theirs)) = (resolve(&embedded, &row), resolve(&stated, &row)) else {
            panic!("{row}")
        };
        for unit in UnitId::all() {
            assert_eq!(
                ours.unit_price(unit),
                theirs.unit_price(unit),
                "{} {}",
                ours.price_id(),
                unit.unit().usage_key
            );
            n_checked += usize::from(ours.unit_price(unit).is_some());
        }
    }
    assert!(n_checked > 800, "{n_checked}");
}

fn resolve_now<'b>(book: &'b PriceBook, provider: &str, model: &str) -> ResolvedPrice<'b> {
    let at_ns = 1_795_000_000_000_000_000; // 2026-11-18
    book.resolve(&PriceQuery {
        provider: Some(provider),
        model,
        at_ns,
        ..PriceQuery::default()
    })
    .unwrap()
}

#[test]
fn pieces_name_every_kind_of_token() {
    let book = PriceBook::embedded().unwrap();
    let price = resolve_now(&book, "anthropic", "claude-sonnet-5-5");
    let usage = Usage {
        input: Some(19_140),
        cache_read: Some(7_000),
        cache_write_5m: Some(12_100),
        output: Some(600),
        reasoning: Some(100),
        web_searches: Some(2),
        ..Usage::default()
    };
    let rated = rate(&price, &usage).unwrap();
    let pieces: Vec<_> = rated
        .pieces
        .iter()
        .map(|piece| {
            (
                piece.bucket.as_str(),
                piece.tokens,
                piece.quantity,
                piece.cost.to_string(),
            )
        })
        .collect();
    assert_eq!(
        pieces,
        [
            ("input", Some(40), None, "0.00008".to_owned()),
            ("cache_read", Some(7_000), None, "0.0007".to_owned()),
            ("cache_write_5m", Some(12_100), None, "0.03025".to_owned()),
            ("output", Some(500), None, "0.005".to_owned()),
            ("reasoning", Some(100), None, "0.001".to_owned()),
            ("web_search", None, Some(2), "0.02".to_owned()),
        ]
    );
    assert_eq!(rated.total.to_string(), "0.05703");
    assert_eq!(&*rated.price_id, "genai-prices:anthropic/claude-sonnet-5-5");
    for piece in &rated.pieces {
        assert_eq!(piece.cost_of_one, price.cost_of_one(piece.bucket, 19_140), "{piece:?}");
    }
}

#[test]
fn usage_that_contradicts_itself_is_refused_by_name() {
    let book = PriceBook::embedded().unwrap();
    let price = resolve_now(&book, "anthropic", "claude-sonnet-5-5");
    for (usage, message) in [
        (
            Usage {
                input: Some(-1),
                ..Usage::default()
            },
            "input_tokens is -1, below zero",
        ),
        (
            Usage {
                input: Some(100),
                cache_read: Some(60),
                cache_write_5m: Some(60),
                ..Usage::default()
            },
            "cache_read_tokens, cache_write_5m_tokens, cache_write_tokens make 120, more than input_tokens (100) that they are counted in",
        ),
        (
            Usage {
                cache_read: Some(5),
                ..Usage::default()
            },
            "cache_read_tokens is reported without input_tokens, in which it is counted",
        ),
        (
            Usage {
                output: Some(1),
                reasoning: Some(2),
                ..Usage::default()
            },
            "output_reasoning_tokens make 2, more than output_tokens (1) that they are counted in",
        ),
        (
            Usage {
                input: Some(i64::MAX),
                cache_write_5m: Some(i64::MAX),
                cache_write_1h: Some(i64::MAX),
                ..Usage::default()
            },
            "cache_write_1h_tokens, cache_write_5m_tokens make 18446744073709551614, more than cache_write_tokens (9223372036854775807) that they are counted in",
        ),
    ] {
        assert_eq!(rate(&price, &usage).unwrap_err().to_string(), message);
        assert!(split_usage(&usage).is_err());
    }
}

#[test]
fn what_the_record_has_no_price_for_is_never_free() {
    let book = PriceBook::embedded().unwrap();
    let usage = Usage {
        input: Some(1_000),
        output: Some(100),
        ..Usage::default()
    };
    let by_the_hour = resolve_now(&book, "openai", "whisper-1");
    assert!(matches!(rate(&by_the_hour, &usage), Err(RatingError::NoRate { .. })));
    let embedding = rate(&resolve_now(&book, "openai", "text-embedding-3-small"), &usage).unwrap();
    assert_eq!(embedding.total.to_string(), "0.00002");
    assert_eq!(embedding.unrated, [(Bucket::Output, 100)]);
    let free = rate(&resolve_now(&book, "openrouter", "openai/gpt-oss-20b:free"), &usage).unwrap();
    assert_eq!((free.total, free.pieces.len()), (FemtoUsd::ZERO, 2));
}

#[test]
fn a_request_fee_and_a_minimum_are_charged() {
    let book = PriceBook::embedded().unwrap();
    let sonar = rate(
        &resolve_now(&book, "perplexity", "sonar"),
        &Usage {
            input: Some(0),
            ..Usage::default()
        },
    )
    .unwrap();
    assert_eq!(
        (
            sonar.pieces[0].bucket,
            sonar.pieces[0].quantity,
            sonar.total.to_string().as_str()
        ),
        (Bucket::Request, Some(1), "0.012")
    );
    let whisper = resolve_now(&book, "groq", "whisper-large-v3");
    for (ms, cost) in [
        (3_000, "0.000308333333333"),
        (10_000, "0.000308333333333"),
        (36_000, "0.00111"),
        (0, "0"),
    ] {
        let mut quantities = Quantities::default();
        quantities.set(UnitId::of_usage_key("input_audio_seconds").unwrap(), ms);
        quantities.set(UnitId::of_usage_key("audio_seconds").unwrap(), ms);
        assert_eq!(
            rate_quantities(&whisper, &quantities).unwrap().total.to_string(),
            cost,
            "{ms}"
        );
    }
}

#[test]
fn the_tier_is_that_of_the_whole_request_and_strictly_above() {
    let book = PriceBook::embedded().unwrap();
    let price = resolve_now(&book, "anthropic", "claude-sonnet-4-5");
    let total = |input, cache_read| {
        let usage = Usage {
            input: Some(input),
            cache_read: Some(cache_read),
            output: Some(1_000),
            ..Usage::default()
        };
        rate(&price, &usage).unwrap().total.to_string()
    };
    assert_eq!(total(200_000, 150_000), "0.21");
    assert_eq!(total(200_001, 150_000), "0.412506");
}

#[test]
fn a_reported_cost_is_split_where_nothing_is_priced() {
    let usage = Usage {
        input: Some(900),
        cache_read: Some(300),
        output: Some(100),
        ..Usage::default()
    };
    let pieces = split_usage(&usage).unwrap();
    assert!(
        pieces
            .iter()
            .all(|piece| piece.cost == FemtoUsd::ZERO && piece.cost_of_one.is_none())
    );
    let scaled = scale_to(&pieces, FemtoUsd(1_000));
    assert_eq!(
        scaled.iter().map(|piece| piece.cost.0).collect::<Vec<_>>(),
        [600, 300, 100]
    );
    let undivided = scale_to(&[], FemtoUsd(7));
    assert_eq!(
        (undivided.len(), undivided[0].bucket, undivided[0].cost),
        (1, Bucket::Request, FemtoUsd(7))
    );
}

prop_compose! {
    fn any_usage()(
        leaves in prop::array::uniform9(0i64..3_000_000),
        kinds in prop::array::uniform8(any::<bool>()),
    ) -> Usage {
        let [text, read, short, long, audio, image, answer, reasoning, searches] = leaves;
        let part = |index: usize, count: i64| kinds[index].then_some(count);
        let (cache_read, cache_write_5m, cache_write_1h) = (part(0, read), part(1, short), part(2, long));
        let (audio_input, image_input) = (part(3, audio), part(4, image));
        let parts = [cache_read, cache_write_5m, cache_write_1h, audio_input, image_input];
        Usage {
            input: Some(text + parts.iter().flatten().sum::<i64>()),
            output: Some(answer + part(5, reasoning).unwrap_or(0) + part(6, reasoning).unwrap_or(0)),
            cache_read, cache_write_5m, cache_write_1h, audio_input, image_input,
            reasoning: part(5, reasoning),
            audio_output: part(6, reasoning),
            web_searches: part(7, searches % 100),
        }
    }
}

proptest! {
    #[test]
    fn pieces_sum_to_the_total_and_to_the_usage(usage in any_usage(), place in any::<prop::sample::Index>(), at in 1_700_000_000i64..1_800_000_000) {
        let book = PriceBook::embedded().unwrap();
        let models: Vec<_> = book.providers().iter().flat_map(|provider| provider.models.iter().map(move |model| (provider, model))).collect();
        let (provider, model) = place.get(&models);
        let query = PriceQuery { provider: Some(&provider.id), model: &model.id, at_ns: at * 1_000_000_000, ..PriceQuery::default() };
        if let Some(price) = book.resolve(&query) && let Ok(rated) = rate(&price, &usage) {
            prop_assert_eq!(rated.pieces.iter().map(|piece| piece.cost).sum::<FemtoUsd>(), rated.total);
            let priced: i64 = rated.pieces.iter().filter_map(|piece| piece.tokens).sum();
            let unrated: i64 = rated.unrated.iter().filter(|(bucket, _)| bucket.counts_tokens()).map(|(_, count)| count).sum();
            prop_assert_eq!(priced + unrated, usage.input.unwrap() + usage.output.unwrap());
            let buckets: std::collections::BTreeSet<_> = rated.pieces.iter().map(|piece| piece.bucket).collect();
            prop_assert_eq!(buckets.len(), rated.pieces.len());
            for piece in &rated.pieces {
                let count = i128::from(piece.tokens.or(piece.quantity).unwrap());
                prop_assert_eq!(piece.cost_of_one.unwrap().0 * count, piece.cost.0);
            }
            let scaled = scale_to(&rated.pieces, FemtoUsd(513_255_000_000_001));
            prop_assert_eq!(scaled.iter().map(|piece| piece.cost).sum::<FemtoUsd>(), FemtoUsd(513_255_000_000_001));
            prop_assert_eq!(scale_to(&rated.pieces, rated.total), rated.pieces);
        }
    }

    #[test]
    fn doubled_rates_double_the_total(usage in any_usage(), prices in prop::array::uniform4(1u32..100_000_000)) {
        let rated = |factor: u64| {
            let price = |index: usize| format!("{}e-6", u64::from(prices[index]) * factor);
            let [input, read, write, output] = std::array::from_fn(price);
            let catalogue = format!(
                r#"[{{"id": "p", "models": [{{"id": "m", "match": {{"equals": "m"}}, "prices": {{
                    "input_mtok": {{"base": {input}, "tiers": [{{"start": 200000, "price": {output}}}]}},
                    "cache_read_mtok": {read}, "cache_write_mtok": {write}, "output_mtok": {output}, "web_searches_kcount": {read}
                }}}}]}}]"#
            );
            let book = PriceBook::import("test", "1", &catalogue, None).unwrap();
            let query = PriceQuery { provider: Some("p"), model: "m", ..PriceQuery::default() };
            rate(&book.resolve(&query).unwrap(), &usage).unwrap().total
        };
        prop_assert_eq!(rated(2).0, 2 * rated(1).0);
    }
}
