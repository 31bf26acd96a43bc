//! `report`: a month as a file. A folder's report is made in this process; a server makes, keeps and sends its own.

use std::io::Write as _;

use clap::ValueEnum as _;
use serde_json::{Map, Value, json};
use spanledger_query::Dimension;
use spanledger_query::costs::filter_values;
use spanledger_query::report::ReportRequest;

use crate::cli::{ReportArgs, ReportFileFormat, ReportKind};
use crate::config::Config;
use crate::exit::{Kind, Outcome, fail};
use crate::output;
use crate::source::{Remote, Source};

/// Runs the command.
pub async fn run(args: &ReportArgs, config: &Config) -> anyhow::Result<Outcome> {
    let filters = filters(args)?;
    let is_binary = matches!(
        args.format,
        Some(ReportFileFormat::Xlsx | ReportFileFormat::Pdf | ReportFileFormat::Parquet)
    );
    if is_binary && args.output.is_none() && output::stdout_is_terminal() {
        return Err(fail(
            Kind::Invalid,
            "this format is binary and would garble the terminal; name a file: -o FILE",
        ));
    }
    let name = |value: Option<clap::builder::PossibleValue>| value.map(|value| value.get_name().to_owned());
    let kind = name(args.kind.to_possible_value()).unwrap_or_default();
    let format = match args.format {
        Some(format) => name(format.to_possible_value()),
        None => (args.kind != ReportKind::Focus).then(|| "markdown".to_owned()),
    };
    let by = args.by.join(",");
    let bytes = match Source::open(&args.at, config).await? {
        Source::Lake(engine, principal) => {
            let conditions = filters
                .iter()
                .map(|(name, value)| Ok((Dimension::parse(name)?, filter_values(value))));
            let conditions = conditions.collect::<spanledger_query::Result<Vec<_>>>()?;
            let request = ReportRequest::read(&kind, &args.period, format.as_deref(), &by, conditions)?;
            engine.report(&principal, &request, &|_, _| {}).await?.bytes
        }
        Source::Server(server) => {
            let filters: Map<String, Value> = filters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(filter_values(value))))
                .collect();
            let question =
                json!({ "kind": kind, "period": args.period, "format": format, "by": by, "filters": filters });
            download(&server, &question).await?
        }
    };
    match &args.output {
        Some(path) => {
            std::fs::write(path, &bytes)
                .map_err(|error| fail(Kind::Invalid, format!("cannot write {}: {error}", path.display())))?;
            output::note(&format!(
                "wrote {} ({})",
                path.display(),
                output::bytes(bytes.len() as u64)
            ));
        }
        None => {
            let mut out = output::stdout();
            out.write_all(&bytes)?;
            out.flush()?;
        }
    }
    Ok(Outcome::Done)
}

/// The filters by dimension: one that is named twice asks for either value, as `DIMENSION=A,B` does.
fn filters(args: &ReportArgs) -> anyhow::Result<Vec<(&str, String)>> {
    let mut filters: Vec<(&str, String)> = args.team.iter().map(|team| ("team", team.clone())).collect();
    for filter in &args.filters {
        let (name, value) = filter.split_once('=').ok_or_else(|| {
            fail(
                Kind::Invalid,
                format!("cannot read --where {filter}; write DIMENSION=VALUE, such as environment=prod"),
            )
        })?;
        match filters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => *values = format!("{values},{value}"),
            None => filters.push((name, value.to_owned())),
        }
    }
    Ok(filters)
}

async fn download(server: &Remote, question: &Value) -> anyhow::Result<Vec<u8>> {
    let made = server.post("/api/v1/reports", question).await?;
    let made: Value = serde_json::from_slice(&made.body)?;
    let address = made.get("url").and_then(Value::as_str).ok_or_else(|| {
        fail(
            Kind::Internal,
            "the answer names no report; the server may be of another version",
        )
    })?;
    let request = server.client().get(format!("{}{address}", server.base()));
    Ok(server.answer(request).await?.body.to_vec())
}
