//! Reads a capture with the dialects of a folder, folds it, and prints what it comes to: for writing a dialect
//! without building anything.
//!
//! `fold_capture CAPTURE_DIR [--dialects DIR] [-v]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use spanledger_ingest::dialects::{Registry, usage_like};
use spanledger_ingest::normalise::{Context, normalise};
use spanledger_ingest::{Encoding, Limits, Request, Signal, decode};
use spanledger_lake::tables::{Table, observations};
use spanledger_ledger::fold::fold;
use spanledger_model::{Call, CallKind, Observation, Status, TenantId, Usage};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let verbose = arguments
        .iter()
        .position(|argument| argument == "-v")
        .map(|at| arguments.remove(at));
    let dialects = arguments
        .iter()
        .position(|argument| argument == "--dialects")
        .map(|at| {
            arguments.remove(at);
            arguments.remove(at)
        });
    let folder = PathBuf::from(
        arguments
            .first()
            .expect("fold_capture CAPTURE_DIR [--dialects DIR] [-v]"),
    );
    let registry = match dialects {
        Some(dialects) => registry_of(Path::new(&dialects)),
        None => Registry::builtin(),
    };
    let mut unread: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let read = read(&folder, &registry, &mut unread);
    if verbose.is_some() {
        for observation in &read {
            print_observation(observation);
        }
    }
    let folded = fold(&read);
    println!("--- {} observations, {} calls", read.len(), folded.calls.len());
    for call in &folded.calls {
        print_call(call);
    }
    let truth = std::fs::read_to_string(folder.join("expected.json")).unwrap_or_default();
    println!("--- expected.json\n{truth}");
    let in_order = totals(&folded.calls);
    println!("--- in order\n{in_order}");
    for seed in [3_u64, 7, 11] {
        let shuffled = totals(&fold(&shuffled(&read, seed)).calls);
        if shuffled != in_order {
            println!("--- DIFFERS when shuffled (seed {seed})\n{shuffled}");
        }
    }
    let twice: Vec<Observation> = read.iter().chain(&read).cloned().collect();
    let twice = totals(&fold(&twice).calls);
    if twice != in_order {
        println!("--- DIFFERS when sent twice\n{twice}");
    }
    if !unread.is_empty() {
        println!("--- keys nobody reads that look like usage (service, scope, key: looks like, count)");
        for ((service, scope, key), count) in unread {
            println!("{service} {scope:?} {key}: {} {count}", usage_like(&key).unwrap_or("?"));
        }
    }
}

fn registry_of(folder: &Path) -> Arc<Registry> {
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    match Registry::from_files(&files) {
        Ok(registry) => registry,
        Err(error) => {
            println!("{error}");
            std::process::exit(2);
        }
    }
}

fn read(
    folder: &Path,
    registry: &Arc<Registry>,
    unread: &mut BTreeMap<(String, String, String), usize>,
) -> Vec<Observation> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut read = Vec::new();
    for (position, file) in files.iter().enumerate() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let Some((stem, extension)) = name.rsplit_once('.') else {
            continue;
        };
        let signal = match stem.rsplit_once('-').map(|(_, signal)| signal) {
            Some("traces") => Signal::Traces,
            Some("logs") => Signal::Logs,
            Some("metrics") => Signal::Metrics,
            _ => continue,
        };
        let encoding = if extension == "pb" {
            Encoding::Protobuf
        } else {
            Encoding::Json
        };
        let request = decode(signal, encoding, &std::fs::read(file).unwrap()).unwrap();
        note_unread(&request, registry, unread);
        let context = Context {
            tenant: TenantId::from_credential("default"),
            arrived_ns: 1_795_000_000_000_000_000 + position as i64,
            dialects: Arc::clone(registry),
        };
        for (table, batch) in normalise(&request, &context, &Limits::default()).rows {
            if table == Table::Observations {
                read.extend(observations::from_batch(&batch));
            }
        }
    }
    read
}

fn note_unread(request: &Request, registry: &Registry, unread: &mut BTreeMap<(String, String, String), usize>) {
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    let service_of = |attributes: Option<&Vec<KeyValue>>| {
        let found = attributes?.iter().find(|attribute| attribute.key == "service.name")?;
        spanledger_ingest::value::owned_text(found.value.as_ref()?)
    };
    let mut note = |service: &Option<String>, scope: &str, attributes: &[KeyValue]| {
        let keys: BTreeSet<&str> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
        for key in keys {
            if usage_like(key).is_some() && registry.field_of(scope, service.as_deref(), key).is_none() {
                let place = (service.clone().unwrap_or_default(), scope.to_owned(), key.to_owned());
                *unread.entry(place).or_default() += 1;
            }
        }
    };
    match request {
        Request::Traces(traces) => {
            for resource in &traces.resource_spans {
                let service = service_of(resource.resource.as_ref().map(|resource| &resource.attributes));
                for scope in &resource.scope_spans {
                    let name = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
                    scope
                        .spans
                        .iter()
                        .for_each(|span| note(&service, name, &span.attributes));
                }
            }
        }
        Request::Logs(logs) => {
            for resource in &logs.resource_logs {
                let service = service_of(resource.resource.as_ref().map(|resource| &resource.attributes));
                for scope in &resource.scope_logs {
                    let name = scope.scope.as_ref().map_or("", |scope| scope.name.as_str());
                    scope
                        .log_records
                        .iter()
                        .for_each(|record| note(&service, name, &record.attributes));
                }
            }
        }
        Request::Metrics(_) => {}
    }
}

