//! List, contracted, reported and effective cost side by side, and the direct price of tools.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use spanledger_model::{CallId, TenantId};

use super::*;
use crate::prices::read::{PriceFile, read};
use crate::prices::{CatalogueFiles, CostOrder};
use crate::settle::lines::Lines;

fn book(csv: &str) -> PriceBook {
    let file = PriceFile {
        path: Path::new("acme.csv"),
        text: csv,
        format: None,
        layer: None,
        name: None,
        wins: false,
    };
    let source = read(&file).unwrap().source.unwrap();
    PriceBook::compose("v1-test", &CatalogueFiles::embedded(), &[source]).unwrap()
}

fn call(kind: CallKind) -> Call {
    Call {
        tenant: TenantId::from_credential("default"),
        call_id: CallId::default(),
        kind,
        operation: None,
        // 2026-11-18T12:00:00Z
        start_ns: 1_795_003_200_000_000_000,
        duration_ns: Some(2_000_000_000),
        dialects: String::new(),
        observation_ids: Vec::new(),
        rules: String::new(),
        confidence: spanledger_model::Confidence::Reported,
        hops: 1,
        status: Status::Ok,
        error_type: None,
        dimensions: Default::default(),
        allocated_by: None,
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        mcp: Default::default(),
        model: Default::default(),
        usage: Usage::default(),
        sizes: Default::default(),
        reported_cost: None,
        own_cost: None,
        total_cost: None,
    }
}

fn llm(provider: &str, model: &str, reported: Option<&str>) -> Call {
    let mut call = call(CallKind::Llm);
    call.model.provider = Some(provider.to_owned());
    call.model.response_model = Some(model.to_owned());
    call.usage = Usage {
        input: Some(1_000_000),
        cache_read: Some(400_000),
        output: Some(100_000),
        ..Usage::default()
    };
    call.reported_cost = reported.and_then(FemtoUsd::parse);
    call
}

/// Sums of list, contracted and effective cost, and own cost.
fn sums(charge: &Charge) -> [Option<String>; 4] {
    let sum = |cost: fn(&LedgerLine) -> Option<FemtoUsd>| {
        let costs: Vec<FemtoUsd> = charge.lines.iter().filter_map(cost).collect();
        (!costs.is_empty()).then(|| costs.into_iter().sum::<FemtoUsd>().to_string())
    };
    [
        sum(|line| line.list_cost),
        sum(|line| line.contracted_cost),
        sum(|line| line.effective_cost),
        charge.own_cost.map(|cost| cost.to_string()),
    ]
}

#[track_caller]
fn check(book: &PriceBook, call: &Call, expected: [&str; 4]) {
    let charge = charge(call, book, 0);
    let found = sums(&charge).map(|sum| sum.unwrap_or_else(|| "-".to_owned()));
    assert_eq!(found, expected.map(str::to_owned));
    assert_eq!(charge.lines.iter().map(|line| line.n_calls).sum::<i64>(), 1);
}

#[test]
fn the_contract_is_charged_before_the_report_and_the_report_before_the_list() {
    let book = book("provider,model,input,output\nopenai,gpt-4o,2,8\n");
    // List: 600,000 x 2.5 + 400,000 x 1.25 + 100,000 x 10; the contract leaves cache reads at the list price.
    check(&book, &llm("openai", "gpt-4o", None), ["3", "2.5", "2.5", "2.5"]);
    check(&book, &llm("openai", "gpt-4o", Some("2.9")), ["3", "2.5", "2.5", "2.5"]);
    check(
        &book,
        &llm("openai", "gpt-4o-mini", Some("0.2")),
        ["0.18", "-", "0.2", "0.2"],
    );
    check(
        &book,
        &llm("openai", "gpt-4o-mini", None),
        ["0.18", "-", "0.18", "0.18"],
    );
    check(&book, &llm("openai", "no-such-model", None), ["-", "-", "-", "-"]);
    check(
        &book,
        &llm("openai", "no-such-model", Some("0.7")),
        ["-", "-", "0.7", "0.7"],
    );
    let charged = charge(&llm("openai", "gpt-4o", None), &book, 0);
    let price_id = charged.lines[0].price_id.as_deref();
    assert_eq!(
        (price_id, charged.lines[0].price_version.as_deref()),
        (Some("acme:openai/gpt-4o"), Some("v1-test"))
    );
}

