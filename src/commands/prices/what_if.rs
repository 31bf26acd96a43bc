//! `prices what-if`: the calls of a lake, priced otherwise. Reads only; nothing is charged anew.
//!
//! Each call is priced by itself, because a tier and a time of day depend on the call. What a call costs now
//! is what the ledger charged; where it would cost something else, the cost that its record reported is of
//! no use and the price book's is taken. A call without a price on either side is left out of both sums and
//! counted, so that the difference compares like with like.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};
use spanledger_lake::Table;
use spanledger_lake::tables::calls;
use spanledger_ledger::allocation::{Target, UNALLOCATED};
use spanledger_ledger::charge::{billed_model, charge};
use spanledger_ledger::prices::{PriceBook, PriceQuery};
use spanledger_model::clock::SystemClock;
use spanledger_model::pattern::{Wildcards, fits};
use spanledger_model::{Call, Clock, FemtoUsd};
use spanledger_query::time::parse_instant;

use crate::cli::WhatIfArgs;
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output::{self, RowFormat, grouped};
use crate::prices::{book, book_of_version};

/// Dimensions to split by.
const DIMENSIONS: [&str; 14] = [
    "team",
    "project",
    "cost_center",
    "environment",
    "user_id",
    "agent",
    "client",
    "service",
    "session_id",
    "api_key",
    "provider",
    "model",
    "kind",
    "day",
];
const MEASURES: [&str; 6] = ["calls", "repriced", "old", "new", "difference", "not_comparable"];

