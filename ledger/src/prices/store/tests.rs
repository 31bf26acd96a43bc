//! Versions: made, taken into use, never changed; and what a book made of them charges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use spanledger_model::Usage;

use super::super::read::{PriceFile, read};
use super::super::validity::parse_instant;
use super::super::{PriceQuery, ResolvedPrice};
use super::*;
use crate::error::ErrorKind;
use crate::rating::rate;

fn import_as(store: &PriceStore, path: &str, text: &str, layer: Option<Layer>) -> ImportReport {
    let file = PriceFile {
        path: Path::new(path),
        text,
        format: None,
        layer,
        name: None,
        wins: false,
    };
    let by = ImportedBy {
        user: Some("ann".to_owned()),
        at_ns: parse_instant("2026-11-22").unwrap(),
        file: path.to_owned(),
    };
    store.import(read(&file).unwrap(), &by, false).unwrap()
}

fn import(store: &PriceStore, path: &str, text: &str) -> ImportReport {
    import_as(store, path, text, None)
}

fn query<'q>(provider: &'q str, model: &'q str, at: &str) -> PriceQuery<'q> {
    PriceQuery {
        provider: Some(provider),
        model,
        at_ns: parse_instant(at).unwrap(),
        ..PriceQuery::default()
    }
}

/// What a million tokens of input and of output cost, with and without a contract.
fn million(price: Option<ResolvedPrice<'_>>) -> String {
    let Some(price) = price else { return "-".to_owned() };
    let usage = |input, output| Usage {
        input: Some(input),
        output: Some(output),
        ..Usage::default()
    };
    let of = |usage| rate(&price, &usage).unwrap().total.to_string();
    format!("{} {}", of(usage(1_000_000, 0)), of(usage(0, 1_000_000)))
}

#[track_caller]
fn check(book: &PriceBook, query: &PriceQuery<'_>, list: &str, contracted: &str) {
    let found = (
        million(book.resolve(query)),
        million(book.resolve_contracted(query, &[])),
    );
    assert_eq!((found.0.as_str(), found.1.as_str()), (list, contracted), "{query:?}");
}

#[test]
fn a_contract_holds_from_its_first_to_its_last_instant() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    let text = "provider,model,input,output,discount_percent,valid_from,valid_to,weekdays,start_time,end_time,processing,region\n\
        mistral,mistral-large-4,0.5,2,,2026-11-01,2026-12-01,,,,,\n\
        mistral,mistral-large-4,0.4,1,,2026-11-01,2026-12-01,sat+sun,,,,\n\
        openai,gpt-4o*,,,10,2026-11-01,,,16:00:00Z,20:00:00Z,,\n\
        openai,gpt-4o,,,50,,,,,,batch,\n\
        aws,*claude*,1,5,,,,,,,,eu\n\
        openai,gpt-4o-mini,0.1,0.4,,,,,,,,\n\
        openai,gpt-4.1,1.5,4,,,,,,,batch,\n\
        selfhosted,acme-*,0.1,0.2,,,,,,,,\n";
    let report = import(&store, "acme.csv", text);
    assert_eq!(report.version.as_deref().map(|id| &id[..3]), Some("v1-"));
    let book = store.current_book().unwrap();
    assert_eq!(book.version(), report.version.unwrap());
    check(
        &book,
        &query("mistral_ai", "mistral-large-4", "2026-10-31T23:59:59.999999999Z"),
        "0.7 2.1",
        "-",
    );
    check(
        &book,
        &query("mistral_ai", "mistral-large-4", "2026-11-02"),
        "0.7 2.1",
        "0.5 2",
    );
    check(
        &book,
        &query("mistral", "mistral-large-4", "2026-11-22"),
        "0.7 2.1",
        "0.4 1",
    );
    check(
        &book,
        &query("mistral", "mistral-large-4", "2026-12-01"),
        "0.7 2.1",
        "-",
    );
    check(
        &book,
        &query("openai", "gpt-4o-2024-08-06", "2026-11-02T16:00:00Z"),
        "2.5 10",
        "2.25 9",
    );
    check(&book, &query("openai", "gpt-4o", "2026-11-02T20:00:00Z"), "2.5 10", "-");
    let batch = PriceQuery {
        processing: Some("batch"),
        ..query("openai", "gpt-4o", "2026-11-02T16:00:00Z")
    };
    let list = million(book.resolve(&batch));
    check(&book, &batch, &list, "0.625 2.5");
    check(
        &book,
        &query(
            "aws.bedrock",
            "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "2026-11-02",
        ),
        "3.3 16.5",
        "1 5",
    );
    let us = query(
        "aws.bedrock",
        "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "2026-11-02",
    );
    assert!(book.resolve_contracted(&us, &[]).is_none());
    let in_batch = |model| PriceQuery {
        processing: Some("batch"),
        ..query("openai", model, "2026-11-02")
    };
    // A standard price agreed is none of batch, which has a price of its own; one for batch is none of standard.
    check(
        &book,
        &query("openai", "gpt-4o-mini", "2026-11-02"),
        "0.15 0.6",
        "0.1 0.4",
    );
    check(&book, &in_batch("gpt-4o-mini"), "0.075 0.3", "-");
    check(&book, &query("openai", "gpt-4.1", "2026-11-02"), "2 8", "-");
    check(&book, &in_batch("gpt-4.1"), "1 4", "1.5 4");
    check(&book, &query("SelfHosted", "acme-7b", "2026-11-02"), "-", "0.1 0.2");
    check(&book, &query("openai", "acme-7b", "2026-11-02"), "-", "-");
    let price = book
        .resolve_contracted(&query("openai", "gpt-4o", "2026-11-02T16:00:00Z"), &[])
        .unwrap();
    assert!(
        price
            .price_id()
            .ends_with(" less acme:openai/gpt-4o*@2026-11-01@16:00-20:00"),
        "{}",
        price.price_id()
    );
}

