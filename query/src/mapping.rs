//! From unmapped keys to the TOML that would map them: a dialect's file, ready to be checked and named in
//! `[dialects]`.
//!
//! One file a service (or a scope that several services share); one that is already claimed by a dialect
//! gets a file that extends it. Keys are guessed by their names, so the file says what to check. Texts come
//! from telemetry and are hostile: each stands in a TOML string or, cleaned, in a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

/// Fields whose keys prove a model call.
const TOKENS: [&str; 2] = ["input", "output"];
/// The dialect whose resource keys are everybody's.
const COMMON: &str = "gen_ai";
/// Fields that hold a number.
const NUMBERS: [&str; 7] = [
    "input",
    "output",
    "cache_read",
    "cache_write",
    "reasoning",
    "total",
    "cost",
];
/// Signal of a key that is the name of a metric.
const METRIC_NAME: &str = "metric name";
/// What the points of a metric can count.
const COUNTED: [&str; 6] = ["input", "output", "cache_read", "cache_write", "reasoning", "cost"];
/// Signals that can have rules by attribute.
const RULED: [(&str, &str); 2] = [("span", "span"), ("log", "log")];
/// Keys a field is given in one file.
const KEYS_MAX: usize = 8;

/// A file that would read keys that nobody reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Name of the dialect, and of the file without `.toml`.
    pub name: String,
    /// The dialect it adds to; absent for a new one.
    pub extends: Option<String>,
    /// The file.
    pub toml: String,
}

/// How well a service's scope is read.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) recognised: i64,
    pub(crate) unrecognised: i64,
}

/// A key that nobody reads.
#[derive(Debug, Clone)]
pub(crate) struct Unmapped {
    pub(crate) service: Option<String>,
    pub(crate) scope: Option<String>,
    pub(crate) dialect: Option<String>,
    pub(crate) signal: String,
    pub(crate) key: String,
    pub(crate) field: String,
    pub(crate) example_type: String,
    pub(crate) records: i64,
}

/// Whose records a file is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Extends(String),
    Service(String),
    Scope(String),
}

/// One file a group; keys that belong to nobody (neither service nor scope) are left out.
pub(crate) fn suggest(served: &[Served], keys: &[Unmapped]) -> Vec<Mapping> {
    let mut services_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in served {
        if let (Some(scope), Some(service)) = (&row.scope, &row.service) {
            services_of.entry(scope).or_default().insert(service);
        }
    }
    let is_shared = |scope: &str| services_of.get(scope).is_some_and(|services| services.len() > 1);
    let group_of = |service: &Option<String>, scope: &Option<String>| match (service, scope) {
        (_, Some(scope)) if is_shared(scope) => Some(Group::Scope(scope.clone())),
        (Some(service), _) => Some(Group::Service(service.clone())),
        (None, Some(scope)) => Some(Group::Scope(scope.clone())),
        (None, None) => None,
    };
    let mut groups: BTreeMap<Group, Vec<&Unmapped>> = BTreeMap::new();
    for key in keys.iter().filter(|key| is_plausible(key)) {
        let group = match &key.dialect {
            _ if key.signal == "resource" => Some(Group::Extends(COMMON.to_owned())),
            Some(dialect) => Some(Group::Extends(dialect.clone())),
            None => group_of(&key.service, &key.scope),
        };
        if let Some(group) = group {
            groups.entry(group).or_default().push(key);
        }
    }
    groups
        .into_iter()
        .map(|(group, keys)| {
            // Of the group's own scopes: whether any record with such keys was understood.
            let pairs: BTreeSet<_> = keys.iter().map(|key| (&key.service, &key.scope)).collect();
            let of_group = served.iter().filter(|row| pairs.contains(&(&row.service, &row.scope)));
            let (recognised, unrecognised) =
                of_group.fold((0, 0), |sum, row| (sum.0 + row.recognised, sum.1 + row.unrecognised));
            write_file(&group, &keys, recognised, unrecognised)
        })
        .collect()
}

/// True where a key may hold what its name says. The points of a dialect's own counters are read by its rules.
fn is_plausible(key: &Unmapped) -> bool {
    let is_of_type = match key.example_type.as_str() {
        "int" | "double" => true,
        "text" => !NUMBERS.contains(&key.field.as_str()),
        _ => false,
    };
    let is_of_a_known_counter = key.signal == "metric" && key.dialect.is_some();
    is_of_type && !is_of_a_known_counter && (key.signal != METRIC_NAME || COUNTED.contains(&key.field.as_str()))
}

