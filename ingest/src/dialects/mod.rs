//! Dialects: what an emitter's records mean, in the words of `observations`.
//!
//! A dialect is a file, `ingest/dialects/<name>.toml`: the scopes and services it is known by, the keys of its
//! own, and rules that say what a span, a log record or a metric point is (an LLM call, a tool call, a
//! roll-up, a counter, or nothing). Every file of that folder is embedded; users add their own in the same
//! form. What the conventions share is code, done once: fields in order of precedence, inclusive token counts,
//! providers' names, status, sizes, and how GenAI and MCP spans are read that no rule is about.
//!
//! Guarantees: reading never fails and never panics; a record that no dialect knows gives no observation
//! but stands whole in `spans`, `logs` or `metrics`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`file`] | the form of a dialect's file |
//! | [`compile`] | a file, checked and compiled |
//! | [`fields`] | canonical fields and the keys that spell them |
//! | [`expand`] | objects in texts |
//! | [`catalogue`] | names and sizes of the tools and instructions sent with a call |
//! | [`record`] | the records that are read, and the observation they start from |
//! | [`rules`] | which rule a record matches, and what it makes of it |
//! | [`conventions`] | the GenAI and MCP semantic conventions, three generations |
//! | [`guess`] | records that follow no known convention |
//! | [`names`] | providers, tool names with a host's prefix, MCP span names |

pub mod catalogue;
pub mod compile;
pub mod conventions;
pub mod expand;
pub mod fields;
pub mod file;
pub mod guess;
mod messages;
pub mod names;
pub mod record;
pub mod rules;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub use compile::Compiled;
pub use file::Evidence;
pub use guess::usage_like;
use spanledger_model::Pattern;

use compile::{compile, extend, parse, resource_keys};
use fields::KeyTable;
use file::DialectFile;

use crate::error::{Error, ErrorKind, Result};

/// The dialect of the conventions: its keys are common to all, and it reads what nobody claims.
pub const CONVENTIONS: &str = "gen_ai";
/// What is shown as the file of a built-in dialect.
pub const BUILT_IN: &str = "built in";

#[derive(rust_embed::RustEmbed)]
#[folder = "dialects"]
struct BuiltIn;

/// All dialects.
#[derive(Debug)]
pub struct Registry {
    dialects: Vec<Arc<Compiled>>,
    fallback: usize,
    resource_keys: KeyTable,
}

impl Registry {
    /// The built-in dialects.
    #[must_use]
    pub fn builtin() -> Arc<Self> {
        static BUILTIN: OnceLock<Arc<Registry>> = OnceLock::new();
        let registry = BUILTIN.get_or_init(|| {
            Arc::new(Self::read(&builtin_files(), &[]).unwrap_or_else(|error| {
                // The files are part of the binary and a test compiles each: they cannot be wrong at run time.
                tracing::error!(%error, "a built-in dialect cannot be read; only conventions without keys are left");
                Self::without_dialects()
            }))
        });
        Arc::clone(registry)
    }

    /// The built-in dialects and a user's: (name for people, text). A file with the name of a built-in dialect
    /// replaces it; one that `extends` a dialect adds to it.
    ///
    /// # Errors
    /// Kind Invalid, naming file, line and key.
    pub fn with_files(files: &[(String, String)]) -> Result<Arc<Self>> {
        Self::read(&builtin_files(), files).map(Arc::new)
    }

    /// The dialects of a folder in place of the built-in ones: for trying a change without a build.
    ///
    /// # Errors
    /// Kind Invalid, naming file, line and key.
    pub fn from_files(files: &[(String, String)]) -> Result<Arc<Self>> {
        Self::read(files, &[]).map(Arc::new)
    }

