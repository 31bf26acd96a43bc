//! What calls would have cost otherwise: another model, provider, region, batch, cache or price, over history.
//!
//! Reads the committed calls in sight of a principal, prices each by itself (a tier and a time of day depend on the
//! call) by the price engine that settlement charges by, and sums both costs. What a call costs now is what the ledger
//! charged; where it would cost something else, the cost that its record reported is of no use and the price book's is
//! taken.
//!
//! Guarantee: rows and *other* sum to the total, exactly, and old and new are sums over the same calls. A call without
//! a price on either side is in neither sum, is counted, and its model is named; where nothing prices what was asked for
//! (a batch, a region, a cache) and the price stays, that is said too: a difference of 0 is never a silent one. Nothing
//! is stored or charged anew.

mod scenario;
mod unchanged;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use spanledger_access::Principal;
use spanledger_lake::tables::calls;
use spanledger_lake::{DataFile, Table};
use spanledger_ledger::allocation::{Target, UNALLOCATED};
use spanledger_ledger::charge::billed_model;
use spanledger_model::{Call, FemtoUsd};

use crate::costs::{CURRENCY, Dimension};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{COST_DIMENSIONS_MAX, COST_GROUPS_DEFAULT, COST_GROUPS_MAX, WHAT_IF_SCENARIOS_MAX};
use crate::report::document::harmless;
use crate::time::format_instant;

use scenario::Change;
pub use scenario::Scenario;
use unchanged::Seen;
pub use unchanged::{Asked, Unchanged};

/// Models without a price that are named.
const UNPRICED_NAMED_MAX: usize = 20;

/// A question.
#[derive(Debug, Clone, Default)]
pub struct WhatIfRequest {
    /// What would be otherwise, each by itself.
    pub scenarios: Vec<Scenario>,
    /// Dimensions of calls to split by.
    pub by: Vec<Dimension>,
    /// First instant, nanoseconds since the Unix epoch.
    pub since_ns: Option<i64>,
    /// First instant that is no more in it.
    pub until_ns: Option<i64>,
    /// Only calls whose dimension has one of the values; `None` stands for calls without a value.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Rows of each scenario at most; the rest is summed up in *other*. 0 takes the default.
    pub limit: usize,
}

/// The sums of a group of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls that are charged or would be.
    pub calls: i64,
    /// Of them, those that would be otherwise.
    pub repriced: i64,
    /// Calls without a price on one side or both: in neither sum.
    pub not_comparable: i64,
    /// What they cost, USD.
    pub old: FemtoUsd,
    /// What they would have cost, USD.
    pub new: FemtoUsd,
}

impl Tally {
    fn plus(&mut self, other: &Self) -> Result<()> {
        let sum = |a: FemtoUsd, b| {
            a.checked_add(b)
                .ok_or_else(|| Error::internal("the sum of the costs is out of range"))
        };
        self.calls += other.calls;
        self.repriced += other.repriced;
        self.not_comparable += other.not_comparable;
        self.old = sum(self.old, other.old)?;
        self.new = sum(self.new, other.new)?;
        Ok(())
    }

    /// What it would have cost more (or, negative, less).
    #[must_use]
    pub fn difference(&self) -> FemtoUsd {
        self.new - self.old
    }

    fn serialize_to<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        map.serialize_entry("calls", &self.calls)?;
        map.serialize_entry("repriced", &self.repriced)?;
        map.serialize_entry("old", &self.old.to_string())?;
        map.serialize_entry("new", &self.new.to_string())?;
        map.serialize_entry("difference", &self.difference().to_string())?;
        map.serialize_entry("not_comparable", &self.not_comparable)
    }
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.serialize_to(&mut map)?;
        map.end()
    }
}

/// One group of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIfRow {
    /// Values of the dimensions, in their order.
    pub keys: Vec<Option<String>>,
    /// Its sums.
    pub tally: Tally,
}

/// Usage that no price was found for, in what is or in what would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unpriced {
    /// Provider as it would be called.
    pub provider: Option<String>,
    /// Model as it would be called.
    pub model: Option<String>,
    /// Calls.
    pub calls: i64,
    /// Input and output tokens.
    pub tokens: i64,
}

/// What a scenario comes to.
#[derive(Debug, Clone)]
pub struct ScenarioResult {
    /// Its name.
    pub name: String,
    /// Groups, dearest first.
    pub rows: Vec<WhatIfRow>,
    /// What the limit cut off.
    pub other: Option<Tally>,
    /// Everything: the rows and *other* sum to it.
    pub total: Tally,
    /// Models without a price, most calls first.
    pub unpriced: Vec<Unpriced>,
    /// What was asked for and changes no price, most calls first.
    pub unchanged: Vec<Unchanged>,
    /// Patterns of models that fit no call.
    pub unmatched: Vec<String>,
    caveats: Vec<&'static str>,
}

