//! Reports: they add up to what `costs` tells in every format, names stay names, and each is for who made it.

use spanledger_access::{Principal, RowFilter};
use spanledger_lake::Table;
use spanledger_lake::tables::{calls, ledger_lines};
use spanledger_model::{Bucket, CallKind, FemtoUsd};
use spanledger_state::State;

mod paper;

use super::{Books, DAY_NS, Fixture, NOW_NS, RIVAL, call};
use crate::costs::CostRequest;
use crate::error::ErrorKind;
use crate::report::{Artefact, ReportRequest, Reports};

/// A team whose name wants to be a formula, a tag and another column.
const HOSTILE: &str = "=HYPERLINK(\"http://x\"),<script>alert(1)</script>|\u{202e}\r\nx";

async fn fixture() -> Fixture {
    let fixture = Fixture::filled().await;
    let mut books = Books {
        calls: Vec::new(),
        lines: Vec::new(),
    };
    books.add(
        call("default", 40, CallKind::Llm, NOW_NS - DAY_NS, HOSTILE),
        &[(Bucket::Output, 3, Some("0.000000000000007"))],
    );
    fixture.commit(Table::Calls, calls::to_batch(&books.calls)).await;
    fixture
        .commit(Table::Ledger, ledger_lines::to_batch(&books.lines))
        .await;
    fixture
}

async fn made(fixture: &Fixture, kind: &str, format: &str) -> Artefact {
    let request = ReportRequest::read(kind, "2026-11", Some(format), "", Vec::new()).unwrap();
    let principal = Principal::local();
    fixture.engine.report(&principal, &request, &|_, _| {}).await.unwrap()
}

/// What `costs` tells of the month.
async fn costs(fixture: &Fixture) -> FemtoUsd {
    let request = ReportRequest::read("costs", "2026-11", None, "", Vec::new()).unwrap();
    let request = CostRequest {
        since_ns: Some(request.since_ns()),
        until_ns: Some(request.until_ns()),
        ..CostRequest::default()
    };
    let report = fixture.engine.costs(&Principal::local(), &request).await.unwrap();
    report.total.cost.unwrap()
}

/// Records of RFC 4180, read by the grammar and not by our writer.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (true, '"') if characters.peek() == Some(&'"') => field.push(characters.next().unwrap()),
            (_, '"') => quoted = !quoted,
            (false, ',') => record.push(std::mem::take(&mut field)),
            (false, '\r') => assert_eq!(characters.peek(), Some(&'\n')),
            (false, '\n') => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            (_, other) => field.push(other),
        }
    }
    assert!(!quoted && record.is_empty(), "the last record is whole");
    records
}

fn sum<'c>(cells: impl Iterator<Item = &'c str>) -> FemtoUsd {
    cells
        .filter(|cell| !cell.is_empty())
        .map(|cell| FemtoUsd::parse(cell).unwrap())
        .sum()
}

#[tokio::test]
async fn every_table_of_a_statement_adds_up_to_the_costs_of_its_month() {
    let fixture = fixture().await;
    let expected = costs(&fixture).await;
    assert!(expected > FemtoUsd::parse("12.5").unwrap());
    let artefact = made(&fixture, "chargeback", "csv").await;
    assert_eq!(artefact.total, expected);
    let records = records(std::str::from_utf8(&artefact.bytes).unwrap());
    let width = records[0].len();
    let at = |name: &str| records[0].iter().position(|column| column == name).unwrap();
    let (cost, section, row) = (at("effective_cost"), at("section"), at("row"));
    for name in ["teams", "models", "tools", "prompts", "kinds", "token_kinds"] {
        let of = |what: &str| {
            let records = records
                .iter()
                .filter(|record| record[section] == name && record[row] == what);
            sum(records.map(|record| record[cost].as_str()))
        };
        assert_eq!((of("line"), of("total")), (expected, expected), "{name}");
    }
    assert!(records.iter().all(|record| record.len() == width));
    let json: serde_json::Value = serde_json::from_slice(&made(&fixture, "chargeback", "json").await.bytes).unwrap();
    let sections = json["sections"].as_object().unwrap();
    let teams = sections["teams"]["rows"].as_array().unwrap();
    assert_eq!(
        sum(teams.iter().filter_map(|row| row["effective_cost"].as_str())),
        expected
    );
    assert!(teams.iter().any(|row| row["team"] == "__unallocated__"), "{teams:?}");
    assert_eq!(sections["unpriced"]["total"]["unpriced_tokens"], 550, "{sections:?}");
    assert_eq!(json["facts"]["input sha256"].as_str().unwrap().len(), 64);
}

