//! Reads price files of four formats into what a version of the book is made of.
//!
//! Nothing is dropped in silence: a malformed row is an error that names file and line, and whatever a file
//! says that the book has no use for is a note. Files are taken to be hostile: their size, the number of
//! their records and the length of their texts are bounded.
//!
//! | format | what it is | becomes |
//! |---|---|---|
//! | `genai-prices` | the v2 JSON of pydantic/genai-prices | the catalogue |
//! | `litellm` | `model_prices_and_context_window.json` | list prices for what the catalogue lacks |
//! | `csv`, `toml` | what somebody writes | contract prices, list prices or prices of tools |
//!
//! It writes nothing ([`super::store`] does).

mod csv;
mod litellm;
mod toml;

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::import::read_catalogue;
use super::json::Json;
use super::stated::{Layer, Source, StatedPrice, StatedTool, read_price, read_tool};
use super::{CatalogueFiles, GENAI_PRICES_VERSION, OVERRIDES};
use crate::error::{Error, ErrorKind, Result};

/// Largest price file, in bytes. LiteLLM's map, the largest known, has under 3 MiB.
pub const FILE_BYTES_MAX: usize = 32 << 20;
/// Most records of one file; LiteLLM's map has about 4,300 models.
pub const RECORDS_MAX: usize = 50_000;
/// Longest name of a source.
const NAME_BYTES_MAX: usize = 64;
/// Notes of one kind that are written out.
const NOTES_MAX: usize = 50;

/// Formats of price files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The v2 JSON of pydantic/genai-prices.
    GenaiPrices,
    /// LiteLLM's map of prices.
    Litellm,
    /// A header line and one record a line.
    Csv,
    /// `[[prices]]` and `[[tools]]`.
    Toml,
}

impl Format {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GenaiPrices => "genai-prices",
            Self::Litellm => "litellm",
            Self::Csv => "csv",
            Self::Toml => "toml",
        }
    }
}

/// A file to import.
#[derive(Debug, Clone, Copy)]
pub struct PriceFile<'f> {
    /// Its path, for messages and for what it is when nobody says.
    pub path: &'f Path,
    /// Its content.
    pub text: &'f str,
    /// Its format; by name and content where absent.
    pub format: Option<Format>,
    /// What its prices are; by format and content where absent.
    pub layer: Option<Layer>,
    /// Name of the source; the format's or the file's where absent.
    pub name: Option<&'f str>,
    /// List prices of LiteLLM: true where they take precedence over the catalogue's.
    pub wins: bool,
}

/// What a file brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The format it was read as.
    pub format: Format,
    /// Name of the source or of the catalogue.
    pub name: String,
    /// SHA-256 of the file, lowercase hex.
    pub sha256: String,
    /// A catalogue, which takes the place of the one before.
    pub catalogue: Option<CatalogueFiles>,
    /// Records, which take the place of those of the same name.
    pub source: Option<Source>,
    /// What in the file has no use here, or was changed.
    pub notes: Vec<String>,
}

/// A record and where it stands.
struct Row<'j> {
    line: usize,
    record: Json<'j>,
}

