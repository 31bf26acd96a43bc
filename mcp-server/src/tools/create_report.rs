//! `create_report`: a statement or export as a file, kept for who asked, with a `resource_link` to it.

use rmcp::model::{Resource, Tool, ToolAnnotations};
use serde_json::{Value, json};
use spanledger_query::Error;
use spanledger_query::Result;
use spanledger_query::costs::CURRENCY;
use spanledger_query::report::{ReportRequest, Reports};

use super::{Answer, Call, reading_tool};
use crate::arguments::Arguments;
use crate::question;
use crate::text::{DATA_NOTE, clean};

pub(crate) const NAME: &str = "create_report";
const ARGUMENTS: [&str; 6] = ["kind", "period", "format", "team", "by", "filters"];

pub(crate) fn definition() -> Tool {
    let text = json!({ "type": "string" });
    let annotations = ToolAnnotations::with_title("Create report")
        .read_only(false)
        .destructive(false)
        .idempotent(false)
        .open_world(false);
    reading_tool(
        NAME,
        "Create report",
        "A month as a file: chargeback statement (teams; models, tools, prompts, shared, unpriced), costs by any \
         dimensions, or FOCUS 1.2 rows. Answers totals and a link.",
        json!({
            "type": "object",
            "properties": {
                "kind": { "enum": ["chargeback", "costs", "focus"] },
                "period": { "type": "string", "description": "2026-10" },
                "format": { "enum": ["xlsx", "pdf", "csv", "html", "markdown", "json", "parquet"] },
                "team": text,
                "by": { "type": "array", "items": text },
                "filters": question::filters_schema()
            },
            "required": ["kind", "period"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "uri": text,
                "download": { "anyOf": [text, { "type": "null" }] },
                "title": text,
                "total": text,
                "columns": { "type": "array" },
                "rows": { "type": "array" },
                "notes": { "type": "array", "items": text }
            }
        }),
    )
    .with_annotations(annotations)
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let mut filters = question::filters(&arguments)?;
    if let Some(team) = arguments.text("team")? {
        filters.push((spanledger_query::Dimension::parse("team")?, vec![Some(team.to_owned())]));
    }
    let missing = |name: &str, example: &str| Error::invalid(format!("`{name}` of {NAME} is missing: {example}"));
    let request = ReportRequest::read(
        arguments
            .text("kind")?
            .ok_or_else(|| missing("kind", "chargeback, costs or focus"))?,
        arguments
            .text("period")?
            .ok_or_else(|| missing("period", "a month such as 2026-10"))?,
        arguments.text("format")?,
        &arguments.names("by")?.join(","),
        filters,
    )?;
    // Before the work: a server that keeps nothing says so at once.
    let reports = Reports::new(call.shared.state()?.clone(), call.shared.artefacts()?);
    let progress = call.progress.clone();
    let tell = move |done, total| progress.report(done, Some(total), "tables added up");
    let artefact = call.engine.report(call.principal, &request, &tell).await?;
    let kept = reports.keep(call.principal, &artefact, call.shared.now_ns()).await?;
    let uri = format!("spanledger://reports/{}", kept.id);
    let download = call.shared.link(&format!("/api/v1/reports/{}", kept.id));
    let title = clean(&artefact.title);
    let mut text = format!(
        "{title}: {} {CURRENCY} in {} rows, {} bytes of {}\n{uri}\n",
        artefact.total, artefact.n_rows, kept.size_bytes, kept.mime_type
    );
    if let Some(download) = &download {
        text.push_str(&format!("download: {download}\n"));
    }
    let columns: Vec<Value> = artefact.top_columns.iter().copied().map(Value::from).collect();
    text.push_str(&crate::text::line(&columns));
    let mut rows = Vec::new();
    for (names, cost) in &artefact.top {
        let mut row: Vec<Value> = names.iter().map(|name| Value::from(clean(name))).collect();
        row.push(cost.map_or(Value::Null, |cost| Value::from(cost.to_string())));
        text.push_str(&crate::text::line(&row));
        rows.push(Value::from(row));
    }
    let mut notes = artefact.notes;
    if rows.len() < artefact.n_rows {
        notes.push(format!(
            "{} of {} rows shown; the file has all",
            rows.len(),
            artefact.n_rows
        ));
    }
    notes.push(DATA_NOTE.to_owned());
    text.push_str(&notes.join("; "));
    let link = Resource::new(uri.clone(), kept.file_name.clone())
        .with_title(title.clone())
        .with_mime_type(kept.mime_type.clone())
        .with_size(u64::try_from(kept.size_bytes).unwrap_or_default());
    let structured = json!({
        "uri": uri,
        "download": download,
        "title": title,
        "total": artefact.total.to_string(),
        "columns": columns,
        "rows": rows,
        "notes": notes,
    });
    Ok(Answer::new(text, structured).with_link(link))
}
