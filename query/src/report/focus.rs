//! The month's charges as rows of FOCUS 1.2, Cost and Usage.
//!
//! One row is a day, whose (team, project, environment, cost centre, service), a model and a kind of tokens at one
//! price, and what caused it (`x_Server`, `x_Tool`, `x_Prompt`, `x_Cause`). Each kind of tokens is a SKU of its own.
//! Every column of the version is there, null where it does not apply; ours come last and begin with `x_`.
//!
//! FOCUS demands a cost in every row, so usage without a price has 0 and `x_Unpriced` true. `ListUnitPrice` is the
//! list cost of the row by its quantity: where a price has tiers or times of day, the average of the row's calls.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Schema};
use serde_json::{Map, Value};
use spanledger_access::Principal;
use spanledger_lake::tables::codec::Encoder;
use spanledger_model::FemtoUsd;

use super::document::{Cell, harmless};
use super::statement::{day_ns, kind_join, options};
use super::write::{csv_value, push_line};
use super::{Artefact, NOTHING, ReportFormat, ReportRequest, TOP_LINES};
use crate::costs::{CURRENCY, conditions, on_ledger};
use crate::engine::{ResultSet, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Format, write};
use crate::limits::ROWS_MAX;
use crate::rows::{Row, rows};
use crate::time::format_instant;

const TOKENS: &str = "Tokens";
const MILLION_TOKENS: &str = "1000000 Tokens";
const REQUESTS: &str = "Requests";
const UNKNOWN: &str = "(unknown)";