#[test]
fn list_prices_stand_beside_the_catalogue() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    let text =
        "provider,model,input,output,valid_from\nopenai,gpt-4o,2,8,2026-12-01\nacme,acme-7b,0.1,0.2,2026-11-01\n";
    let report = import_as(&store, "corrections.csv", text, Some(Layer::List));
    assert_eq!(
        (
            report.diff.added.len(),
            report.diff.removed.len(),
            report.diff.changed.len()
        ),
        (1, 0, 1)
    );
    let shown = report.diff.to_text(10);
    assert!(
        shown.contains("~ list openai/gpt-4o") && shown.contains("2 per 1M tokens  [from 2026-12-01]"),
        "{shown}"
    );
    let litellm = r#"{"gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 9e-06, "output_cost_per_token": 9e-06},
        "azure/gpt-4o": {"litellm_provider": "azure", "input_cost_per_token": 9e-06, "output_cost_per_token": 9e-06},
        "new": {"litellm_provider": "openai", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06}}"#;
    let report = import(&store, "map.json", litellm);
    assert_eq!((report.diff.added.len(), report.diff.changed.len()), (1, 0));
    let book = store.current_book().unwrap();
    for (provider, model, at, list) in [
        ("openai", "gpt-4o", "2026-11-30", "2.5 10"),
        ("openai", "gpt-4o", "2026-12-01", "2 8"),
        ("acme", "acme-7b", "2026-11-01", "0.1 0.2"),
        ("acme", "acme-7b", "2026-10-31", "-"),
        ("openai", "new", "2020-01-01", "1 2"),
    ] {
        check(&book, &query(provider, model, at), list, "-");
    }
    let litellm_text = litellm.replace("openai", "OpenAI");
    let file = PriceFile {
        path: Path::new("map.json"),
        text: &litellm_text,
        format: None,
        layer: None,
        name: None,
        wins: true,
    };
    store
        .import(read(&file).unwrap(), &ImportedBy::default(), false)
        .unwrap();
    check(
        &store.current_book().unwrap(),
        &query("openai", "gpt-4o", "2026-11-30"),
        "9 9",
        "-",
    );
}

#[test]
fn tools_have_prices_by_call_second_and_byte() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    let text = "server,tool,per_call,per_second,per_byte,valid_from\n\
        websearch*,*,0.005,,,\n\
        websearch*,*,0.006,,,2026-12-01\n\
        ,Render,,0.0001,0.000000000002,\n\
        websearch,deep,1,,,\n";
    import(&store, "paid.csv", text);
    let book = store.current_book().unwrap();
    let cost = |server, tool, at: &str, duration_ns, bytes| {
        let price = book.tool_price(server, tool, parse_instant(at).unwrap())?;
        price.cost(duration_ns, bytes).map(|cost| cost.to_string())
    };
    assert_eq!(
        cost(Some("WebSearch-eu"), "search", "2026-11-30", None, None).as_deref(),
        Some("0.005")
    );
    assert_eq!(
        cost(Some("websearch"), "search", "2026-12-01", None, None).as_deref(),
        Some("0.006")
    );
    assert_eq!(
        cost(Some("websearch"), "deep", "2026-12-01", None, None).as_deref(),
        Some("1")
    );
    assert_eq!(
        cost(None, "render", "2026-11-30", Some(1_500_000_000), Some(1000)).as_deref(),
        Some("0.000150002")
    );
    assert_eq!(cost(None, "render", "2026-11-30", None, Some(1000)), None);
    assert_eq!(cost(None, "search", "2026-11-30", None, None), None);
}