impl ScenarioResult {
    /// What its reader has to know. Names of telemetry go through `shown`.
    #[must_use]
    pub fn notes(&self, shown: impl Fn(&str) -> String) -> Vec<String> {
        let mut notes = unchanged::notes(&self.unchanged, &shown);
        for pattern in &self.unmatched {
            notes.push(format!("no call is of a model like {}", shown(pattern)));
        }
        if self.total.calls == 0 {
            notes.push("there are no calls of models in this time under these filters".to_owned());
        } else if self.total.repriced == 0 && self.unmatched.is_empty() {
            notes.push("the scenario is about none of these calls: nothing is otherwise".to_owned());
        }
        notes.extend(self.caveats.iter().map(|caveat| (*caveat).to_owned()));
        notes
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct WhatIfReport {
    /// Dimensions it is split by.
    pub by: Vec<Dimension>,
    /// First instant.
    pub since_ns: Option<i64>,
    /// First instant that is no more in it.
    pub until_ns: Option<i64>,
    /// The scenarios, in the order of the question.
    pub scenarios: Vec<ScenarioResult>,
}

struct NamedRow<'r>(&'r [Dimension], &'r WhatIfRow);

impl Serialize for NamedRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (dimension, value) in self.0.iter().zip(&self.1.keys) {
            map.serialize_entry(dimension.name(), value)?;
        }
        self.1.tally.serialize_to(&mut map)?;
        map.end()
    }
}

struct NamedScenario<'r>(&'r [Dimension], &'r ScenarioResult);

impl Serialize for NamedScenario<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let scenario = self.1;
        let rows: Vec<NamedRow<'_>> = scenario.rows.iter().map(|row| NamedRow(self.0, row)).collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &scenario.name)?;
        map.serialize_entry("rows", &rows)?;
        map.serialize_entry("other", &scenario.other)?;
        map.serialize_entry("total", &scenario.total)?;
        map.serialize_entry("unpriced", &scenario.unpriced)?;
        map.serialize_entry("unchanged", &scenario.unchanged)?;
        map.serialize_entry("notes", &scenario.notes(harmless))?;
        map.end()
    }
}

impl Serialize for WhatIfReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let scenarios: Vec<NamedScenario<'_>> = self
            .scenarios
            .iter()
            .map(|scenario| NamedScenario(&self.by, scenario))
            .collect();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("since", &self.since_ns.map(format_instant))?;
        map.serialize_entry("until", &self.until_ns.map(format_instant))?;
        map.serialize_entry("currency", CURRENCY)?;
        map.serialize_entry(
            "by",
            &self.by.iter().map(|dimension| dimension.name()).collect::<Vec<_>>(),
        )?;
        map.serialize_entry("scenarios", &scenarios)?;
        map.end()
    }
}

type Groups = BTreeMap<Vec<Option<String>>, Tally>;

/// The sums of a scenario so far.
#[derive(Debug, Default)]
struct Sums {
    groups: Groups,
    unpriced: HashMap<(Option<String>, Option<String>), (i64, i64)>,
    unchanged: Seen,
    /// Of each rule on models, whether it fits a call.
    fits: Vec<bool>,
}

/// What is asked of each call; shared with the threads that price.
struct Question {
    changes: Vec<Change>,
    by: Vec<Dimension>,
    since_ns: Option<i64>,
    until_ns: Option<i64>,
    filters: Vec<(Dimension, Vec<Option<String>>)>,
    principal: Principal,
    now_ns: i64,
}

impl Question {
    fn is_in_sight(&self, call: &Call) -> bool {
        let dimensions = &call.dimensions;
        let mut conditions = self.principal.rows().conditions();
        call.tenant == *self.principal.tenant()
            && conditions.all(|(column, allowed)| {
                let value = match column {
                    "team" => &dimensions.team,
                    "project" => &dimensions.project,
                    "environment" => &dimensions.environment,
                    _ => &None,
                };
                value.as_ref().is_some_and(|value| allowed.contains(value))
            })
    }

    fn is_asked(&self, call: &Call) -> bool {
        self.since_ns.is_none_or(|since| call.start_ns >= since)
            && self.until_ns.is_none_or(|until| call.start_ns < until)
            && self.is_in_sight(call)
            && self.filters.iter().all(|(dimension, wanted)| {
                let value = value_of(call, *dimension);
                let is_missing = value.is_none() || is_allocated(*dimension) && value.as_deref() == Some(UNALLOCATED);
                wanted.iter().any(|wanted| match wanted {
                    Some(wanted) => value.as_ref() == Some(wanted),
                    None => is_missing,
                })
            })
    }

