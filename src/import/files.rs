//! Files of OTLP requests: what is in a file, body by body.
//!
//! `.pb` and `.bin` hold one request body; its signal is given, in the file's name, or tried. `.json`
//! holds one request or one a line, `.jsonl` one a line, as the Collector's file exporter writes. Each may
//! be compressed (`.gz`, `.zst`). Lines are read as they come, so a file may be larger than memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::Value;
use spanledger_ingest::limits::BODY_BYTES_MAX;
use spanledger_ingest::{Encoding, Request, Signal, decode};

use crate::exit::{Kind, fail};

/// One request body.
#[derive(Debug)]
pub struct Item {
    /// Its signal.
    pub signal: Signal,
    /// How it is written.
    pub encoding: Encoding,
    /// Its bytes.
    pub body: Bytes,
}

/// A body with its place, or why it is skipped.
pub type Found = (String, Result<Item, String>);

/// The bodies of a file, in order. An error of the iterator ends the file.
///
/// # Errors
/// Kind invalid where the file cannot be opened or its kind is not known.
pub fn read(
    path: &Path,
    signal: Option<Signal>,
) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Found>> + Send>> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|error| fail(Kind::Invalid, format!("cannot open {shown}: {error}")))?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let (name, reader) =
        inflate(&name, file).map_err(|error| fail(Kind::Invalid, format!("cannot read {shown}: {error}")))?;
    match name.rsplit('.').next() {
        Some("pb" | "bin") => Ok(Box::new(std::iter::once(protobuf(
            shown,
            signal.or_else(|| signal_in(&name)),
            reader,
        )))),
        Some("jsonl" | "ndjson") => Ok(Box::new(Lines::new(shown, reader))),
        Some("json") => json(shown, reader),
        _ => Err(fail(
            Kind::Invalid,
            format!(
                "cannot tell what {shown} holds; name it .pb, .bin, .json or .jsonl (with .gz or .zst where compressed)"
            ),
        )),
    }
}