#[test]
fn a_version_is_immutable_and_any_can_be_taken_into_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    assert_eq!(
        store.current_book().unwrap().version(),
        PriceBook::embedded().unwrap().version()
    );
    let first = import(&store, "acme.csv", "model,discount_percent\n*,10\n")
        .version
        .unwrap();
    assert_eq!(
        import(&store, "acme.csv", "model,discount_percent\n*,10\n").version,
        None
    );
    let second = import(&store, "acme.csv", "model,discount_percent\n*,20\n")
        .version
        .unwrap();
    assert!(second.starts_with("v2-"));
    assert_eq!(store.current().unwrap().unwrap().parent, first);
    assert_eq!(store.use_version("v1").unwrap(), first);
    assert_eq!(store.current_book().unwrap().version(), first);
    // A source without records is taken out, and what is left is the built-in book.
    let third = import(&store, "acme.csv", "model,discount_percent\n");
    assert!(third.version.unwrap().starts_with("v3-") && third.diff.removed.len() == 1);
    assert_eq!(store.use_version("0").unwrap(), BUILT_IN);
    assert_eq!(
        store.current_book().unwrap().version(),
        PriceBook::embedded().unwrap().version()
    );
    assert_eq!(store.versions().unwrap().len(), 3);
    assert_eq!(store.use_version("v9").unwrap_err().kind(), ErrorKind::NotFound);

    let path = folder.path().join(format!("prices/{second}.json"));
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"20\"", "\"21\"")).unwrap();
    assert_eq!(store.use_version("v2").unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::write(&path, "{").unwrap();
    assert_eq!(store.versions().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_dry_run_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    let file = PriceFile {
        path: Path::new("acme.csv"),
        text: "model,discount_percent\n*,10\n",
        format: None,
        layer: None,
        name: None,
        wins: false,
    };
    let report = store
        .import(read(&file).unwrap(), &ImportedBy::default(), true)
        .unwrap();
    assert!(report.version.is_some() && report.diff.added.len() == 1);
    assert!(!folder.path().join("prices").exists());
}

#[test]
fn a_catalogue_takes_the_place_of_the_one_before_and_keeps_the_contracts() {
    let folder = tempfile::tempdir().unwrap();
    let store = PriceStore::new(folder.path());
    import(&store, "acme.csv", "model,discount_percent\n*,10\n");
    let catalogue = r#"[{"id": "acme", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1, "output_mtok": 2}}]}]"#;
    let report = import(&store, "data.json", catalogue);
    assert!(report.diff.removed.len() > 1_000 && report.diff.added.len() == 1);
    check(
        &store.current_book().unwrap(),
        &query("acme", "m", "2026-11-22"),
        "1 2",
        "0.9 1.8",
    );
    store
        .import(super::super::read::builtin(), &ImportedBy::default(), false)
        .unwrap();
    check(
        &store.current_book().unwrap(),
        &query("openai", "gpt-4o", "2026-11-22"),
        "2.5 10",
        "2.25 9",
    );
}

/// LiteLLM's entries as published, laid over the catalogue: every cost that both projects agree on stays what it
/// is, digit for digit.
#[test]
fn litellm_entries_charge_what_litellm_charges() {
    let rates: serde_json::Value = serde_json::from_str(include_str!("../../../tests-data/rates.json")).unwrap();
    let mut map = serde_json::Map::new();
    for (name, entry) in rates["l"].as_object().unwrap() {
        let (provider, key) = name.split_once('|').unwrap();
        let mut entry = entry.clone();
        entry["litellm_provider"] = provider.into();
        map.insert(key.to_owned(), entry);
    }
    let text = serde_json::Value::from(map).to_string();
    let file = PriceFile {
        path: Path::new("model_prices_and_context_window.json"),
        text: &text,
        format: None,
        layer: None,
        name: None,
        wins: true,
    };
    let source = read(&file).unwrap().source.unwrap();
    assert!(source.prices.len() > 100, "{}", source.prices.len());
    let book = PriceBook::compose("v1-litellm", &CatalogueFiles::embedded(), &[source]).unwrap();
    let vectors = include_str!("../../../tests-data/vectors.json");
    let mut agreed: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
    agreed.retain(|row| row["agree"] == true);
    for row in &mut agreed {
        row["g"]
            .as_object_mut()
            .unwrap()
            .retain(|key, _| key == "total" || key == "error");
    }
    let report = super::super::vectors::check(&serde_json::Value::from(agreed).to_string(), &book, false).unwrap();
    assert_eq!((report.n_checked, report.differences.as_slice()), (227, &[][..]));
}