/// Reads a price file.
///
/// # Errors
/// Kind invalid naming file and line for what is malformed, too large for more than the limits above.
pub fn read(file: &PriceFile<'_>) -> Result<Imported> {
    let shown = file.path.display();
    if file.text.len() > FILE_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("{shown} has more than {FILE_BYTES_MAX} bytes; import its parts under names of their own"),
        ));
    }
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(file.text);
    let format = file.format.or_else(|| format_of(file.path, text)).ok_or_else(|| {
        Error::invalid(format!(
            "cannot tell the format of {shown}; name it with --format genai-prices, litellm, csv or toml"
        ))
    })?;
    let invalid = |error: String| Error::invalid(format!("{shown}: {error}"));
    let sha256 = hex::encode(Sha256::digest(file.text.as_bytes()));
    let release = sha256.chars().take(12).collect::<String>();
    let mut notes = Notes::default();
    let mut imported = Imported {
        format,
        name: name_of(file, format)?,
        sha256,
        catalogue: None,
        source: None,
        notes: Vec::new(),
    };
    let mut source = Source {
        name: imported.name.clone(),
        layer: file.layer.unwrap_or(Layer::Contract),
        wins: true,
        release,
        prices: Vec::new(),
        tools: Vec::new(),
    };
    match format {
        Format::GenaiPrices => {
            if file.layer.is_some_and(|layer| layer != Layer::List) {
                return Err(invalid(
                    "a genai-prices catalogue holds list prices; leave out --as".to_owned(),
                ));
            }
            let files = CatalogueFiles {
                name: "genai-prices".to_owned(),
                release: source.release,
                catalogue: text.to_owned(),
                overrides: minimums_only(text, &mut notes).map_err(invalid)?,
            };
            imported.catalogue = Some(files);
        }
        Format::Litellm => {
            source.layer = file.layer.unwrap_or(Layer::List);
            source.wins = file.wins || source.layer == Layer::Contract;
            source.prices = litellm::read(text, source.layer, &mut notes).map_err(invalid)?;
            imported.source = Some(source);
        }
        Format::Csv | Format::Toml => {
            let rows = match format {
                Format::Csv => csv::rows(text),
                _ => toml::rows(text),
            };
            let rows = rows.map_err(|(line, error)| Error::invalid(format!("{shown}:{line}: {error}")))?;
            read_rows(rows, file.layer, &mut source, &mut notes)
                .map_err(|(line, error)| Error::invalid(format!("{shown}:{line}: {error}")))?;
            imported.source = Some(source);
        }
    }
    imported.notes = notes.into_lines();
    Ok(imported)
}

/// The catalogue built into this program, as an import.
#[must_use]
pub fn builtin() -> Imported {
    let files = CatalogueFiles::embedded();
    Imported {
        format: Format::GenaiPrices,
        name: files.name.clone(),
        sha256: hex::encode(Sha256::digest(files.catalogue.as_bytes())),
        catalogue: Some(files),
        source: None,
        notes: Vec::new(),
    }
}

fn format_of(path: &Path, text: &str) -> Option<Format> {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    match (
        extension.to_ascii_lowercase().as_str(),
        text.trim_start().bytes().next(),
    ) {
        ("csv", _) => Some(Format::Csv),
        ("toml", _) => Some(Format::Toml),
        ("json", Some(b'[')) => Some(Format::GenaiPrices),
        ("json", Some(b'{')) => Some(Format::Litellm),
        _ => None,
    }
}

fn name_of(file: &PriceFile<'_>, format: Format) -> Result<String> {
    let stem = || file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name = match (file.name, format) {
        (Some(name), _) => name,
        (None, Format::GenaiPrices | Format::Litellm) => format.as_str(),
        (None, _) => stem(),
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_usable = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain);
    if !is_usable {
        return Err(Error::invalid(format!(
            "{name:?} cannot name a source; give it a name of letters, digits, -, _ and . with --name"
        )));
    }
    if name == super::import::OVERRIDES || name == "genai-prices" && format != Format::GenaiPrices {
        return Err(Error::invalid(format!(
            "the name {name} is taken by the catalogue; choose another with --name"
        )));
    }
    Ok(name.to_owned())
}