    fn add(&self, call: &Call, sums: &mut [Sums]) -> Result<()> {
        if !self.is_asked(call) {
            return Ok(());
        }
        let keys: Vec<Option<String>> = self.by.iter().map(|dimension| value_of(call, *dimension)).collect();
        for (change, sums) in self.changes.iter().zip(sums) {
            if !change.is_about(call) {
                continue;
            }
            let mut tally = Tally {
                calls: 1,
                ..Tally::default()
            };
            let repriced = change.reprice(call);
            let new = match &repriced {
                Some(repriced) => {
                    tally.repriced = 1;
                    if let Some(fits) = repriced.rule.and_then(|rule| sums.fits.get_mut(rule)) {
                        *fits = true;
                    }
                    if repriced.cost.is_some() {
                        sums.unchanged.add(change, call, &repriced.call, self.now_ns);
                    }
                    repriced.cost
                }
                None => call.own_cost,
            };
            match (call.own_cost, new) {
                (Some(old), Some(new)) => (tally.old, tally.new) = (old, new),
                // Neither costs nor would cost anything, such as a failed call without usage.
                (None, None) if !call.usage.is_chargeable() => {}
                _ => {
                    tally.not_comparable = 1;
                    let named = repriced.as_ref().map_or(call, |repriced| &repriced.call);
                    let key = (named.model.provider.clone(), billed_model(named).map(str::to_owned));
                    if sums.unpriced.len() < COST_GROUPS_MAX || sums.unpriced.contains_key(&key) {
                        let (calls, tokens) = sums.unpriced.entry(key).or_default();
                        *calls += 1;
                        *tokens += call
                            .usage
                            .input
                            .unwrap_or(0)
                            .saturating_add(call.usage.output.unwrap_or(0));
                    }
                }
            }
            if sums.groups.len() >= COST_GROUPS_MAX && !sums.groups.contains_key(&keys) {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the answer has over {COST_GROUPS_MAX} groups; split by less"),
                ));
            }
            sums.groups.entry(keys.clone()).or_default().plus(&tally)?;
        }
        Ok(())
    }
}

fn is_allocated(dimension: Dimension) -> bool {
    Target::parse(dimension.name()).is_some()
}

/// A dimension of a call, as cost reports name it.
fn value_of(call: &Call, dimension: Dimension) -> Option<String> {
    let dimensions = &call.dimensions;
    let value = match dimension.name() {
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
        "server" => call.mcp.server.clone(),
        "tool" => call.mcp.tool.clone(),
        "prompt" => call.mcp.prompt.clone(),
        "resource_uri" => call.mcp.resource_uri.clone(),
        "kind" => Some(call.kind.as_str().to_owned()),
        "day" => format_instant(call.start_ns).get(..10).map(str::to_owned),
        _ => None,
    };
    value.or_else(|| is_allocated(dimension).then(|| UNALLOCATED.to_owned()))
}

fn is_outside(file: &DataFile, since_ns: Option<i64>, until_ns: Option<i64>) -> bool {
    let is_before = file
        .max_time_us
        .zip(since_ns)
        .is_some_and(|(last, since)| last.saturating_add(1) <= since.div_euclid(1_000));
    let is_after = file
        .min_time_us
        .zip(until_ns)
        .is_some_and(|(first, until)| first > until.div_euclid(1_000));
    is_before || is_after
}

