//! Each format read, and hostile files refused by name and line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn file<'f>(path: &'f str, text: &'f str) -> PriceFile<'f> {
    PriceFile {
        path: Path::new(path),
        text,
        format: None,
        layer: None,
        name: None,
        wins: false,
    }
}

#[track_caller]
fn read_ok(path: &str, text: &str) -> Imported {
    read(&file(path, text)).unwrap()
}

#[track_caller]
fn refused(path: &str, text: &str) -> String {
    read(&file(path, text)).unwrap_err().to_string()
}

#[test]
fn a_contract_is_read_from_csv() {
    let text = "\u{feff}provider,model,Input,output,input>200000,valid_from,weekdays,processing,discount_percent,note\r\n\
        # agreed in May\r\n\
        anthropic,claude-sonnet-4-5,2.70,13.5,5.4,2026-10-01,sat sun,batch,,x\r\n\
        \"openai\",\"gpt-*\",,,,,,,12.5,\"a \"\"quoted\"\"\nnote\"\r\n";
    let imported = read_ok("acme.csv", text);
    let source = imported.source.unwrap();
    assert_eq!((source.name.as_str(), source.layer), ("acme", Layer::Contract));
    let first = &source.prices[0];
    assert_eq!(first.prices["input_mtok"].base, "2.70");
    assert_eq!(first.prices["input_mtok"].tiers, [(200_000, "5.4".to_owned())]);
    assert_eq!(first.context["processing"], "batch");
    assert_eq!(first.time.weekdays, ["sat", "sun"]);
    assert_eq!(source.prices[1].discount_percent.as_deref(), Some("12.5"));
    assert_eq!(imported.notes, ["unknown field \"note\" is not read (2 times)"]);
}

#[test]
fn prices_of_models_and_tools_are_read_from_toml_digit_by_digit() {
    let text = r#"
source = "offer 4711"
[[prices]]
provider = "mistral"
model = "mistral-large-4"
valid_from = 2026-10-01
start_time = "16:30:00Z"
end_time = "00:30:00Z"
context = { processing = "batch" }
prices = { input_mtok = 0.123456789, output_mtok = { base = 2, tiers = [{ start = 200_000, price = 4.5 }] } }
[[tools]]
server = "websearch*"
tool = "*"
per_call = 0.005
per_second = 1e-4
per_byte = "0.000000000000001"
errors_free = true
"#;
    let source = read_ok("offer.toml", text).source.unwrap();
    let price = &source.prices[0];
    assert_eq!(price.prices["input_mtok"].base, "0.123456789");
    assert_eq!(price.prices["output_mtok"].tiers, [(200_000, "4.5".to_owned())]);
    assert_eq!(price.time.valid_from.as_deref(), Some("2026-10-01"));
    assert_eq!(price.source.as_deref(), Some("offer 4711"));
    let tool = &source.tools[0];
    assert_eq!(
        (tool.per_call.as_deref(), tool.per_second.as_deref()),
        (Some("0.005"), Some("1e-4"))
    );
    assert!(tool.errors_free);
}

#[test]
fn litellm_fields_become_tiers_contexts_and_windows() {
    let text = r#"{
      "sample_spec": {"input_cost_per_token": 0},
      "deepseek/deepseek-v9": {"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 1.32e-06,
        "output_cost_per_token": 3.96e-06, "cache_read_input_token_cost": 4.4e-08,
        "input_cost_per_token_above_200k_tokens": 2.64e-06, "input_cost_per_token_batches": 6.6e-07,
        "input_cost_per_token_flex": 1e-06, "regional_processing_uplift_multiplier_eu": 1.1,
        "off_peak_pricing": {"input_cost_per_token": 6.6e-07, "windows": [
          {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2]}, {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}]},
        "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_high": 0.01},
        "input_cost_per_token_ultrafast": 1e-05},
      "azure/eu/gpt-9": {"litellm_provider": "azure", "input_cost_per_token": 1.5000000000000002e-07, "output_cost_per_token": 6e-07},
      "ollama/llama3": {"litellm_provider": "ollama", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
      "part": {"litellm_provider": "openai", "cache_read_input_token_cost": 1e-06}
    }"#;
    let imported = read_ok("model_prices.json", text);
    let source = imported.source.unwrap();
    assert_eq!((source.layer, source.wins), (Layer::List, false));
    let of = |context: &[(&str, &str)], n_days: usize| {
        let context = context
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut prices = source.prices.iter().filter(|price| price.model == "deepseek-v9");
        let found = prices.find(|price| price.context == context && price.time.weekdays.len() == n_days);
        found.unwrap_or_else(|| panic!("{context:?}")).clone()
    };
    let standard = of(&[], 0);
    assert_eq!(standard.prices["input_mtok"].base, "1.32");
    assert_eq!(standard.prices["input_mtok"].tiers, [(200_000, "2.64".to_owned())]);
    assert_eq!(standard.prices["web_searches_kcount"].base, "10");
    assert_eq!(of(&[("processing", "batch")], 0).prices["input_mtok"].base, "0.66");
    assert_eq!(of(&[("service_tier", "flex")], 0).prices["input_mtok"].base, "1");
    assert_eq!(of(&[("region", "eu")], 0).prices["output_mtok"].base, "4.356");
    let weekend = of(&[], 2);
    assert_eq!(
        (
            weekend.prices["input_mtok"].base.as_str(),
            weekend.prices["output_mtok"].base.as_str()
        ),
        ("0.66", "3.96")
    );
    let regional = source.prices.iter().find(|price| price.model == "gpt-9").unwrap();
    assert_eq!(
        (
            regional.context["region"].as_str(),
            regional.prices["input_mtok"].base.as_str()
        ),
        ("eu", "0.15")
    );
    assert!(
        !source
            .prices
            .iter()
            .any(|price| price.model.contains("llama") || price.model == "part")
    );
    let notes = imported.notes.join("\n");
    for part in [
        "input_cost_per_token_ultrafast",
        "ollama/llama3 has no price above 0",
        "is rounded",
        "part prices a part",
    ] {
        assert!(notes.contains(part), "{part} in\n{notes}");
    }
}