fn short(text: Option<&str>) -> String {
    text.unwrap_or("-").chars().take(40).collect()
}

fn tokens(usage: &Usage) -> String {
    let count = |count: Option<i64>| count.map_or("-".to_owned(), |count| count.to_string());
    format!(
        "in {} read {} w5m {} w1h {} out {} reas {}",
        count(usage.input),
        count(usage.cache_read),
        count(usage.cache_write_5m),
        count(usage.cache_write_1h),
        count(usage.output),
        count(usage.reasoning)
    )
}

fn print_observation(observation: &Observation) {
    println!(
        "{:6} {:14} {:9} {:10} hop {:8} {:40} {:?} start {} dur {:?}ms trace {} session {} user {} team {}\n         server {} tool {} call_id {} method {} | model {}/{} rid {} | {} cost {:?} err {}",
        observation.source.as_str(),
        observation.dialect,
        observation.kind.as_str(),
        observation.role.as_str(),
        observation.hop.map_or("-", spanledger_model::Hop::as_str),
        short(Some(&observation.name)),
        observation.status,
        observation.start_ns / 1_000_000 % 10_000_000,
        observation.duration_ns.map(|ns| ns / 1_000_000),
        observation
            .trace_id
            .map_or("-".to_owned(), |id| format!("{id}")[..6].to_owned()),
        short(observation.dimensions.session_id.as_deref()),
        short(observation.dimensions.user_id.as_deref()),
        short(observation.dimensions.team.as_deref()),
        short(observation.mcp.server.as_deref()),
        short(observation.mcp.tool.as_deref()),
        short(observation.tool_call_id.as_deref()),
        short(observation.mcp.mcp_method.as_deref()),
        short(observation.model.request_model.as_deref()),
        short(observation.model.response_model.as_deref()),
        short(observation.model.response_id.as_deref()),
        tokens(&observation.usage),
        observation.reported_cost.map(|cost| cost.to_string()),
        short(observation.error_type.as_deref()),
    );
}

fn print_call(call: &Call) {
    println!(
        "{:9} {:6} hops {} n {} {:30} server {} tool {} model {}/{} | {} cost {:?} | {} [{}] {}",
        call.kind.as_str(),
        call.status.as_str(),
        call.hops,
        call.observation_ids.len(),
        call.dialects,
        short(call.mcp.server.as_deref()),
        short(call.mcp.tool.as_deref()),
        short(call.model.request_model.as_deref()),
        short(call.model.response_model.as_deref()),
        tokens(&call.usage),
        call.reported_cost.map(|cost| cost.to_string()),
        short(call.error_type.as_deref()),
        call.rules,
        call.confidence.as_str(),
    );
}

fn totals(calls: &[Call]) -> String {
    let of = |kind: CallKind| calls.iter().filter(move |call| call.kind == kind);
    let failed = |call: &&Call| call.status == Status::Error;
    let sum = |get: fn(&Usage) -> Option<i64>| -> i64 { of(CallKind::Llm).filter_map(|call| get(&call.usage)).sum() };
    let is_mcp = |call: &&Call| call.mcp.server.is_some() || call.mcp.mcp_method.is_some();
    let cost: spanledger_model::FemtoUsd = of(CallKind::Llm).filter_map(|call| call.reported_cost).sum();
    let mut models: BTreeMap<String, usize> = BTreeMap::new();
    for call in of(CallKind::Llm) {
        let provider = call.model.provider.clone().unwrap_or_default();
        let model = call
            .model
            .response_model
            .clone()
            .or(call.model.request_model.clone())
            .unwrap_or_default();
        *models.entry(format!("{provider}/{model}")).or_default() += 1;
    }
    format!(
        "llm {} (failed {}) embeddings {} | input {} cache_read {} cache_write {} output {} reasoning {} | reported cost {cost}\n\
         tools {} of them mcp {} (errors {}) server IS NOT NULL {} | prompts {} resources {} (errors {}) agents {} other mcp {}\n\
         models {models:?}",
        of(CallKind::Llm).filter(|call| !failed(call)).count(),
        of(CallKind::Llm).filter(failed).count(),
        of(CallKind::Embedding).count(),
        sum(|usage| usage.input),
        sum(|usage| usage.cache_read),
        sum(|usage| usage.cache_write()),
        sum(|usage| usage.output),
        sum(|usage| usage.reasoning),
        of(CallKind::Tool).count(),
        of(CallKind::Tool).filter(is_mcp).count(),
        of(CallKind::Tool).filter(is_mcp).filter(failed).count(),
        of(CallKind::Tool).filter(|call| call.mcp.server.is_some()).count(),
        of(CallKind::Prompt).count(),
        of(CallKind::Resource).count(),
        of(CallKind::Resource).filter(failed).count(),
        of(CallKind::Agent).count(),
        of(CallKind::Mcp).count(),
    )
}

fn shuffled(observations: &[Observation], seed: u64) -> Vec<Observation> {
    let mut keyed: Vec<(u64, &Observation)> = (0_u64..).zip(observations).collect();
    keyed.sort_by_key(|(position, _)| {
        (position + 1)
            .wrapping_mul(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
            .rotate_left(17)
    });
    keyed.into_iter().map(|(_, observation)| observation.clone()).collect()
}