/// Checks a catalogue, and gives those of our overrides that it can have.
fn minimums_only(text: &str, notes: &mut Notes) -> std::result::Result<String, String> {
    let json = Json::parse(text)?;
    let n_models: usize = json
        .items()
        .iter()
        .map(|provider| provider.get("models").map_or(0, |models| models.items().len()))
        .sum();
    if n_models > RECORDS_MAX {
        return Err(format!("more than {RECORDS_MAX} models"));
    }
    let mut catalogue = read_catalogue(&json, "genai-prices")?;
    for warning in std::mem::take(&mut catalogue.warnings) {
        notes.add("", warning);
    }
    for (place, known, items) in [
        (
            "provider",
            &PROVIDER_FIELDS[..],
            json.items().iter().collect::<Vec<_>>(),
        ),
        (
            "model",
            &MODEL_FIELDS[..],
            json.items()
                .iter()
                .flat_map(|provider| provider.get("models").map_or(&[][..], Json::items))
                .collect(),
        ),
    ] {
        for (key, _) in items.iter().flat_map(|item| item.fields()) {
            if !known.contains(&key.as_ref()) {
                notes.unknown(&format!("{place} field {key:?}"));
            }
        }
    }
    let ours = Json::parse(OVERRIDES)?;
    if super::import::apply_overrides(&mut catalogue, &ours).is_ok() {
        return Ok(OVERRIDES.to_owned());
    }
    notes.add(
        "",
        format!("our corrections to genai-prices {GENAI_PRICES_VERSION} do not fit this catalogue and are left out"),
    );
    Ok("{}".to_owned())
}

/// Fields of the v2 format, used here or known to be of no use here.
const PROVIDER_FIELDS: [&str; 13] = [
    "id",
    "name",
    "api_pattern",
    "pricing_urls",
    "description",
    "price_comments",
    "provider_match",
    "model_match",
    "fallback_model_providers",
    "extractors",
    "tiers",
    "unit_families",
    "models",
];
const MODEL_FIELDS: [&str; 13] = [
    "id",
    "name",
    "match",
    "description",
    "context_window",
    "max_output_tokens",
    "price_comments",
    "price_discrepancies",
    "prices_checked",
    "collapse",
    "deprecated",
    "prices",
    "price_variants",
];

fn read_rows(
    rows: Vec<Row<'_>>,
    layer: Option<Layer>,
    source: &mut Source,
    notes: &mut Notes,
) -> std::result::Result<(), (usize, String)> {
    if rows.len() > RECORDS_MAX {
        return Err((
            0,
            format!("more than {RECORDS_MAX} records; import its parts under names of their own"),
        ));
    }
    let is_tool = |row: &Row<'_>| row.record.get("tool").is_some() && row.record.get("model").is_none();
    source.layer = layer.unwrap_or(match rows.iter().all(is_tool) && !rows.is_empty() {
        true => Layer::Tools,
        false => Layer::Contract,
    });
    for row in &rows {
        let at = |error: String| (row.line, error);
        let mut unknown = Vec::new();
        if is_tool(row) || source.layer == Layer::Tools {
            let tool: StatedTool = read_tool(&row.record, &mut unknown).map_err(at)?;
            source.tools.push(tool);
        } else {
            let price: StatedPrice = read_price(&row.record, source.layer, &mut unknown).map_err(at)?;
            source.prices.push(price);
        }
        unknown.iter().for_each(|key| notes.unknown(&format!("field {key:?}")));
    }
    Ok(())
}

/// What is said about a file, bounded.
#[derive(Debug, Default)]
struct Notes {
    lines: BTreeMap<&'static str, (Vec<String>, usize)>,
    unknown: BTreeMap<String, usize>,
}

impl Notes {
    /// Adds a line of a kind.
    fn add(&mut self, kind: &'static str, line: String) {
        let (lines, n_lines) = self.lines.entry(kind).or_default();
        *n_lines += 1;
        if lines.len() < NOTES_MAX {
            lines.push(line);
        }
    }

    /// Counts a field that nobody reads.
    fn unknown(&mut self, field: &str) {
        if self.unknown.len() < NOTES_MAX || self.unknown.contains_key(field) {
            *self.unknown.entry(field.chars().take(100).collect()).or_default() += 1;
        }
    }

    fn into_lines(self) -> Vec<String> {
        let unknown = self.unknown.into_iter();
        let mut written: Vec<String> = unknown
            .map(|(field, count)| format!("unknown {field} is not read ({count} times)"))
            .collect();
        for (kind, (lines, n_lines)) in self.lines {
            let n_more = n_lines - lines.len();
            written.extend(lines);
            if n_more > 0 {
                written.push(format!("and {n_more} more like these {kind}").trim_end().to_owned());
            }
        }
        written
    }
}

#[cfg(test)]
mod tests;