#[test]
fn a_genai_prices_catalogue_is_taken_as_it_is() {
    let text = r#"[{"id": "acme", "colour": "red", "models": [{"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1, "unheard_mtok": 2}}]}]"#;
    let imported = read_ok("data.json", text);
    let files = imported.catalogue.unwrap();
    assert_eq!((files.catalogue.as_str(), files.overrides.as_str()), (text, "{}"));
    let notes = imported.notes.join("\n");
    for part in ["provider field \"colour\"", "unheard_mtok", "corrections"] {
        assert!(notes.contains(part), "{part} in\n{notes}");
    }
    assert_eq!(
        read_ok("data.json", super::super::GENAI_PRICES)
            .notes
            .iter()
            .filter(|note| note.contains("unknown"))
            .count(),
        0
    );
}

#[test]
fn a_malformed_row_names_file_and_line() {
    for (text, part) in [
        ("", "acme.csv:1: the file is empty"),
        (
            "provider;model;input",
            "acme.csv:1: the fields are not separated by commas",
        ),
        ("model,model\n", "acme.csv:1: field 2"),
        ("model,input,output\nm,1", "acme.csv:2: 2 cells"),
        ("model,input,output\n\n#x\nm,1,2\nm,one,2\n", "acme.csv:5: input_mtok"),
        ("model,input\n\"m,1\n", "acme.csv:2: a quoted cell does not end"),
        ("model,input\n\"m\"x,1\n", "acme.csv:2: text after a quoted cell"),
        ("model,input\nm,-1", "acme.csv:2"),
        ("model,input\nm,0.0000000001", "acme.csv:2"),
        ("model,input,currency\nm,1,EUR", "is not USD"),
        (
            "model,input,valid_from,valid_to\nm,1,2026-02-01,2026-01-01",
            "valid_to must be after",
        ),
        ("model,input,weekdays\nm,1,someday", "unknown weekday"),
        ("model,input,start_time\nm,1,10:00:00Z", "belong together"),
        ("model,discount_percent\nm,101", "discount_percent"),
        ("model,discount_percent\nm,0.00001", "discount_percent"),
        ("model,note\nm,x", "neither a price nor a discount_percent"),
        ("model,input>200000\nm,1", "a tier is stated without the price below it"),
        ("model,input>many,input\nm,1,1", "a tier starts above"),
        ("server,tool\ns,t", "no price is stated"),
        ("tool,per_call\nt,NaN", "per_call"),
        ("tool,per_call,errors_free\nt,1,perhaps", "errors_free"),
    ] {
        let message = refused("acme.csv", text);
        assert!(message.contains(part), "{message} for {text:?}");
    }
    for (text, part) in [
        ("x = [", "offer.toml:1"),
        (
            "\n\n[[prices]]\nmodel = \"m\"\nprices = { input_mtok = 0x10 }",
            "offer.toml:3: a price is written in decimal",
        ),
        ("[[price]]\nmodel = \"m\"", "unknown member \"price\""),
        ("[[prices]]\ntool = \"m\"", "[[prices]] names provider and model"),
        ("prices = [1]", "holds tables"),
        ("[[prices]]\nmodel = \"m\"\nprices = { petrol = 1 }", "unknown unit"),
    ] {
        let message = refused("offer.toml", text);
        assert!(message.contains(part), "{message} for {text:?}");
    }
    for (text, part) in [
        ("{\"m\": 1}", "m: expected an object"),
        (
            "{\"m\": {\"litellm_provider\": \"openai\", \"input_cost_per_token\": \"cheap\"}}",
            "must be a number",
        ),
        ("[{\"id\": \"a\", \"models\": [{\"id\": \"m\"}]}]", "model m: no prices"),
        ("[", "byte"),
    ] {
        let message = refused("x.json", text);
        assert!(
            message.starts_with("x.json: ") && message.contains(part),
            "{message} for {text:?}"
        );
    }
    assert!(refused("prices.txt", "a").contains("--format"));
    assert!(refused("spanledger.csv", "model,input\nm,1").contains("is taken"));
    assert!(refused("a b.csv", "model,input\nm,1").contains("--name"));
}

#[test]
fn nested_and_long_files_are_refused_before_they_cost_anything() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused("x.json", &deep).contains("nested too deeply"));
    let deep = format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused("x.toml", &deep).contains("x.toml:1"));
    let long = format!("model,input\n{},1", "m".repeat(10_000));
    assert!(refused("x.csv", &long).contains("x.csv:2: model is longer"));
    let many = format!("model,input\n{}", "m,1\n".repeat(RECORDS_MAX + 1));
    assert!(refused("x.csv", &many).contains("records"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|[\\[\\]{}\",=#>:\n\r0-9.eE-]|input|model|prices|tools|provider|weekdays){0,60}") {
        for path in ["x.csv", "x.toml"] {
            let _ = read(&file(path, &text));
            let _ = read(&file(path, &format!("model,input,output,weekdays,valid_from\n{text}")));
            let _ = read(&file(path, &format!("[[prices]]\nmodel = \"m\"\n{text}")));
        }
        for format in [Format::GenaiPrices, Format::Litellm] {
            let text = format!("{{\"m\": {{\"litellm_provider\": \"openai\", \"input_cost_per_token\": {text}}}}}");
            let _ = read(&PriceFile { format: Some(format), ..file("x.json", &text) });
        }
    }
}