fn write_file(group: &Group, keys: &[&Unmapped], recognised: i64, unrecognised: i64) -> Mapping {
    let (name, extends) = match group {
        Group::Extends(dialect) => (format!("my_{}", slug(dialect)), Some(dialect.clone())),
        Group::Service(name) | Group::Scope(name) => (format!("my_{}", slug(name)), None),
    };
    let mut toml = format!(
        "# {name}.toml: keys that nobody reads, with fields guessed from their names. Check every line, then\n\
         #   spanledger dialects check {name}.toml\n\
         # and name the file in spanledger.toml:\n\
         #   [dialects]\n\
         #   files = [\"{name}.toml\"]\n"
    );
    match group {
        Group::Extends(dialect) => line(&mut toml, "extends", &quoted(dialect)),
        Group::Service(service) => {
            line(&mut toml, "name", &quoted(&name));
            line(&mut toml, "emitter", &quoted(service));
            line(&mut toml, "services", &format!("[{}]", quoted(service)));
        }
        Group::Scope(scope) => {
            line(&mut toml, "name", &quoted(&name));
            line(&mut toml, "emitter", &quoted(scope));
            line(&mut toml, "scopes", &format!("[{}]", quoted(scope)));
        }
    }
    let is_of_resources = keys.iter().any(|key| key.signal == "resource");
    let of_records: Vec<&Unmapped> = keys.iter().filter(|key| key.signal != METRIC_NAME).copied().collect();
    let heading = if is_of_resources {
        "\n[resource_keys]\n"
    } else {
        "\n[keys]\n"
    };
    if !of_records.is_empty() {
        toml.push_str(heading);
    }
    for (field, keys) in &by_field(&of_records) {
        let list: Vec<String> = keys.iter().take(KEYS_MAX).map(|key| quoted(&key.key)).collect();
        let seen: Vec<String> = keys
            .iter()
            .take(KEYS_MAX)
            .map(|key| format!("{} in {} {} records", key.example_type, key.records, key.signal))
            .collect();
        let _ = writeln!(toml, "{field} = [{}]  # {}", list.join(", "), comment(&seen.join("; ")));
    }
    write_rules(&mut toml, keys, recognised, unrecognised);
    write_metrics(&mut toml, keys);
    Mapping { name, extends, toml }
}

/// Rules by attribute: without one, records of a form that the conventions do not know stay unread. Where
/// some records were understood, the conventions may know these too, so the rules are only proposed.
fn write_rules(toml: &mut String, keys: &[&Unmapped], recognised: i64, unrecognised: i64) {
    if unrecognised == 0 {
        return;
    }
    let lead = if recognised == 0 { "" } else { "# " };
    for (signal, table) in RULED {
        let of_signal = |field: &str| keys.iter().find(|key| key.signal == signal && key.field == field);
        let rules = [
            (TOKENS.iter().find_map(|field| of_signal(field)), "llm"),
            (of_signal("tool"), "tool"),
        ];
        for (key, kind) in rules {
            let Some(key) = key else { continue };
            let _ = write!(
                toml,
                "\n{lead}[[{table}]]\n{lead}has  = [{}]\n{lead}kind = \"{kind}\"\n",
                quoted(&key.key)
            );
        }
    }
}

/// A rule for each counter: its name says what it counts.
fn write_metrics(toml: &mut String, keys: &[&Unmapped]) {
    for key in keys.iter().filter(|key| key.signal == METRIC_NAME) {
        let what = match key.field.as_str() {
            "cost" => "value = \"usd\"  # or micro_usd".to_owned(),
            field => format!("value = \"tokens\"\ntokens = \"{field}\""),
        };
        let _ = write!(
            toml,
            "\n[[metric]]\nname  = {}\nkind  = \"llm\"\n{what}\n",
            quoted(&key.key)
        );
    }
}

fn by_field<'k>(keys: &[&'k Unmapped]) -> BTreeMap<&'k str, Vec<&'k Unmapped>> {
    let mut fields: BTreeMap<&str, Vec<&Unmapped>> = BTreeMap::new();
    for key in keys {
        let of_field = fields.entry(key.field.as_str()).or_default();
        if of_field.iter().all(|other| other.key != key.key) {
            of_field.push(key);
        }
    }
    fields
}