#[test]
fn another_order_charges_another_cost() {
    let contract = book("provider,model,input,output\nopenai,gpt-4o,2,8\n");
    for (order, effective) in [
        ("reported,contract,list", "2.9"),
        ("list,reported,contract", "3"),
        ("list", "3"),
        ("contract", "2.5"),
    ] {
        let book = contract.with_cost_order(order.parse::<CostOrder>().unwrap());
        check(
            &book,
            &llm("openai", "gpt-4o", Some("2.9")),
            ["3", "2.5", effective, effective],
        );
    }
    let only_reported = contract.with_cost_order("reported".parse().unwrap());
    check(&only_reported, &llm("openai", "gpt-4o", None), ["3", "2.5", "-", "-"]);
}

#[test]
fn a_contract_prices_what_no_list_has() {
    let book = book("provider,model,input,output\nacme,acme-*,0.1,1\n");
    // Without a price of its own a cache read costs what input costs.
    check(&book, &llm("acme", "acme-7b", None), ["-", "0.2", "0.2", "0.2"]);
    let discount = super::tests::book("model,discount_percent\n*,10\n");
    check(&discount, &llm("acme", "acme-7b", None), ["-", "-", "-", "-"]);
    check(&discount, &llm("openai", "gpt-4o", None), ["3", "2.7", "2.7", "2.7"]);
}

fn tool(server: &str, name: &str) -> Call {
    let mut call = call(CallKind::Tool);
    call.mcp.server = Some(server.to_owned());
    call.mcp.tool = Some(name.to_owned());
    call
}

#[test]
fn a_tool_with_a_price_has_one_direct_line() {
    let book =
        book("server,tool,per_call,per_second,per_byte,errors_free\nweb,*,0.005,0.001,,\nweb,fetch,,,0.000001,true\n");
    let charged = charge(&tool("web", "search"), &book, 0);
    let [line] = charged.lines.as_slice() else {
        panic!("{charged:?}")
    };
    assert_eq!(
        (line.cause, line.bucket, line.quantity),
        ("direct", Bucket::Request, Some(1))
    );
    assert_eq!(
        (line.server.as_deref(), line.tool.as_deref()),
        (Some("web"), Some("search"))
    );
    assert_eq!(line.price_id.as_deref(), Some("acme:web/*"));
    check(&book, &tool("web", "search"), ["0.007", "0.007", "0.007", "0.007"]);
    assert_eq!(charge(&tool("github", "search"), &book, 0), Charge::default());

    // Without the bytes it is priced by, the call is unpriced and not free.
    let unpriced = charge(&tool("web", "fetch"), &book, 0);
    assert_eq!((unpriced.lines.len(), unpriced.own_cost), (1, None));
    let mut failed = tool("web", "fetch");
    failed.status = Status::Error;
    assert_eq!(charge(&failed, &book, 0), Charge::default());
    failed = tool("web", "search");
    (failed.status, failed.reported_cost) = (Status::Error, FemtoUsd::parse("0.5"));
    check(&book, &failed, ["0.007", "0.007", "0.007", "0.007"]);
    let reported_first = book.with_cost_order("reported,contract,list".parse().unwrap());
    check(&reported_first, &failed, ["0.007", "0.007", "0.5", "0.5"]);
}

#[test]
fn a_version_that_charges_the_same_leaves_the_line_alone() {
    let embedded = PriceBook::embedded().unwrap();
    let call = llm("openai", "gpt-4o", None);
    let other = book("model,discount_percent\nother,10\n");
    let lines = |book: &PriceBook| Lines::of(charge(&call, book, 7).lines);
    let changes = |book: &PriceBook| lines(&embedded).changes_to(&lines(book), b"", 8);
    assert!(changes(&other).is_empty());
    let contract = book("model,discount_percent\ngpt-4o,10\n");
    assert!(!changes(&contract).is_empty());
}
