//! Which spans are left out, on made-up spans and on the captures of the two noisiest emitters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::concat_batches;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::Status;
use spanledger_lake::tables::Table;
use spanledger_model::TenantId;

use super::*;
use crate::accept::{Encoding, Request, Signal};
use crate::dialects::Registry;
use crate::limits::Limits;
use crate::normalise::{Context, Normalised, normalise};

fn span(name: &str, trace: u128) -> Span {
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        name: name.to_owned(),
        ..Span::default()
    }
}

fn with_error(mut span: Span) -> Span {
    span.status = Some(Status {
        code: 2,
        ..Status::default()
    });
    span
}

fn with_key(mut span: Span, key: &str) -> Span {
    span.attributes.push(KeyValue {
        key: key.to_owned(),
        ..KeyValue::default()
    });
    span
}

fn rules(toml: &str) -> Result<NoiseRules> {
    NoiseRules::with(&toml::from_str::<NoiseFile>(toml).unwrap().noise)
}

/// A trace that no rule with a share of 0.05 keeps.
const THINNED: u128 = 1;

#[test]
fn the_built_in_rules_can_be_read() {
    let file: NoiseFile = toml::from_str(BUILTIN).unwrap();
    assert_eq!(NoiseRules::default().rules.len(), file.noise.len());
    assert!(file.noise.iter().all(|rule| rule.keep > 0.0), "some traces stay whole");
    assert!(hash_of(&THINNED.to_be_bytes()) > u128::from(u64::MAX) / 20);
}

#[test]
fn a_rule_leaves_out_what_it_matches_and_nothing_else() {
    let rules = NoiseRules::default();
    let check = |service: Option<&str>, scope: &str, span: &Span, duration_ms: i64, expected: Option<&str>| {
        let scope_noise = rules.of_scope(service, scope);
        let found = scope_noise.left_out(span, duration_ms * 1_000_000).map(|rule| &**rule);
        assert_eq!(found, expected, "{service:?} {scope} {} {duration_ms}", span.name);
    };
    let noise = span("append_items", THINNED);
    let codex = Some("codex_exec");
    check(codex, "codex_exec", &noise, 1, Some("codex"));
    check(codex, "codex_exec", &noise, 100, None);
    check(codex, "codex_exec", &with_error(noise.clone()), 1, None);
    check(
        codex,
        "codex_exec",
        &with_key(noise.clone(), "gen_ai.usage.input_tokens"),
        1,
        None,
    );
    check(
        codex,
        "codex_exec",
        &with_key(noise.clone(), "item_count"),
        1,
        Some("codex"),
    );
    check(Some("my-agent"), "codex_exec", &noise, 1, None);
    check(None, "", &noise, 1, None);

    let probe = with_error(span("FileSystem.readJson", THINNED));
    check(Some("opencode"), "opencode", &probe, 1, Some("opencode-probes"));
    check(Some("opencode"), "opencode", &with_error(noise.clone()), 1, None);
    check(Some("opencode"), "opencode", &noise, 1, Some("opencode"));

    let asgi = "opentelemetry.instrumentation.asgi";
    check(
        None,
        asgi,
        &span("POST /mcp http send", THINNED),
        900,
        Some("asgi-messages"),
    );
    check(Some("weather"), asgi, &span("POST /mcp", THINNED), 1, None);
}

#[test]
fn a_trace_is_kept_or_thinned_as_one_and_in_the_share_asked_for() {
    let rules = rules("[[noise]]\nrule = \"half\"\nservice = \"x\"\nkeep = 0.25\n").unwrap();
    let scope_noise = rules.of_scope(Some("x"), "");
    let is_kept = |name: &str, trace: u128| scope_noise.left_out(&span(name, trace), 0).is_none();
    let n_kept = (0..4_000).filter(|trace| is_kept("a", *trace)).count();
    assert!((900..1_100).contains(&n_kept), "{n_kept} of 4000");
    assert!((0..4_000).all(|trace| is_kept("a", trace) == is_kept("b", trace)));
}

#[test]
fn rules_of_ones_own_come_first() {
    let all = rules("[[noise]]\nrule = \"all\"\nkeep = 1.0\n").unwrap();
    let none = rules("[[noise]]\nrule = \"nothing\"\nservice = \"codex_exec\"\nspan = \"*\"\nkeep = 0.0\n").unwrap();
    for trace in 0..100 {
        let span = span("append_items", trace);
        assert!(all.of_scope(Some("codex_exec"), "").left_out(&span, 0).is_none());
        let scope_noise = none.of_scope(Some("codex_exec"), "");
        assert_eq!(
            scope_noise.left_out(&span, i64::MAX - 1).map(|rule| &**rule),
            Some("nothing")
        );
    }
}