    fn read(builtin: &[(String, String)], own: &[(String, String)]) -> Result<Self> {
        struct Entry {
            file: String,
            text: String,
            said: DialectFile,
        }
        let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
        let mut order: Vec<String> = Vec::new();
        for (position, (file, text)) in builtin.iter().chain(own).enumerate() {
            let mut said = parse(file, text)?;
            if let Some(base) = said.extends.take() {
                let unknown = || {
                    let message = format!(
                        "dialect {file}: it extends {base:?}, which is not a dialect; `spanledger dialects list` names them"
                    );
                    Error::new(ErrorKind::Invalid, message)
                };
                let entry = entries.get_mut(&base).ok_or_else(unknown)?;
                entry.said = extend(&entry.said, said);
                entry.file = format!("{} + {file}", entry.file);
                entry.text = format!("{}\n# {file}\n{text}", entry.text);
                continue;
            }
            let name = said.name.clone().unwrap_or_default();
            if position >= builtin.len() {
                order.retain(|known| *known != name);
            } else if entries.contains_key(&name) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("dialect {file}: {name:?} stands twice"),
                ));
            }
            let shown = if position < builtin.len() { BUILT_IN } else { file };
            let entry = Entry {
                file: shown.to_owned(),
                text: text.clone(),
                said,
            };
            order.push(name.clone());
            entries.insert(name, entry);
        }
        let common = entries
            .get(CONVENTIONS)
            .map(|entry| entry.said.clone())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    format!("there is no dialect {CONVENTIONS:?}, which holds the common keys"),
                )
            })?;
        let mut dialects = Vec::with_capacity(order.len());
        for name in &order {
            let Some(entry) = entries.get(name) else { continue };
            let beneath = (name != CONVENTIONS).then_some(&common);
            // An error names the dialect where the file is shown as built in.
            let shown = if entry.file == BUILT_IN {
                format!("{name}.toml")
            } else {
                entry.file.clone()
            };
            let mut compiled = compile(&shown, &entry.text, &entry.said, beneath)?;
            compiled.file.clone_from(&entry.file);
            dialects.push(Arc::new(compiled));
        }
        let fallback = order.iter().position(|name| name == CONVENTIONS).unwrap_or(0);
        Ok(Self {
            dialects,
            fallback,
            resource_keys: resource_keys(CONVENTIONS, &common)?,
        })
    }

    fn without_dialects() -> Self {
        let file = format!("name = {CONVENTIONS:?}");
        Self::read(&[(CONVENTIONS.to_owned(), file)], &[]).unwrap_or_else(|_| Self {
            dialects: Vec::new(),
            fallback: 0,
            resource_keys: KeyTable::new(),
        })
    }

    /// The dialect of a scope and service: who claims the scope most exactly, else who claims the service,
    /// else the conventions.
    #[must_use]
    pub fn recognise(&self, scope: &str, service: Option<&str>) -> &Arc<Compiled> {
        let by_scope = self.most_exact(scope, |dialect| &dialect.scope_patterns);
        let by_service = || self.most_exact(service?, |dialect| &dialect.service_patterns);
        by_scope.or_else(by_service).unwrap_or(&self.dialects[self.fallback])
    }

    fn most_exact(&self, name: &str, patterns: fn(&Compiled) -> &[Pattern]) -> Option<&Arc<Compiled>> {
        let claims = |dialect: &Arc<Compiled>| {
            let matching = patterns(dialect).iter().filter(|pattern| pattern.matches(name));
            matching.map(Pattern::n_fixed).max()
        };
        // Of equal claims the last wins: a user's dialect over a built-in one.
        let claiming = self
            .dialects
            .iter()
            .filter_map(|dialect| Some((claims(dialect)?, dialect)));
        claiming.max_by_key(|(claim, _)| *claim).map(|(_, dialect)| dialect)
    }

    /// All dialects: the built-in ones by name, then the user's.
    #[must_use]
    pub fn dialects(&self) -> &[Arc<Compiled>] {
        &self.dialects
    }

    /// The keys that count on a resource.
    #[must_use]
    pub fn resource_keys(&self) -> &KeyTable {
        &self.resource_keys
    }

    /// What a key of a record feeds: the canonical field; `ignored` where a rule looks at it or the dialect
    /// says that it means nothing; `None` where nobody reads it.
    #[must_use]
    pub fn field_of(&self, scope: &str, service: Option<&str>, key: &str) -> Option<&'static str> {
        let dialect = self.recognise(scope, service);
        if let Some(field) = dialect.keys.field(key) {
            return Some(field.as_str());
        }
        let records = dialect.spans.iter().chain(&dialect.logs).map(|rule| &rule.condition);
        let points = dialect.points.iter().map(|rule| &rule.condition);
        let is_condition = || {
            records
                .chain(points)
                .any(|condition| condition.keys().any(|known| known == key))
        };
        let is_type = || dialect.points.iter().any(|rule| rule.type_key.as_deref() == Some(key));
        (dialect.keys.knows(key) || is_condition() || is_type()).then_some("ignored")
    }

    /// True where nobody claims the scope or the service: its records are read by the conventions, or guessed.
    #[must_use]
    pub fn is_fallback(&self, dialect: &Compiled) -> bool {
        dialect.name == CONVENTIONS
    }
}

fn builtin_files() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = BuiltIn::iter()
        .filter(|name| name.ends_with(".toml"))
        .filter_map(|name| {
            let text = String::from_utf8(BuiltIn::get(&name)?.data.into_owned()).ok()?;
            Some((name.into_owned(), text))
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests;
