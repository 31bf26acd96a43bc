//! The tools, one file each. Few, shaped by questions; their definitions are in every client's context, so
//! every word in them is paid for on every turn.

mod create_report;
mod describe_data;
mod explain_change;
mod find_anomalies;
mod find_savings;
mod forecast_spend;
mod inspect_trace;
mod query_costs;
mod run_sql;
mod set_allocation_rule;
mod set_budget;
mod simulate_prices;
mod tool_economics;

pub(crate) use run_sql::{table, table_within};

use rmcp::model::{JsonObject, MetaObject, Resource, Tool, ToolAnnotations};
use serde_json::{Value, json};
use spanledger_access::Principal;
use spanledger_query::{Dimension, Engine, Error, ErrorKind, Result, Scanned};

use crate::confirmation::Confirmation;
use crate::progress::Progress;
use crate::shared::Shared;
use crate::text::clean;

/// One call of a tool. Dropping the answer's future stops its query.
pub(crate) struct Call<'c> {
    pub(crate) engine: &'c Engine,
    pub(crate) shared: &'c Shared,
    pub(crate) principal: &'c Principal,
    pub(crate) arguments: Option<JsonObject>,
    pub(crate) progress: &'c Progress,
    pub(crate) confirmation: &'c Confirmation,
}

/// An answer, twice: hosts forward the text or the structure, so each is complete alone. Links (artefacts) follow
/// the text as blocks of their own.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) structured: Value,
    pub(crate) links: Vec<Resource>,
}

impl Answer {
    pub(crate) fn new(text: impl Into<String>, structured: Value) -> Self {
        Self {
            text: text.into(),
            structured,
            links: Vec::new(),
        }
    }

    /// With further notes, in the text and in the structure.
    pub(crate) fn with_notes(mut self, notes: Vec<String>) -> Self {
        for note in notes {
            self.text.push('\n');
            self.text.push_str(&note);
            if let Some(noted) = self.structured.get_mut("notes").and_then(Value::as_array_mut) {
                noted.push(note.into());
            }
        }
        self
    }

    /// With a `resource_link` to an artefact.
    pub(crate) fn with_link(mut self, link: Resource) -> Self {
        self.links.push(link);
        self
    }
}

/// What was meant by filters, where nothing matches them: the values nearest to those that do not occur.
pub(crate) async fn meant(
    engine: &Engine,
    principal: &Principal,
    filters: &[(Dimension, Vec<Option<String>>)],
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for (dimension, values) in filters {
        for value in values.iter().flatten() {
            let nearest = engine.nearest_values(principal, *dimension, value).await?;
            if nearest.is_empty() || nearest.contains(value) {
                continue;
            }
            let nearest: Vec<String> = nearest.iter().map(|value| format!("\"{}\"", clean(value))).collect();
            notes.push(format!(
                "{} \"{}\" does not occur; did you mean {}?",
                dimension.name(),
                clean(value),
                nearest.join(", ")
            ));
        }
    }
    Ok(notes)
}

/// All tools, always in this order: a client's prompt cache depends on it.
pub(crate) fn definitions() -> Vec<Tool> {
    vec![
        with_page(query_costs::definition()),
        explain_change::definition(),
        find_anomalies::definition(),
        describe_data::definition(),
        tool_economics::definition(),
        inspect_trace::definition(),
        find_savings::definition(),
        forecast_spend::definition(),
        run_sql::definition(),
        create_report::definition(),
        simulate_prices::definition(),
        set_budget::definition(),
        set_allocation_rule::definition(),
    ]
}

/// Shown by the cost explorer, where the host has a place for it.
fn with_page(tool: Tool) -> Tool {
    let mut meta = MetaObject::new();
    meta.0
        .insert("ui".to_owned(), json!({ "resourceUri": crate::resources::APP }));
    tool.with_meta(meta)
}

/// The definition of a tool.
pub(crate) fn definition(name: &str) -> Option<Tool> {
    definitions().into_iter().find(|tool| tool.name == name)
}

/// The names of all tools.
pub(crate) fn names() -> Vec<String> {
    definitions().into_iter().map(|tool| tool.name.into_owned()).collect()
}

/// What a tool answers, for a part of the server that shows the same elsewhere.
pub(crate) async fn ask(shared: &Shared, principal: &Principal, name: &str, arguments: Value) -> Result<Value> {
    let call_ = Call {
        engine: shared.engine(),
        shared,
        principal,
        arguments: Some(object(arguments)),
        progress: &Progress::unheard(),
        confirmation: &Confirmation::unasked(),
    };
    match call(name, call_).await {
        Some(answer) => answer.map(|answer| answer.structured),
        None => Err(Error::new(ErrorKind::Internal, "there is no such tool")),
    }
}

/// Tools that tell how far they are themselves.
const TELLING: [&str; 3] = [find_savings::NAME, create_report::NAME, simulate_prices::NAME];

/// Runs a tool and tells how far it is; `None` where there is none of that name.
pub(crate) async fn call(name: &str, call: Call<'_>) -> Option<Result<Answer>> {
    if TELLING.contains(&name) {
        return answer(name, call).await;
    }
    let scanned = Scanned::default();
    let engine = call.engine.watched_by(&scanned);
    let progress = call.progress;
    let call = Call {
        engine: &engine,
        ..call
    };
    progress.of_rows(&scanned, answer(name, call)).await
}

async fn answer(name: &str, call: Call<'_>) -> Option<Result<Answer>> {
    Some(match name {
        query_costs::NAME => query_costs::answer(call).await,
        explain_change::NAME => explain_change::answer(call).await,
        find_anomalies::NAME => find_anomalies::answer(call).await,
        describe_data::NAME => describe_data::answer(call).await,
        tool_economics::NAME => tool_economics::answer(call).await,
        inspect_trace::NAME => inspect_trace::answer(call).await,
        find_savings::NAME => find_savings::answer(call).await,
        forecast_spend::NAME => forecast_spend::answer(call).await,
        run_sql::NAME => run_sql::answer(call).await,
        create_report::NAME => create_report::answer(call).await,
        simulate_prices::NAME => simulate_prices::answer(call).await,
        set_budget::NAME => set_budget::answer(call).await,
        set_allocation_rule::NAME => set_allocation_rule::answer(call).await,
        _ => return None,
    })
}

/// A tool that only reads what is in this lake.
fn reading_tool(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    input_schema: Value,
    output_schema: Value,
) -> Tool {
    // Of a tool that changes nothing the other hints mean nothing.
    let annotations = ToolAnnotations::new().read_only(true).open_world(false);
    Tool::new(name, description, object(input_schema))
        .with_title(title)
        .with_raw_output_schema(object(output_schema).into())
        .with_annotations(annotations)
}

/// A tool that changes budgets or rules, and asks first.
fn writing_tool(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    input_schema: Value,
    output_schema: Value,
) -> Tool {
    let annotations = ToolAnnotations::new()
        .read_only(false)
        .destructive(true)
        .idempotent(true)
        .open_world(false);
    Tool::new(name, description, object(input_schema))
        .with_title(title)
        .with_raw_output_schema(object(output_schema).into())
        .with_annotations(annotations)
}

/// A text or null, spelled as the most clients read it.
fn nullable_text() -> Value {
    json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] })
}

fn object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