#[test]
fn a_rule_that_cannot_be_used_is_refused_by_name() {
    for (toml, expected) in [
        ("[[noise]]\nrule = \"x\"\nkeep = 1.5\n", "noise rule x: keep = 1.5"),
        ("[[noise]]\nrule = \"x\"\nkeep = nan\n", "noise rule x: keep = NaN"),
        ("[[noise]]\nrule = \"\"\nkeep = 1.0\n", "name"),
    ] {
        let error = rules(toml).unwrap_err();
        assert!(error.message().contains(expected), "{}", error.message());
    }
    assert!(rules(&"[[noise]]\nrule = \"x\"\nkeep = 1.0\n".repeat(RULES_MAX + 1)).is_err());
    assert!(toml::from_str::<NoiseFile>("[[noise]]\nrule = \"x\"\nkeep = 1.0\nspam = 1\n").is_err());
}

/// Every request of a capture, normalised.
fn capture(name: &str, noise: NoiseRules) -> Vec<Normalised> {
    let folder = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../testkit/fixtures/captures")
        .join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let limits = Limits {
        noise,
        ..Limits::default()
    };
    let context = Context {
        tenant: TenantId::from_credential("default"),
        arrived_ns: 1_795_305_600_000_000_000,
        dialects: Registry::builtin(),
    };
    let mut normalised = Vec::new();
    for path in paths {
        let encoding = match path.extension().and_then(|extension| extension.to_str()) {
            Some("pb") => Encoding::Protobuf,
            Some("json") => Encoding::Json,
            _ => continue,
        };
        let signal = match path.file_stem().unwrap().to_str().unwrap().split_once('-') {
            Some((_, "traces")) => Signal::Traces,
            Some((_, "logs")) => Signal::Logs,
            Some((_, "metrics")) => Signal::Metrics,
            _ => continue,
        };
        let body = std::fs::read(path).unwrap();
        let request: Request = crate::decode(signal, encoding, &body).unwrap();
        normalised.push(normalise(&request, &context, &limits));
    }
    normalised
}

fn rows(normalised: &[Normalised], table: Table) -> arrow::array::RecordBatch {
    let batches: Vec<_> = normalised
        .iter()
        .flat_map(|one| one.rows.iter().filter(|rows| rows.0 == table).map(|rows| &rows.1))
        .collect();
    concat_batches(&table.schema(), batches).unwrap()
}

fn ids(batch: &arrow::array::RecordBatch) -> BTreeSet<Vec<u8>> {
    let column = batch.column_by_name("span_id").unwrap().as_fixed_size_binary().clone();
    (0..column.len())
        .filter(|row| column.is_valid(*row))
        .map(|row| column.value(row).to_vec())
        .collect()
}

#[test]
fn observations_are_the_same_with_and_without_noise_rules() {
    for (name, n_spans, n_stored_max) in [("codex", 1_239, 200), ("opencode", 1_765, 250)] {
        let all = capture(name, NoiseRules::none());
        let thinned = capture(name, NoiseRules::default());
        let (facts, same) = (rows(&all, Table::Observations), rows(&thinned, Table::Observations));
        assert!(facts.num_rows() > 0);
        assert_eq!(facts, same, "{name}");
        assert_eq!(rows(&all, Table::Logs), rows(&thinned, Table::Logs));

        let (before, after) = (rows(&all, Table::Spans), rows(&thinned, Table::Spans));
        assert_eq!(before.num_rows(), n_spans);
        assert!(
            after.num_rows() < n_stored_max,
            "{name}: {} spans stored",
            after.num_rows()
        );
        let of_spans = StringArray::from(vec!["span"; facts.num_rows()]);
        let of_spans = arrow::compute::kernels::cmp::eq(&facts["source"], &of_spans).unwrap();
        let observed = ids(&arrow::compute::filter_record_batch(&facts, &of_spans).unwrap());
        assert!(!observed.is_empty());
        assert!(
            ids(&after).is_superset(&observed),
            "a span with an observation is stored"
        );

        let accepted = |all: &[Normalised]| all.iter().map(|one| one.n_accepted).sum::<u64>();
        assert_eq!(accepted(&all), accepted(&thinned), "what is left out was accepted");
        let mut left_out: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (rule, count) in thinned.iter().flat_map(|one| &one.noise) {
            *left_out.entry(Arc::clone(rule)).or_default() += count;
        }
        let n_left_out: u64 = left_out.values().sum();
        assert_eq!(
            n_left_out as usize,
            before.num_rows() - after.num_rows(),
            "{left_out:?}"
        );
        assert!(all.iter().all(|one| one.noise.is_empty()));

        let again = capture(name, NoiseRules::default());
        assert_eq!(rows(&again, Table::Spans), after, "a replay gives the same rows");
    }
}