/// A value of a column.
enum Is {
    Null,
    Text(String),
    Decimal(FemtoUsd),
    Time(i64),
    Flag(bool),
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Of {
    Text,
    Decimal,
    Time,
    Flag,
}

/// A row of the ledger, summed.
struct Charge {
    day_ns: i64,
    team: Option<String>,
    tags: String,
    provider: Option<String>,
    model: Option<String>,
    bucket: String,
    server: Option<String>,
    tool: Option<String>,
    prompt: Option<String>,
    cause: Option<String>,
    price_id: Option<String>,
    is_correction: bool,
    is_unpriced: bool,
    tokens: Option<i64>,
    quantity: Option<i64>,
    list: Option<FemtoUsd>,
    contracted: Option<FemtoUsd>,
    effective: FemtoUsd,
}

/// Of the whole file.
struct Around {
    tenant: String,
    from_ns: i64,
    until_ns: i64,
}

type Column = (&'static str, Of, fn(&Charge, &Around) -> Is);

/// The columns of FOCUS 1.2 in the order of the specification, then ours.
const COLUMNS: [Column; 62] = [
    ("AvailabilityZone", Of::Text, |_, _| Is::Null),
    ("BilledCost", Of::Decimal, |row, _| Is::Decimal(row.effective)),
    ("BillingAccountId", Of::Text, |_, of| Is::Text(of.tenant.clone())),
    ("BillingAccountName", Of::Text, |_, of| Is::Text(of.tenant.clone())),
    ("BillingAccountType", Of::Text, |_, _| text("Tenant")),
    ("BillingCurrency", Of::Text, |_, _| text(CURRENCY)),
    ("BillingPeriodEnd", Of::Time, |_, of| Is::Time(of.until_ns)),
    ("BillingPeriodStart", Of::Time, |_, of| Is::Time(of.from_ns)),
    ("CapacityReservationId", Of::Text, |_, _| Is::Null),
    ("CapacityReservationStatus", Of::Text, |_, _| Is::Null),
    ("ChargeCategory", Of::Text, |_, _| text("Usage")),
    ("ChargeClass", Of::Text, |row, _| {
        if row.is_correction {
            text("Correction")
        } else {
            Is::Null
        }
    }),
    ("ChargeDescription", Of::Text, |row, _| Is::Text(description(row))),
    ("ChargeFrequency", Of::Text, |_, _| text("Usage-Based")),
    ("ChargePeriodEnd", Of::Time, |row, _| {
        Is::Time(row.day_ns.saturating_add(crate::time::DAY_NS))
    }),
    ("ChargePeriodStart", Of::Time, |row, _| Is::Time(row.day_ns)),
    ("CommitmentDiscountCategory", Of::Text, |_, _| Is::Null),
    ("CommitmentDiscountId", Of::Text, |_, _| Is::Null),
    ("CommitmentDiscountName", Of::Text, |_, _| Is::Null),
    ("CommitmentDiscountQuantity", Of::Decimal, |_, _| Is::Null),
    ("CommitmentDiscountStatus", Of::Text, |_, _| Is::Null),
    ("CommitmentDiscountType", Of::Text, |_, _| Is::Null),
    ("CommitmentDiscountUnit", Of::Text, |_, _| Is::Null),
    ("ConsumedQuantity", Of::Decimal, |row, _| decimal(consumed(row))),
    ("ConsumedUnit", Of::Text, |row, _| {
        text(if row.tokens.is_some() { TOKENS } else { REQUESTS })
    }),
    ("ContractedCost", Of::Decimal, |row, _| Is::Decimal(contracted(row))),
    ("ContractedUnitPrice", Of::Decimal, |row, _| {
        decimal(row.contracted.and_then(|cost| unit_price(cost, row)))
    }),
    ("EffectiveCost", Of::Decimal, |row, _| Is::Decimal(row.effective)),
    ("InvoiceId", Of::Text, |_, _| Is::Null),
    ("InvoiceIssuerName", Of::Text, |row, _| Is::Text(provider(row))),
    ("ListCost", Of::Decimal, |row, _| Is::Decimal(list(row))),
    ("ListUnitPrice", Of::Decimal, |row, _| {
        decimal(row.list.and_then(|cost| unit_price(cost, row)))
    }),
    ("PricingCategory", Of::Text, |_, _| text("Standard")),
    ("PricingCurrency", Of::Text, |_, _| text(CURRENCY)),
    ("PricingCurrencyContractedUnitPrice", Of::Decimal, |row, _| {
        decimal(row.contracted.and_then(|cost| unit_price(cost, row)))
    }),
    ("PricingCurrencyEffectiveCost", Of::Decimal, |row, _| {
        Is::Decimal(row.effective)
    }),
    ("PricingCurrencyListUnitPrice", Of::Decimal, |row, _| {
        decimal(row.list.and_then(|cost| unit_price(cost, row)))
    }),
    ("PricingQuantity", Of::Decimal, |row, _| decimal(priced_quantity(row))),
    ("PricingUnit", Of::Text, |row, _| {
        text(if row.tokens.is_some() { MILLION_TOKENS } else { REQUESTS })
    }),
    ("ProviderName", Of::Text, |row, _| Is::Text(provider(row))),
    ("PublisherName", Of::Text, |row, _| Is::Text(provider(row))),
    ("RegionId", Of::Text, |_, _| Is::Null),
    ("RegionName", Of::Text, |_, _| Is::Null),
    ("ResourceId", Of::Text, |row, _| Is::Text(sku(row))),
    ("ResourceName", Of::Text, |row, _| Is::Text(resource(row))),
    ("ResourceType", Of::Text, |row, _| {
        text(if row.model.is_some() { "Model" } else { "Tool" })
    }),
    ("ServiceCategory", Of::Text, |_, _| text("AI and Machine Learning")),
    ("ServiceName", Of::Text, |row, _| Is::Text(provider(row))),
    ("ServiceSubcategory", Of::Text, |_, _| text("Generative AI")),
    ("SkuId", Of::Text, |row, _| Is::Text(sku(row))),
    ("SkuMeter", Of::Text, |row, _| Is::Text(row.bucket.clone())),
    // Null where there is no price to detail: rule SkuPriceDetails-C-004-C of the official validator.
    ("SkuPriceDetails", Of::Text, |row, _| match row.price_id {
        Some(_) => Is::Text(serde_json::json!({ "x_TokenKind": row.bucket }).to_string()),
        None => Is::Null,
    }),
    ("SkuPriceId", Of::Text, |row, _| {
        let id = row
            .price_id
            .as_deref()
            .map(|id| format!("{}/{}", harmless(id), row.bucket));
        id.map_or(Is::Null, Is::Text)
    }),
    ("SubAccountId", Of::Text, |row, _| optional(row.team.as_deref())),
    ("SubAccountName", Of::Text, |row, _| optional(row.team.as_deref())),
    ("SubAccountType", Of::Text, |row, _| {
        if row.team.is_some() { text("Team") } else { Is::Null }
    }),
    ("Tags", Of::Text, |row, _| Is::Text(row.tags.clone())),
    ("x_Cause", Of::Text, |row, _| optional(row.cause.as_deref())),
    ("x_Prompt", Of::Text, |row, _| optional(row.prompt.as_deref())),
    ("x_Server", Of::Text, |row, _| optional(row.server.as_deref())),
    ("x_Tool", Of::Text, |row, _| optional(row.tool.as_deref())),
    ("x_Unpriced", Of::Flag, |row, _| Is::Flag(row.is_unpriced)),
];

/// Tags of a row, and their columns.
const TAGS: [&str; 5] = ["team", "project", "environment", "cost_center", "service"];

/// Makes the export. `told` is called with steps done, and steps in all.
pub(super) async fn focus(
    session: &Session,
    principal: &Principal,
    request: &ReportRequest,
    file_name: String,
    told: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<Artefact> {
    const N_STEPS: u64 = 3;
    let asked = request.cost_request(Vec::new());
    let keys = "l.day, l.team, l.project, l.environment, l.cost_center, l.service, l.provider, l.model, l.bucket, l.server, \
                l.tool, l.prompt, l.cause, l.price_id, l.line_kind = 'correction' AS is_correction, \
                l.effective_cost IS NULL AS is_unpriced";
    let group = (1..=16).map(|column| column.to_string()).collect::<Vec<_>>().join(", ");
    let join = kind_join(&asked, &[]);
    let conditions = conditions(&asked, "l.time", &on_ledger);
    // What was charged and taken back leaves nothing behind.
    let sql = format!(
        "SELECT {keys}, SUM(l.tokens) AS tokens, SUM(l.quantity) AS quantity, SUM(l.list_cost) AS list_cost, \
         SUM(COALESCE(l.contracted_cost, l.list_cost)) AS contracted_cost, SUM(l.effective_cost) AS effective_cost \
         FROM ledger l{join}{conditions} GROUP BY {group} \
         HAVING COALESCE(SUM(l.tokens), 0) <> 0 OR COALESCE(SUM(l.quantity), 0) <> 0 OR COALESCE(SUM(l.effective_cost), 0) <> 0 \
         ORDER BY {group}"
    );
    let answer = session.query(&sql, &options()).await?;
    if answer.truncated {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the export has over {ROWS_MAX} rows; filter it, by team for one"),
        ));
    }
    told(1, N_STEPS);
    let charges: Vec<Charge> = rows(&answer).map(charge).collect();
    let whole = format!("SELECT SUM(l.effective_cost) AS cost FROM ledger l{join}{conditions}");
    let whole = session.query(&whole, &options()).await?;
    let whole = rows(&whole).next().and_then(|row| row.cost("cost")).unwrap_or_default();
    let total: FemtoUsd = charges.iter().map(|charge| charge.effective).sum();
    if total != whole {
        return Err(Error::internal(
            "the rows of the export do not add up to the total; it was not made",
        ));
    }
    told(2, N_STEPS);
    let around = Around {
        tenant: harmless(principal.tenant().as_str()),
        from_ns: request.since_ns(),
        until_ns: request.until_ns(),
    };
    let bytes = match request.format {
        ReportFormat::Parquet => parquet(&charges, &around)?,
        _ => csv(&charges, &around),
    };
    told(N_STEPS, N_STEPS);
    let mut largest: Vec<&Charge> = charges.iter().collect();
    largest.sort_by_key(|charge| std::cmp::Reverse(charge.effective));
    let top = largest.into_iter().take(TOP_LINES).map(|charge| {
        let names = [
            format_instant(charge.day_ns).get(..10).unwrap_or_default().to_owned(),
            charge.team.clone().unwrap_or_default(),
            sku(charge),
            charge.bucket.clone(),
        ];
        (names.to_vec(), (!charge.is_unpriced).then_some(charge.effective))
    });
    let mut notes = vec![
        "FOCUS 1.2, usage only: shared costs, which are no usage, are in the chargeback statement".to_owned(),
        "rows with x_Unpriced = true have no price; their costs are 0 because FOCUS demands a number".to_owned(),
    ];
    if charges.is_empty() {
        notes.insert(0, NOTHING.to_owned());
    }
    Ok(Artefact {
        kind: request.kind,
        title: format!("FOCUS 1.2 {}", request.period),
        file_name,
        format: request.format,
        top: top.collect(),
        total,
        n_rows: charges.len(),
        bytes,
        notes,
        top_columns: vec!["day", "team", "sku", "token_kind", "effective_cost"],
    })
}

fn charge(row: Row<'_>) -> Charge {
    let name = |column: &str| row.text(column).map(|text| harmless(&text));
    let tags = TAGS
        .iter()
        .filter_map(|tag| Some(((*tag).to_owned(), Value::from(name(tag)?))));
    let is = |column: &str| row.text(column).as_deref() == Some("true");
    Charge {
        day_ns: row
            .text("day")
            .and_then(|day| day.parse::<chrono::NaiveDate>().ok())
            .map_or(0, |day| {
                day_ns(day.signed_duration_since(chrono::NaiveDate::default()).num_days())
            }),
        team: name("team"),
        tags: Value::Object(tags.collect::<Map<String, Value>>()).to_string(),
        provider: name("provider"),
        model: name("model"),
        bucket: row.text("bucket").unwrap_or_default(),
        server: name("server"),
        tool: name("tool"),
        prompt: name("prompt"),
        cause: row.text("cause"),
        price_id: row.text("price_id"),
        is_correction: is("is_correction"),
        is_unpriced: is("is_unpriced"),
        tokens: row.int("tokens"),
        quantity: row.int("quantity"),
        list: row.cost("list_cost"),
        contracted: row.cost("contracted_cost"),
        effective: row.cost("effective_cost").unwrap_or_default(),
    }
}

fn text(text: &str) -> Is {
    Is::Text(text.to_owned())
}

fn optional(text: Option<&str>) -> Is {
    text.map_or(Is::Null, |text| Is::Text(text.to_owned()))
}

fn decimal(value: Option<FemtoUsd>) -> Is {
    value.map_or(Is::Null, Is::Decimal)
}

fn provider(row: &Charge) -> String {
    row.provider
        .clone()
        .or_else(|| row.server.clone())
        .unwrap_or_else(|| UNKNOWN.to_owned())
}

fn resource(row: &Charge) -> String {
    row.model
        .clone()
        .or_else(|| row.tool.clone())
        .unwrap_or_else(|| UNKNOWN.to_owned())
}

fn sku(row: &Charge) -> String {
    format!("{}/{}", provider(row), resource(row))
}

fn description(row: &Charge) -> String {
    let what = format!("{} {}", resource(row), row.bucket.replace('_', " "));
    if row.is_unpriced {
        format!("{what}, no price known")
    } else {
        what
    }
}

/// FOCUS has no row without a list cost: what only a report or a contract prices is listed at that.
fn list(row: &Charge) -> FemtoUsd {
    row.list.unwrap_or(row.effective)
}

fn contracted(row: &Charge) -> FemtoUsd {
    row.contracted.unwrap_or(row.effective)
}

fn whole(count: i64) -> Option<FemtoUsd> {
    FemtoUsd::ONE_USD.0.checked_mul(i128::from(count)).map(FemtoUsd)
}

fn consumed(row: &Charge) -> Option<FemtoUsd> {
    row.tokens.or(row.quantity).and_then(whole)
}

/// Millions of tokens, or requests.
fn priced_quantity(row: &Charge) -> Option<FemtoUsd> {
    match row.tokens {
        Some(tokens) => whole(tokens).map(|tokens| FemtoUsd(tokens.0 / 1_000_000)),
        None => row.quantity.and_then(whole),
    }
}

/// USD for a unit of `PricingQuantity`.
fn unit_price(cost: FemtoUsd, row: &Charge) -> Option<FemtoUsd> {
    let (count, of) = match (row.tokens, row.quantity) {
        (Some(tokens), _) => (tokens, 1_000_000),
        (None, Some(quantity)) => (quantity, 1),
        (None, None) => return None,
    };
    (count != 0).then_some(())?;
    Some(FemtoUsd(cost.0.checked_mul(of)? / i128::from(count)))
}

fn csv(charges: &[Charge], around: &Around) -> Vec<u8> {
    let mut text = String::new();
    push_line(&mut text, COLUMNS.iter().map(|(name, ..)| (*name).to_owned()));
    for charge in charges {
        let cell = |(_, _, value): &Column| match value(charge, around) {
            Is::Null => String::new(),
            Is::Text(text) => csv_value(&Cell::Text(text)),
            Is::Decimal(value) => value.to_string(),
            Is::Time(ns) => format_instant(ns),
            Is::Flag(flag) => flag.to_string(),
        };
        push_line(&mut text, COLUMNS.iter().map(cell));
    }
    text.into_bytes()
}

fn parquet(charges: &[Charge], around: &Around) -> Result<Vec<u8>> {
    let (mut fields, mut columns): (Vec<Field>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
    for (name, of, value) in COLUMNS {
        let values = charges.iter().map(|charge| value(charge, around));
        let column: ArrayRef = match of {
            Of::Text => {
                let texts = values.map(|value| if let Is::Text(text) = value { Some(text) } else { None });
                Arc::new(texts.collect::<StringArray>())
            }
            Of::Time => {
                let times = values.map(|value| {
                    if let Is::Time(ns) = value {
                        Some(ns / 1_000)
                    } else {
                        None
                    }
                });
                Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
            }
            Of::Flag => {
                let flags = values.map(|value| if let Is::Flag(flag) = value { Some(flag) } else { None });
                Arc::new(flags.collect::<BooleanArray>())
            }
            Of::Decimal => {
                let decimals: Vec<Option<FemtoUsd>> = values
                    .map(|value| {
                        if let Is::Decimal(value) = value {
                            Some(value)
                        } else {
                            None
                        }
                    })
                    .collect();
                let mut encoder = Encoder::default();
                encoder.money(name, decimals.into_iter());
                let batch = encoder.finish();
                Arc::clone(batch.column(0))
            }
        };
        fields.push(Field::new(name, column.data_type().clone(), true));
        columns.push(column);
    }
    let schema = Arc::new(Schema::new(fields));
    let result = ResultSet {
        batches: vec![RecordBatch::try_new(Arc::clone(&schema), columns)?],
        schema,
        truncated: false,
    };
    let mut bytes = Vec::new();
    write(&result, Format::Parquet, &mut bytes)?;
    Ok(bytes)
}
