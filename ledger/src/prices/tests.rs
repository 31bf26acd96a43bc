//! Names, dates, contexts and listing of the embedded book.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn at(text: &str) -> i64 {
    validity::parse_instant(text).unwrap()
}

fn found(provider: Option<&str>, model: &str) -> Option<String> {
    let book = PriceBook::embedded().unwrap();
    let query = PriceQuery {
        provider,
        model,
        at_ns: at("2026-11-18T12:00:00Z"),
        ..PriceQuery::default()
    };
    let price = book.resolve(&query)?;
    Some(format!("{}/{}", price.provider(), price.model()))
}

#[track_caller]
fn check(provider: &str, model: &str, expected: &str) {
    let provider = Some(provider).filter(|provider| !provider.is_empty());
    assert_eq!(
        found(provider, model).as_deref().unwrap_or("unpriced"),
        expected,
        "{provider:?} {model}"
    );
}

#[test]
fn names_of_the_conventions_find_the_catalogue() {
    for (provider, model, expected) in [
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5"),
        ("openai", "gpt-5-2025-08-07", "openai/gpt-5"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini"),
        ("azure.ai.openai", "gpt-4o", "azure/gpt-4o"),
        ("az.ai.openai", "gpt-4o", "azure/gpt-4o"),
        ("azure_openai", "gpt-4o", "azure/gpt-4o"),
        (
            "gcp.vertex_ai",
            "claude-sonnet-4-5@20250929",
            "google/claude-sonnet-4-5",
        ),
        ("gcp.gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("gcp.gen_ai", "models/gemini-2.5-flash", "google/gemini-2.5-flash"),
        (
            "gcp.vertex_ai",
            "publishers/google/models/gemini-2.5-flash",
            "google/gemini-2.5-flash",
        ),
        ("google", "models/gemini-2.5-flash", "unpriced"),
        ("google.generative-ai", "gemini-2.5-flash", "google/gemini-2.5-flash"),
        ("x_ai", "grok-4.7", "x-ai/grok-4.7"),
        ("xai.chat", "grok-4.7", "x-ai/grok-4.7"),
        ("mistral_ai", "mistral-large-4", "mistral/mistral-large-4"),
        ("deepseek", "deepseek-chat", "deepseek/deepseek-chat"),
        ("perplexity", "sonar-pro", "perplexity/sonar-pro"),
        ("groq", "openai/gpt-oss-120b", "groq/openai/gpt-oss-120b"),
        ("cohere", "command-a-03-2025", "cohere/command-a"),
        ("moonshot_ai", "kimi-k3", "moonshotai/kimi-k3"),
        ("openai.responses", "GPT-5", "openai/gpt-5"),
        (" Anthropic ", " claude-opus-5-5 ", "anthropic/claude-opus-5-5"),
    ] {
        check(provider, model, expected);
    }
}

#[test]
fn proxied_and_regional_names_find_who_bills() {
    let bedrock = "aws/regional.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0";
    for (provider, model, expected) in [
        ("aws.bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", bedrock),
        ("", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", bedrock),
        ("", arn, bedrock),
        ("", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", bedrock),
        (
            "aws.bedrock",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws/global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        ),
        (
            "",
            "openrouter/anthropic/claude-sonnet-4.5",
            "openrouter/anthropic/claude-sonnet-4.5",
        ),
        (
            "openrouter",
            "openrouter/anthropic/claude-sonnet-4.5",
            "openrouter/anthropic/claude-sonnet-4.5",
        ),
        (
            "litellm",
            "openrouter/anthropic/claude-sonnet-4.5",
            "openrouter/anthropic/claude-sonnet-4.5",
        ),
        ("litellm", "anthropic/claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        (
            "",
            "litellm_proxy/anthropic/claude-sonnet-5-5",
            "anthropic/claude-sonnet-5-5",
        ),
        ("openai", "anthropic/claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        ("openai", "openai/gpt-5", "openai/gpt-5"),
        ("", "anthropic/claude-sonnet-5-5", "anthropic/claude-sonnet-5-5"),
        ("", "gpt-5", "openai/gpt-5"),
        ("", "claude-opus-5-5", "anthropic/claude-opus-5-5"),
        ("", "gemini-2.5-pro", "google/gemini-2.5-pro"),
        ("", "ft:gpt-4o-mini-2024-07-18:acme::abc", "openai/ft:gpt-4o-mini"),
    ] {
        check(provider, model, expected);
    }
}

#[test]
fn what_is_not_known_is_unpriced() {
    for (provider, model) in [
        ("nosuch", "gpt-5"),
        ("ollama", "llama3.3"),
        ("openai", "gpt-unheard-of"),
        ("", "llama3.3"),
        ("", ""),
        ("anthropic", "  "),
        ("", "openrouter/"),
        ("", "litellm/litellm/litellm/litellm/gpt-5"),
    ] {
        check(provider, model, "unpriced");
    }
}

#[test]
fn a_price_change_takes_effect_at_midnight_utc() {
    let book = PriceBook::embedded().unwrap();
    let price_id = |at_ns| {
        let query = PriceQuery {
            provider: Some("mistral_ai"),
            model: "mistral-large-4",
            at_ns,
            ..PriceQuery::default()
        };
        book.resolve(&query).unwrap().price_id().to_string()
    };
    assert_eq!(
        price_id(at("2026-10-29") - 1),
        "genai-prices:mistral/mistral-large-4@2026-10-20"
    );
    assert_eq!(
        price_id(at("2026-10-29")),
        "genai-prices:mistral/mistral-large-4@2026-10-29"
    );
}

#[test]
fn a_context_selects_its_variant() {
    let book = PriceBook::embedded().unwrap();
    let price_id = |processing, service_tier| {
        let at_ns = at("2026-11-18T12:00:00Z");
        let query = PriceQuery {
            provider: Some("anthropic"),
            model: "claude-sonnet-5-5",
            at_ns,
            processing,
            service_tier,
        };
        book.resolve(&query).unwrap().price_id().to_string()
    };
    let (standard, batch) = (
        "genai-prices:anthropic/claude-sonnet-5-5",
        "genai-prices:anthropic/claude-sonnet-5-5+processing=batch@2026-10-14",
    );
    assert_eq!(price_id(None, None), standard);
    assert_eq!(price_id(Some("batch"), None), batch);
    assert_eq!(price_id(None, Some("batch")), batch);
    assert_eq!(price_id(None, Some("standard")), standard);
}

#[test]
fn overrides_take_precedence() {
    let catalogue = r#"[{"id": "p", "models": [{"id": "m", "match": {"equals": "m"},
        "prices": {"input_mtok": 1}, "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 0.5}}]}]}]"#;
    let overrides = r#"{"prices": [
        {"provider": "p", "model": "m", "prices": {"input_mtok": 2}, "valid_from": "2026-02-01", "valid_to": "2026-03-01", "source": "contract"},
        {"provider": "p", "model": "m", "prices": {"input_mtok": 3}, "weekdays": ["sat", "sun"], "start_time": "00:00:00Z", "end_time": "12:00:00Z", "source": "x", "name": "acme"},
        {"provider": "p", "model": "m", "prices": {"input_mtok": 0.25}, "context": {"processing": "batch"}, "source": "x"},
        {"provider": "p", "model": "new", "prices": {"input_mtok": 9}, "source": "x"}
    ]}"#;
    let book = PriceBook::import("test", "1", catalogue, Some(overrides)).unwrap();
    let price_id = |model, at_ns, processing| {
        let price = book.resolve(&PriceQuery {
            provider: Some("p"),
            model,
            at_ns,
            processing,
            ..PriceQuery::default()
        });
        price.map(|price| {
            format!(
                "{} {}",
                price.price_id(),
                price.cost_of_one(Bucket::Input, 0).unwrap().0 / 1_000_000_000
            )
        })
    };
    for (model, instant, processing, expected) in [
        ("m", "2026-01-30", None, Some("test:p/m 1")),
        ("m", "2026-02-02", None, Some("spanledger:p/m@2026-02-01 2")),
        ("m", "2026-03-02", None, Some("test:p/m 1")),
        ("m", "2026-02-01", None, Some("acme:p/m@00:00-12:00@sat+sun 3")),
        ("m", "2026-02-01T12:00:00Z", None, Some("spanledger:p/m@2026-02-01 2")),
        ("m", "2026-01-30", Some("batch"), Some("test:p/m+processing=batch 0")),
        ("new", "2026-01-30", None, Some("spanledger:p/new 9")),
        ("other", "2026-01-30", None, None),
    ] {
        assert_eq!(
            price_id(model, at(instant), processing).as_deref(),
            expected,
            "{model} {instant}"
        );
    }
    assert_ne!(
        book.version(),
        PriceBook::import("test", "1", catalogue, None).unwrap().version()
    );

    for (price, message) in [
        (
            r#"{"provider": "p", "model": "m", "prices": {"input_mtok": 0.1234567891}, "source": "x"}"#,
            "too many decimals",
        ),
        (
            r#"{"provider": "p", "model": "m", "prices": {"input_mtok": 1}}"#,
            "source is missing",
        ),
        (
            r#"{"provider": "q", "model": "m", "prices": {"input_mtok": 1}, "source": "x"}"#,
            "unknown provider",
        ),
        (
            r#"{"provider": "p", "model": "m", "prices": {"inpt": 1}, "source": "x"}"#,
            "unknown unit",
        ),
    ] {
        let error =
            PriceBook::import("test", "1", catalogue, Some(&format!(r#"{{"prices": [{price}]}}"#))).unwrap_err();
        assert!(
            error.message().contains(message) && error.message().contains("override 0"),
            "{error}"
        );
    }
}

#[test]
fn a_price_file_that_cannot_be_kept_is_refused() {
    let import = |prices: &str| {
        let catalogue =
            format!(r#"[{{"id": "p", "models": [{{"id": "m", "match": {{"equals": "m"}}, "prices": {prices}}}]}}]"#);
        PriceBook::import("test", "1", &catalogue, None).map(|book| book.warnings().to_vec())
    };
    assert_eq!(import(r#"{"input_mtok": 0.123456789}"#).unwrap(), Vec::<String>::new());
    assert_eq!(
        import(r#"{"input_mtok": 1, "brain_waves": 2}"#).unwrap(),
        [r#"p/m: unknown unit "brain_waves" is not priced"#]
    );
    let residue = import(r#"{"input_mtok": 0.18000000000000002}"#).unwrap();
    assert_eq!(
        residue,
        ["p/m: input_mtok 0.18000000000000002 has too many decimals and is rounded"]
    );
    for (prices, message) in [
        (r#"{"input_mtok": -1}"#, "is not a decimal"),
        (r#"{"input_mtok": true}"#, "expected a number"),
        (r#"{"cache_read_mtok": 1}"#, "which it is counted in, is not"),
        (
            r#"{"input_mtok": 1, "cache_read_mtok": 1, "input_audio_mtok": 1}"#,
            "what is both is not",
        ),
        (
            r#"{"input_mtok": {"base": 1, "tiers": [{"start": -5, "price": 1}]}}"#,
            "a tier's start",
        ),
        ("[]", "no prices"),
        (
            r#"[{"constraint": {"start_date": "soon"}, "prices": {}}]"#,
            "invalid date",
        ),
    ] {
        let error = import(prices).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(
            error.message().contains(message) && error.message().contains("model m"),
            "{error}"
        );
    }
}

#[test]
fn the_embedded_book_is_read_whole() {
    let book = PriceBook::embedded().unwrap();
    assert!(book.version().starts_with("genai-prices-0.2.3+"), "{}", book.version());
    assert_eq!(book.warnings().len(), 28);
    assert!(
        book.warnings().iter().all(|warning| warning.ends_with("is rounded")),
        "{:?}",
        book.warnings()
    );
    let n_models: usize = book.providers().iter().map(|provider| provider.models.len()).sum();
    assert_eq!((book.providers().len(), n_models), (47, 2_330));
}

#[test]
fn prices_are_listed_as_exact_decimals() {
    let book = PriceBook::embedded().unwrap();
    let filter = PriceFilter {
        provider: Some("mistral_ai".to_owned()),
        model: Some("Mistral-Large-4".to_owned()),
        at_ns: None,
    };
    let rows = book.list(&filter);
    let standard: Vec<_> = rows.iter().filter(|row| row.context.is_none()).collect();
    let periods: Vec<_> = standard
        .iter()
        .map(|row| (row.valid_from.as_deref(), row.valid_to.as_deref()))
        .collect();
    assert_eq!(
        periods,
        [
            (None, Some("2026-10-20")),
            (Some("2026-10-20"), Some("2026-10-29")),
            (Some("2026-10-29"), None)
        ]
    );
    let rates: Vec<_> = standard[2]
        .rates
        .iter()
        .map(|rate| (rate.bucket, rate.usd.as_str(), rate.per.as_str()))
        .collect();
    assert_eq!(
        rates,
        [
            ("cache_read", "0.07", "1M tokens"),
            ("input", "0.7", "1M tokens"),
            ("output", "2.1", "1M tokens")
        ]
    );

    let at_ns = Some(at("2026-11-18"));
    let in_force = book.list(&PriceFilter { at_ns, ..filter });
    assert_eq!(in_force.iter().filter(|row| row.context.is_none()).count(), 1);
    assert!(
        in_force
            .iter()
            .any(|row| row.context.as_deref() == Some("processing=batch"))
    );

    let tiered = book.list(&PriceFilter {
        provider: Some("anthropic".to_owned()),
        model: Some("claude-sonnet-4-5".to_owned()),
        at_ns,
    });
    let input = tiered[0].rates.iter().find(|rate| rate.unit == "input_tokens").unwrap();
    assert_eq!(
        (input.usd.as_str(), &input.tiers[..]),
        (
            "3",
            &[TierRow {
                above_input_tokens: 200_000,
                usd: "6".to_owned()
            }][..]
        )
    );

    let windows = book.list(&PriceFilter {
        provider: None,
        model: Some("deepseek-chat".to_owned()),
        at_ns: None,
    });
    assert!(
        windows
            .iter()
            .any(|row| row.provider == "deepseek" && row.windows == ["00:30-16:30"])
    );
    assert!(
        book.list(&PriceFilter {
            provider: Some("nosuch".to_owned()),
            ..PriceFilter::default()
        })
        .is_empty()
    );
    assert!(book.list(&PriceFilter::default()).len() > 2_330);
}