impl Engine {
    /// What the committed calls would have cost in each scenario. `progress` is told calls read, and calls to read.
    /// Dropping the answer stops the work at the next file.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a scenario that changes nothing, or a dimension that calls do not have;
    /// [`TooLarge`](ErrorKind::TooLarge) for too many scenarios, dimensions or groups; those of the lake.
    pub async fn what_if(
        &self,
        principal: &Principal,
        request: WhatIfRequest,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<WhatIfReport> {
        check(&request)?;
        let book = self.book();
        let WhatIfRequest {
            scenarios,
            by,
            since_ns,
            until_ns,
            filters,
            limit,
        } = request;
        let changes = scenarios.into_iter().map(|scenario| Change::new(scenario, &book));
        let question = Arc::new(Question {
            changes: changes.collect::<Result<Vec<_>>>()?,
            by: by.clone(),
            since_ns,
            until_ns,
            filters,
            principal: principal.clone(),
            now_ns: self.now_ns(),
        });
        let begun = |change: &Change| Sums {
            fits: vec![false; change.scenario.models.len()],
            ..Sums::default()
        };
        let mut sums: Vec<Sums> = question.changes.iter().map(begun).collect();
        let snapshot = self.lake().snapshot(Table::Calls).map_err(of_lake)?;
        let tenant = principal.tenant().as_str();
        let files: Vec<&DataFile> = snapshot
            .files
            .iter()
            .filter(|file| file.tenant == tenant && !is_outside(file, since_ns, until_ns))
            .collect();
        let hot = snapshot.hot.clone();
        let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        let n_hot: u64 = hot.iter().map(|batch| count(batch.num_rows())).sum();
        let total = files.iter().map(|file| file.n_rows).sum::<u64>() + n_hot;
        let mut done = 0;
        progress(done, total);
        for file in files {
            let batches = self.lake().read_file(Table::Calls, file, None).await.map_err(of_lake)?;
            sums = price(Arc::clone(&question), batches, sums).await?;
            done += file.n_rows;
            progress(done, total);
        }
        if n_hot > 0 {
            sums = price(Arc::clone(&question), hot, sums).await?;
            progress(total, total);
        }
        let limit = if limit == 0 {
            COST_GROUPS_DEFAULT
        } else {
            limit.min(COST_GROUPS_MAX)
        };
        let results = question.changes.iter().zip(sums).enumerate();
        let results = results.map(|(at, (change, sums))| result(at, &change.scenario, sums, limit));
        Ok(WhatIfReport {
            by,
            since_ns,
            until_ns,
            scenarios: results.collect::<Result<_>>()?,
        })
    }
}

fn check(request: &WhatIfRequest) -> Result<()> {
    let too_large = |message: String| Err(Error::new(ErrorKind::TooLarge, message));
    if request.scenarios.is_empty() {
        return Err(Error::invalid("no scenario is stated: what would be otherwise?"));
    }
    if request.scenarios.len() > WHAT_IF_SCENARIOS_MAX {
        return too_large(format!(
            "at most {WHAT_IF_SCENARIOS_MAX} scenarios are compared at once"
        ));
    }
    if request.by.len() > COST_DIMENSIONS_MAX {
        return too_large(format!(
            "a what-if is split by at most {COST_DIMENSIONS_MAX} dimensions"
        ));
    }
    let asked = request
        .by
        .iter()
        .chain(request.filters.iter().map(|(dimension, _)| dimension));
    for dimension in asked {
        if !dimension.is_of_calls() {
            return Err(Error::invalid(format!(
                "`{}` is one of money lines, not of calls, which a what-if prices",
                dimension.name()
            )));
        }
    }
    Ok(())
}

/// Prices a file's calls, away from the threads that serve.
async fn price(
    question: Arc<Question>,
    batches: Vec<datafusion::arrow::array::RecordBatch>,
    mut sums: Vec<Sums>,
) -> Result<Vec<Sums>> {
    let work = move || {
        for batch in &batches {
            for call in calls::from_batch(batch) {
                question.add(&call, &mut sums)?;
            }
        }
        Ok(sums)
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("the what-if failed").with_source(error))?
}

fn result(at: usize, scenario: &Scenario, sums: Sums, limit: usize) -> Result<ScenarioResult> {
    let mut total = Tally::default();
    let mut rows = Vec::with_capacity(sums.groups.len());
    for (keys, tally) in sums.groups {
        total.plus(&tally)?;
        rows.push(WhatIfRow { keys, tally });
    }
    // The sort is stable: equal costs stay in the order of their names.
    rows.sort_by_key(|row| std::cmp::Reverse(row.tally.old));
    let mut other = None;
    if rows.len() > limit {
        let mut rest = Tally::default();
        for row in rows.split_off(limit) {
            rest.plus(&row.tally)?;
        }
        other = Some(rest);
    }
    let mut unpriced: Vec<Unpriced> = sums
        .unpriced
        .into_iter()
        .map(|((provider, model), (calls, tokens))| Unpriced {
            provider,
            model,
            calls,
            tokens,
        })
        .collect();
    unpriced.sort_by(|a, b| (b.calls, &a.model, &a.provider).cmp(&(a.calls, &b.model, &b.provider)));
    unpriced.truncate(UNPRICED_NAMED_MAX);
    let rules = scenario.models.iter().zip(sums.fits);
    let unmatched = rules.filter(|(_, fits)| total.calls > 0 && !fits);
    Ok(ScenarioResult {
        name: match scenario.name.as_str() {
            "" => format!("scenario {}", at + 1),
            name => name.to_owned(),
        },
        rows,
        other,
        total,
        unpriced,
        unchanged: sums.unchanged.named(),
        unmatched: unmatched.map(|((pattern, _), _)| pattern.clone()).collect(),
        caveats: scenario.caveats(),
    })
}

fn of_lake(error: spanledger_lake::Error) -> Error {
    Error::from(error)
}