/// Runs the command.
pub async fn run(args: &WhatIfArgs, config: &Config) -> anyhow::Result<Outcome> {
    let change = Change::new(args, config)?;
    for dimension in &args.by {
        if !DIMENSIONS.contains(&dimension.as_str()) {
            let known = DIMENSIONS.join(" ");
            return Err(fail(
                Kind::Invalid,
                format!("no dimension {dimension}; there are {known}"),
            ));
        }
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now_ns = clock.now_ns();
    let instant = |text: &Option<String>| text.as_deref().map(|text| parse_instant(text, now_ns)).transpose();
    let (since, until) = (instant(&args.since)?, instant(&args.until)?);
    let lake = crate::source::read_only(config.data(), clock).await?;
    let snapshot = lake.snapshot(Table::Calls)?;
    let mut groups: BTreeMap<Vec<Option<String>>, Tally> = BTreeMap::new();
    let tenant = config.tenant()?;
    for file in snapshot.files.iter().filter(|file| file.tenant == tenant) {
        let is_outside = file
            .max_time_us
            .zip(since)
            .is_some_and(|(last, since)| last.saturating_add(1) <= since / 1_000)
            || file
                .min_time_us
                .zip(until)
                .is_some_and(|(first, until)| first > until / 1_000);
        if is_outside {
            continue;
        }
        for batch in lake.read_file(Table::Calls, file, None).await? {
            for call in calls::from_batch(&batch) {
                let is_within =
                    since.is_none_or(|since| call.start_ns >= since) && until.is_none_or(|until| call.start_ns < until);
                if is_within && call.tenant.as_str() == tenant && change.is_about(&call) {
                    let key = args.by.iter().map(|dimension| value_of(&call, dimension)).collect();
                    groups.entry(key).or_default().add(&call, &change)?;
                }
            }
        }
    }
    write(args, &groups)?;
    Ok(Outcome::Done)
}

/// What would be otherwise.
struct Change {
    /// A pattern of models, and the model instead.
    models: Vec<(String, Option<String>)>,
    provider: Option<String>,
    processing: Option<String>,
    service_tier: Option<String>,
    /// True where only the price book differs, so that a reported cost still counts.
    is_book_only: bool,
    /// True for another version of the book, which tools' calls are charged by too.
    is_other_book: bool,
    book: Arc<PriceBook>,
}

impl Change {
    fn new(args: &WhatIfArgs, config: &Config) -> anyhow::Result<Self> {
        let models: Vec<(String, Option<String>)> = args
            .models
            .iter()
            .map(|rule| match rule.split_once('=') {
                Some((from, to)) => (from.trim().to_lowercase(), Some(to.trim().to_owned())),
                None => (rule.trim().to_lowercase(), None),
            })
            .collect();
        if models
            .iter()
            .any(|(from, to)| from.is_empty() || to.as_deref() == Some(""))
        {
            return Err(fail(
                Kind::Invalid,
                "cannot read --model; write A=B, such as claude-opus-4-5=claude-sonnet-4-5",
            ));
        }
        let is_call_changed = models.iter().any(|(_, to)| to.is_some())
            || args.provider.is_some()
            || args.processing.is_some()
            || args.service_tier.is_some();
        if !is_call_changed && args.book.is_none() {
            return Err(fail(
                Kind::Invalid,
                "nothing is to be otherwise; give --model A=B, --provider, --processing, --service-tier or --book",
            ));
        }
        Ok(Self {
            models,
            provider: args.provider.clone(),
            processing: args.processing.clone(),
            service_tier: args.service_tier.clone(),
            is_book_only: !is_call_changed,
            is_other_book: args.book.is_some(),
            book: match &args.book {
                Some(version) => book_of_version(config, version)?,
                None => book(config)?,
            },
        })
    }

    /// Calls that are charged, or would be by another book.
    fn is_about(&self, call: &Call) -> bool {
        call.kind.uses_a_model() || call.own_cost.is_some() || self.is_other_book && call.mcp.tool.is_some()
    }

    /// The call as it would be; `None` where it would be the same.
    fn apply(&self, call: &Call) -> Option<Call> {
        let names = [&call.model.response_model, &call.model.request_model];
        let names: Vec<String> = names.into_iter().flatten().map(|name| name.to_lowercase()).collect();
        let rule = self
            .models
            .iter()
            .find(|(from, _)| names.iter().any(|name| fits(from, name, Wildcards::StarAndMark)));
        if !self.models.is_empty() && rule.is_none() || !self.is_book_only && !call.kind.uses_a_model() {
            return None;
        }
        let mut call = call.clone();
        if self.is_book_only {
            return Some(call);
        }
        call.reported_cost = None;
        if let Some(provider) = &self.provider {
            call.model.provider = Some(provider.clone());
        }
        if let Some(model) = rule.and_then(|(_, to)| to.clone()) {
            call.model.response_model = Some(model.clone());
            call.model.request_model = None;
            let query = PriceQuery {
                provider: call.model.provider.as_deref(),
                model: &model,
                at_ns: call.start_ns,
                ..PriceQuery::default()
            };
            let is_known = self.book.resolve(&query).is_some() || self.book.resolve_contracted(&query, &[]).is_some();
            // Its own provider does not have the model: the model's name says who does.
            if !is_known && self.provider.is_none() {
                call.model.provider = None;
            }
        }
        let standard = |name: &String| Some(name.clone()).filter(|name| !name.eq_ignore_ascii_case("standard"));
        if let Some(processing) = &self.processing {
            call.model.processing = standard(processing);
            // Anthropic reports a batch as a service tier.
            call.model.service_tier = call
                .model
                .service_tier
                .filter(|tier| !tier.eq_ignore_ascii_case("batch"));
        }
        if let Some(tier) = &self.service_tier {
            call.model.service_tier = standard(tier);
        }
        Some(call)
    }
}

/// The sums of a group.
#[derive(Debug, Default)]
struct Tally {
    n_calls: i64,
    n_repriced: i64,
    /// Calls without a price on one side or both.
    n_not_comparable: i64,
    old: FemtoUsd,
    new: FemtoUsd,
}

impl Tally {
    fn add(&mut self, call: &Call, change: &Change) -> anyhow::Result<()> {
        self.n_calls += 1;
        let new = match change.apply(call) {
            Some(changed) => {
                self.n_repriced += 1;
                charge(&changed, &change.book, 0).own_cost
            }
            None => call.own_cost,
        };
        match (call.own_cost, new) {
            (Some(old), Some(new)) => {
                let out_of_range = || fail(Kind::Internal, "the sum of the costs is out of range");
                self.old = self.old.checked_add(old).ok_or_else(out_of_range)?;
                self.new = self.new.checked_add(new).ok_or_else(out_of_range)?;
            }
            // Neither costs nor would cost anything, such as a failed call without usage.
            (None, None) if !call.usage.is_chargeable() => {}
            _ => self.n_not_comparable += 1,
        }
        Ok(())
    }

    fn row(&self) -> Map<String, Value> {
        let text = |amount: FemtoUsd| Value::from(amount.to_string());
        [
            ("calls", Value::from(self.n_calls)),
            ("repriced", Value::from(self.n_repriced)),
            ("old", text(self.old)),
            ("new", text(self.new)),
            ("difference", text(self.new - self.old)),
            ("not_comparable", Value::from(self.n_not_comparable)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    fn plus(&mut self, other: &Self) {
        self.n_calls += other.n_calls;
        self.n_repriced += other.n_repriced;
        self.n_not_comparable += other.n_not_comparable;
        self.old += other.old;
        self.new += other.new;
    }
}

fn value_of(call: &Call, dimension: &str) -> Option<String> {
    let dimensions = &call.dimensions;
    let value = match dimension {
        "team" => dimensions.team.clone(),
        "project" => dimensions.project.clone(),
        "cost_center" => dimensions.cost_center.clone(),
        "environment" => dimensions.environment.clone(),
        "user_id" => dimensions.user_id.clone(),
        "agent" => dimensions.agent.clone(),
        "client" => dimensions.client.clone(),
        "service" => dimensions.service.clone(),
        "session_id" => dimensions.session_id.clone(),
        "api_key" => dimensions.api_key.clone(),
        "provider" => call.model.provider.clone(),
        "model" => billed_model(call).map(str::to_owned),
        "kind" => Some(call.kind.as_str().to_owned()),
        "day" => {
            let text = spanledger_query::time::format_instant(call.start_ns);
            text.split_once('T').map(|(day, _)| day.to_owned())
        }
        _ => None,
    };
    // As cost reports name it.
    let unallocated = || Target::parse(dimension).map(|_| UNALLOCATED.to_owned());
    value.or_else(unallocated)
}

fn write(args: &WhatIfArgs, groups: &BTreeMap<Vec<Option<String>>, Tally>) -> anyhow::Result<()> {
    let mut total = Tally::default();
    let mut rows = Vec::with_capacity(groups.len() + 1);
    for (key, tally) in groups {
        total.plus(tally);
        let mut row = tally.row();
        for (dimension, value) in args.by.iter().zip(key) {
            row.insert(dimension.clone(), value.clone().map_or(Value::Null, Value::from));
        }
        rows.push(Value::Object(row));
    }
    if groups.is_empty() && args.by.is_empty() {
        rows.push(Value::Object(total.row()));
    }
    let mut out = output::stdout();
    let columns: Vec<&str> = args.by.iter().map(String::as_str).chain(MEASURES).collect();
    if args.format != RowFormat::Table {
        return output::write_rows(&rows, &columns, args.format, &mut out);
    }
    if rows.len() > 1 {
        let mut row = total.row();
        for (index, dimension) in args.by.iter().enumerate() {
            row.insert(dimension.clone(), Value::from(if index == 0 { "total" } else { "" }));
        }
        rows.push(Value::Object(row));
    }
    output::write_rows(&rows, &columns, RowFormat::Table, &mut out)?;
    writeln!(
        out,
        "\nUSD, exact. Nothing was changed; old is what the ledger charged."
    )?;
    if total.n_not_comparable > 0 {
        let n_calls = grouped(total.n_not_comparable);
        writeln!(
            out,
            "{n_calls} calls have no price on one side or both and are in neither sum."
        )?;
    }
    Ok(())
}