/// The files that paths name, in order; of a folder those whose name says that they hold a signal, such as
/// `003-logs.pb`, in order of their names: what `spanledger capture` and a Collector write into one.
///
/// # Errors
/// Kind invalid where a folder cannot be listed or holds no such file.
pub fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let shown = path.display();
        let entries = std::fs::read_dir(path)
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.path()))
                    .collect::<std::io::Result<Vec<PathBuf>>>()
            })
            .map_err(|error| fail(Kind::Invalid, format!("cannot list {shown}: {error}")))?;
        let mut found: Vec<PathBuf> = entries
            .into_iter()
            .filter(|entry| entry.is_file() && holds_a_signal(entry))
            .collect();
        if found.is_empty() {
            return Err(fail(
                Kind::Invalid,
                format!(
                    "{shown} holds no file of a signal; name them like 001-traces.pb, 002-logs.json, 003-metrics.jsonl"
                ),
            ));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn holds_a_signal(path: &Path) -> bool {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let plain = [".gz", ".zst", ".zstd"]
        .iter()
        .find_map(|packed| name.strip_suffix(packed))
        .unwrap_or(&name);
    let is_known = ["pb", "bin", "json", "jsonl", "ndjson"]
        .iter()
        .any(|kind| plain.rsplit('.').next() == Some(kind));
    is_known && signal_in(plain).is_some()
}

type Reader = Box<dyn BufRead + Send>;

fn inflate(name: &str, file: File) -> std::io::Result<(String, Reader)> {
    let file = BufReader::new(file);
    if let Some(name) = name.strip_suffix(".gz") {
        return Ok((
            name.to_owned(),
            Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        ));
    }
    if let Some(name) = name.strip_suffix(".zst").or_else(|| name.strip_suffix(".zstd")) {
        return Ok((
            name.to_owned(),
            Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
        ));
    }
    Ok((name.to_owned(), Box::new(file)))
}

/// The signal in a file's name, such as `003-logs.pb`.
fn signal_in(name: &str) -> Option<Signal> {
    [
        ("trace", Signal::Traces),
        ("span", Signal::Traces),
        ("log", Signal::Logs),
        ("metric", Signal::Metrics),
    ]
    .into_iter()
    .find_map(|(part, signal)| name.contains(part).then_some(signal))
}

fn protobuf(shown: String, signal: Option<Signal>, reader: Reader) -> anyhow::Result<Found> {
    let body = match whole(reader) {
        Ok(body) => body,
        Err(problem) => return Ok((shown, Err(problem))),
    };
    let signal = match signal {
        Some(signal) => signal,
        None => match tried(&body) {
            Some(signal) => signal,
            None => {
                return Ok((
                    shown,
                    Err("neither traces nor logs nor metrics; name the signal with --signal".to_owned()),
                ));
            }
        },
    };
    Ok((
        shown,
        Ok(Item {
            signal,
            encoding: Encoding::Protobuf,
            body,
        }),
    ))
}

/// The one signal that a protobuf body can be. The messages resemble each other, so a body also has to
/// make sense: spans have ids of the right length, metrics have names.
fn tried(body: &Bytes) -> Option<Signal> {
    let makes_sense = |signal: &Signal| match decode(*signal, Encoding::Protobuf, body) {
        Ok(Request::Traces(request)) => {
            let mut spans = request
                .resource_spans
                .iter()
                .flat_map(|r| &r.scope_spans)
                .flat_map(|s| &s.spans)
                .peekable();
            spans.peek().is_some() && spans.all(|span| span.trace_id.len() == 16 && span.span_id.len() == 8)
        }
        Ok(Request::Logs(request)) => {
            let mut logs = request
                .resource_logs
                .iter()
                .flat_map(|r| &r.scope_logs)
                .flat_map(|s| &s.log_records)
                .peekable();
            logs.peek().is_some() && logs.all(|log| matches!(log.trace_id.len(), 0 | 16))
        }
        Ok(Request::Metrics(request)) => {
            let mut metrics = request
                .resource_metrics
                .iter()
                .flat_map(|r| &r.scope_metrics)
                .flat_map(|s| &s.metrics)
                .peekable();
            metrics.peek().is_some() && metrics.all(|metric| !metric.name.is_empty() && metric.data.is_some())
        }
        Err(_) => false,
    };
    [Signal::Traces, Signal::Logs, Signal::Metrics]
        .into_iter()
        .find(makes_sense)
}

/// One request, or one a line.
fn json(shown: String, reader: Reader) -> anyhow::Result<Box<dyn Iterator<Item = anyhow::Result<Found>> + Send>> {
    let body = match whole(reader) {
        Ok(body) => body,
        Err(problem) => return Ok(Box::new(std::iter::once(Ok((shown, Err(problem)))))),
    };
    if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
        let item = json_item(body);
        return Ok(Box::new(std::iter::once(Ok((shown, item)))));
    }
    Ok(Box::new(Lines::new(shown, Box::new(std::io::Cursor::new(body)))))
}

fn json_item(body: Bytes) -> Result<Item, String> {
    let value: Value = serde_json::from_slice(&body).map_err(|error| format!("no JSON: {error}"))?;
    let signal = [
        ("resourceSpans", Signal::Traces),
        ("resourceLogs", Signal::Logs),
        ("resourceMetrics", Signal::Metrics),
    ]
    .into_iter()
    .find_map(|(key, signal)| value.get(key).map(|_| signal))
    .ok_or("no OTLP request: it has none of resourceSpans, resourceLogs, resourceMetrics")?;
    Ok(Item {
        signal,
        encoding: Encoding::Json,
        body,
    })
}

fn whole(reader: Reader) -> Result<Bytes, String> {
    let mut body = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    reader
        .take(limit + 1)
        .read_to_end(&mut body)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if body.len() > BODY_BYTES_MAX {
        return Err(format!(
            "larger than one request may be ({BODY_BYTES_MAX} bytes); name it .jsonl where it holds one a line"
        ));
    }
    Ok(Bytes::from(body))
}

/// One request a line.
struct Lines {
    shown: String,
    reader: Reader,
    number: u64,
    is_over: bool,
}