fn line(toml: &mut String, key: &str, value: &str) {
    let _ = writeln!(toml, "{key:<8} = {value}");
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

fn comment(text: &str) -> String {
    text.chars().map(crate::format::or_space).collect()
}

/// Lower-case letters, digits and underscores, 40 at most.
fn slug(text: &str) -> String {
    let mut slug = String::new();
    for character in text.chars() {
        let character = character.to_ascii_lowercase();
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
        if slug.len() >= 40 {
            break;
        }
    }
    let slug = slug.trim_end_matches('_');
    if slug.is_empty() {
        "emitter".to_owned()
    } else {
        slug.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(signal: &str, key: &str, field: &str) -> Unmapped {
        Unmapped {
            service: Some("Acme Agent".into()),
            scope: Some("acme".into()),
            dialect: None,
            signal: signal.into(),
            key: key.into(),
            field: field.into(),
            example_type: "int".into(),
            records: 3,
        }
    }

    fn served(recognised: i64) -> Served {
        Served {
            service: Some("Acme Agent".into()),
            scope: Some("acme".into()),
            recognised,
            unrecognised: 3,
        }
    }

    #[test]
    fn a_service_that_nobody_reads_gets_keys_and_rules() {
        let keys = [
            key("span", "acme.input_tokens", "input"),
            key("span", "acme.tool", "tool"),
            key("log", "acme.input_tokens", "input"),
        ];
        let mappings = suggest(&[served(0)], &keys);
        assert_eq!((mappings.len(), mappings[0].name.as_str()), (1, "my_acme_agent"));
        let toml = &mappings[0].toml;
        for part in [
            "services = [\"Acme Agent\"]",
            "input = [\"acme.input_tokens\"]  # int in 3 span records",
            "\n[[span]]\nhas  = [\"acme.input_tokens\"]\nkind = \"llm\"",
            "\n[[span]]\nhas  = [\"acme.tool\"]\nkind = \"tool\"",
            "\n[[log]]\nhas  = [\"acme.input_tokens\"]",
        ] {
            assert!(toml.contains(part), "{part} in\n{toml}");
        }
    }

    #[test]
    fn a_claimed_service_gets_an_extension_and_a_half_read_one_only_proposals() {
        let mut claimed = key("span", "codex.new_tokens", "input");
        claimed.dialect = Some("codex".into());
        let mapping = &suggest(&[served(2)], &[claimed])[0];
        assert_eq!(mapping.extends.as_deref(), Some("codex"));
        assert!(mapping.toml.contains("extends  = \"codex\""), "{}", mapping.toml);
        assert!(mapping.toml.contains("\n# [[span]]\n# has"), "{}", mapping.toml);
    }

    #[test]
    fn a_hostile_key_stays_in_its_string() {
        let hostile = key("span", "x\"]\n[[span]]\nkind=\"none\"\u{1b}input_tokens", "input");
        let toml = &suggest(&[served(2)], &[hostile])[0].toml;
        assert!(
            toml.contains(r#"x\"]\u000A[[span]]\u000Akind=\"none\"\u001Binput_tokens"#),
            "{toml}"
        );
        assert!(!toml.contains('\u{1b}') && !toml.contains("\n[[span]]"), "{toml}");
    }

    #[test]
    fn a_key_of_another_type_or_of_a_counter_is_not_proposed_and_one_of_a_resource_is_everybodys() {
        let mut of_type = key("span", "acme.provider", "provider");
        of_type.example_type = "bool".into();
        let mut number = key("span", "acme.output_tokens", "output");
        number.example_type = "text".into();
        let mut of_counter = key("metric", "acme.tool", "tool");
        of_counter.dialect = Some("acme".into());
        assert!(suggest(&[served(0)], &[of_type, number, of_counter]).is_empty());
        let mapping = &suggest(&[served(0)], &[key("resource", "acme.team_id", "team")])[0];
        assert_eq!(mapping.extends.as_deref(), Some("gen_ai"));
        assert!(
            mapping.toml.contains("[resource_keys]\nteam = [\"acme.team_id\"]"),
            "{}",
            mapping.toml
        );
    }

    #[test]
    fn a_counter_gets_a_rule_with_its_name() {
        let keys = [
            key("metric name", "acme.input_tokens", "input"),
            key("metric name", "acme.cost", "cost"),
        ];
        let toml = &suggest(&[served(0)], &keys)[0].toml;
        let part =
            "[[metric]]\nname  = \"acme.input_tokens\"\nkind  = \"llm\"\nvalue = \"tokens\"\ntokens = \"input\"\n";
        assert!(
            toml.contains(part) && toml.contains("value = \"usd\"") && !toml.contains("[keys]"),
            "{toml}"
        );
    }

    #[test]
    fn a_scope_of_several_services_gets_one_file() {
        let mut other = served(0);
        other.service = Some("other".into());
        let mapping = &suggest(&[served(0), other], &[key("span", "acme.input_tokens", "input")])[0];
        assert!(mapping.toml.contains("scopes   = [\"acme\"]"), "{}", mapping.toml);
    }
}