#[tokio::test]
async fn the_focus_rows_add_up_and_name_what_has_no_price() {
    let fixture = fixture().await;
    let expected = costs(&fixture).await;
    let artefact = made(&fixture, "focus", "csv").await;
    let records = records(std::str::from_utf8(&artefact.bytes).unwrap());
    let at = |name: &str| records[0].iter().position(|column| column == name).unwrap();
    for column in ["BilledCost", "EffectiveCost"] {
        let cells = records[1..].iter().map(|record| record[at(column)].as_str());
        assert_eq!(sum(cells), expected, "{column}");
    }
    let unpriced: Vec<_> = records[1..]
        .iter()
        .filter(|record| record[at("x_Unpriced")] == "true")
        .collect();
    assert_eq!(unpriced.len(), 2);
    assert!(unpriced.iter().all(|record| record[at("ListUnitPrice")].is_empty()));
    for record in &records[1..] {
        assert_eq!(
            record[at("SkuPriceId")].is_empty(),
            record[at("SkuPriceDetails")].is_empty(),
            "{record:?}"
        );
        let decimal = |name| FemtoUsd::parse(&record[at(name)]).unwrap();
        assert_eq!(decimal("PricingQuantity").0 * 1_000_000, decimal("ConsumedQuantity").0);
        assert_eq!(record[at("BillingPeriodStart")], "2026-11-01T00:00:00Z");
    }
    assert!(made(&fixture, "focus", "parquet").await.bytes.starts_with(b"PAR1"));
}

#[tokio::test]
async fn a_hostile_name_stays_a_name_in_every_format() {
    let fixture = fixture().await;
    for kind in ["chargeback", "focus"] {
        let csv = made(&fixture, kind, "csv").await.bytes;
        for cell in records(std::str::from_utf8(&csv).unwrap()).iter().flatten() {
            assert!(!cell.trim_start().starts_with(['=', '@', '+']), "{cell}");
            assert!(!cell.contains(['\u{202e}', '\n']), "{cell}");
        }
    }
    let html = String::from_utf8(made(&fixture, "chargeback", "html").await.bytes).unwrap();
    assert!(
        html.contains("&lt;script&gt;alert(1)") && !html.contains("<script"),
        "{html}"
    );
    let markdown = String::from_utf8(made(&fixture, "chargeback", "markdown").await.bytes).unwrap();
    assert!(!markdown.contains("<script") && !markdown.contains(")</"), "{markdown}");
}

#[tokio::test]
async fn a_report_is_for_who_made_it_and_for_nobody_else() {
    let fixture = fixture().await;
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path()).await.unwrap();
    let reports = Reports::new(state, folder.path().join("reports"));
    let artefact = made(&fixture, "chargeback", "xlsx").await;
    let owner = Principal::local();
    let kept = reports.keep(&owner, &artefact, NOW_NS).await.unwrap();
    assert_eq!(kept.id.len(), 32);
    let (_, bytes) = reports.read(&owner, &kept.id, NOW_NS).await.unwrap();
    assert_eq!(bytes, artefact.bytes);
    let unknown = reports.read(&owner, &"0".repeat(32), NOW_NS).await.unwrap_err();
    let of_rival = reports
        .read(&Principal::local_of(RIVAL), &kept.id, NOW_NS)
        .await
        .unwrap_err();
    let reader = owner
        .clone()
        .with_client_id(Some("another-client"))
        .narrowed_to(spanledger_access::Scopes::of(&[spanledger_access::Scope::CostsRead]));
    let of_reader = reports.read(&reader, &kept.id, NOW_NS).await.unwrap_err();
    for refused in [&of_rival, &of_reader] {
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert_eq!(refused.message(), unknown.message());
    }
    assert!(reports.list(&reader, NOW_NS).await.unwrap().is_empty());
    // whose view became another, by a claim or a role, is not who made it
    let teams = RowFilter::new([("team".to_owned(), vec!["search".to_owned()])]).unwrap();
    let narrower = owner.clone().with_rows(teams);
    assert!(reports.read(&narrower, &kept.id, NOW_NS).await.is_err());
    assert!(reports.list(&narrower, NOW_NS).await.unwrap().is_empty());
    assert_eq!(reports.list(&owner, NOW_NS).await.unwrap().len(), 1);
    // Who may read it may delete it; nobody else, and not twice.
    let second = reports.keep(&owner, &artefact, NOW_NS).await.unwrap();
    assert!(reports.delete(&reader, &second.id, NOW_NS).await.is_err());
    assert!(folder.path().join("reports").join(&second.id).exists());
    reports.delete(&owner, &second.id, NOW_NS).await.unwrap();
    assert!(!folder.path().join("reports").join(&second.id).exists());
    assert_eq!(
        reports.delete(&owner, &second.id, NOW_NS).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    // After its time it is gone, and the next one clears it away.
    let later = NOW_NS + 31 * DAY_NS;
    assert!(reports.read(&owner, &kept.id, later).await.is_err());
    assert!(folder.path().join("reports").join(&kept.id).exists());
    assert_eq!(reports.clear(later).await.unwrap(), 1);
    assert!(!folder.path().join("reports").join(&kept.id).exists());
}