impl Lines {
    fn new(shown: String, reader: Reader) -> Self {
        Self {
            shown,
            reader,
            number: 0,
            is_over: false,
        }
    }

    /// The next line without its end; `Err` where it is too long, and then it is passed over.
    fn line(&mut self) -> std::io::Result<Option<Result<Vec<u8>, String>>> {
        let mut line = Vec::new();
        let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
        let n_read = (&mut self.reader).take(limit + 1).read_until(b'\n', &mut line)?;
        if n_read == 0 {
            return Ok(None);
        }
        if line.len() > BODY_BYTES_MAX && !line.ends_with(b"\n") {
            self.reader.skip_until(b'\n')?;
            return Ok(Some(Err(format!(
                "longer than one request may be ({BODY_BYTES_MAX} bytes)"
            ))));
        }
        Ok(Some(Ok(line)))
    }
}

impl Iterator for Lines {
    type Item = anyhow::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            self.number += 1;
            let place = format!("{}:{}", self.shown, self.number);
            match self.line() {
                Ok(None) => self.is_over = true,
                Ok(Some(Ok(line))) if line.trim_ascii().is_empty() => {}
                Ok(Some(Ok(line))) => return Some(Ok((place, json_item(Bytes::copy_from_slice(line.trim_ascii()))))),
                Ok(Some(Err(problem))) => return Some(Ok((place, Err(problem)))),
                Err(error) => {
                    // A damaged compressed file has no readable rest.
                    self.is_over = true;
                    return Some(Ok((place, Err(format!("the rest cannot be read: {error}")))));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::io::Write as _;

    const LINE: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#;

    fn found(name: &str, content: &[u8]) -> Vec<(String, Result<Signal, String>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        read(&path, None)
            .unwrap()
            .map(|found| {
                let (place, item) = found.unwrap();
                let place = place.rsplit('/').next().unwrap().to_owned();
                (place, item.map(|item| item.signal))
            })
            .collect()
    }

    #[test]
    fn bad_lines_are_skipped_and_placed() {
        let found = found("x.jsonl", format!("{LINE}\n\nno json\n{{}}\n{LINE}").as_bytes());
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], ("x.jsonl:1".to_owned(), Ok(Signal::Logs)));
        assert!(found[1].0 == "x.jsonl:3" && found[1].1.as_ref().unwrap_err().contains("no JSON"));
        assert!(found[2].1.as_ref().unwrap_err().contains("no OTLP request"));
        assert_eq!(found[3].1, Ok(Signal::Logs));
    }

    #[test]
    fn a_json_file_is_one_request_or_one_a_line() {
        let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(LINE).unwrap()).unwrap();
        assert_eq!(found("x.json", pretty.as_bytes()).len(), 1);
        assert_eq!(found("x.json", format!("{LINE}\n{LINE}\n").as_bytes()).len(), 2);
    }

    #[test]
    fn compressed_files_are_read_and_damage_is_told() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(format!("{LINE}\n{LINE}\n").as_bytes()).unwrap();
        let gz = gz.finish().unwrap();
        assert_eq!(found("x.jsonl.gz", &gz).len(), 2);
        let cut = found("x.jsonl.gz", &gz[..gz.len() - 12]);
        assert!(cut.last().unwrap().1.is_err(), "{cut:?}");
        let zst = zstd::encode_all(LINE.as_bytes(), 1).unwrap();
        assert_eq!(found("x.json.zst", &zst)[0].1, Ok(Signal::Logs));
    }

    #[test]
    fn the_signal_is_in_the_name_or_tried() {
        assert_eq!(signal_in("001-traces.pb"), Some(Signal::Traces));
        assert_eq!(signal_in("metrics.bin"), Some(Signal::Metrics));
        assert_eq!(signal_in("body.bin"), None);
        assert!(found("body.bin", b"\xff\xff")[0].1.is_err());
    }

    #[test]
    fn an_unknown_kind_of_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.csv");
        std::fs::write(&path, "a").unwrap();
        let error = read(&path, None).err().unwrap();
        assert_eq!(crate::exit::exit_code(&error), crate::exit::INVALID);
    }
}
