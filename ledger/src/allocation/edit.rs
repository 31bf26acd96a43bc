//! One rule set from outside a file: by REST or by a tool, for one tenant.
//!
//! Such rules are kept as a file of their own in the version (`api-<tenant>`), which is written here: every rule in it
//! asks for the tenant, so that it is never asked for another's calls. What is written is read again by
//! [`file`](super::file), which checks it as it checks a file of the user's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spanledger_model::TenantId;

use super::file::{self, Source};
use super::store::Version;
use crate::error::{Error, ErrorKind, Result};

/// The field by which such a rule is of one tenant.
const TENANT: &str = "tenant";

/// A rule as it is asked for: the same words as in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRule {
    /// Its name: of that name there is one.
    pub name: String,
    /// Field to patterns, of which one must fit.
    #[serde(default, rename = "match")]
    pub matches: BTreeMap<String, Vec<String>>,
    /// Field to patterns, of which none may.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unless: BTreeMap<String, Vec<String>>,
    /// Dimension to its value.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// True where it replaces what the records say.
    #[serde(default, rename = "override", skip_serializing_if = "std::ops::Not::not")]
    pub overrides: bool,
    /// First day or instant of the calls that it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<String>,
    /// First one that it is no more asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    rules: Vec<NewRule>,
}

/// The name under which a tenant's rules are kept.
#[must_use]
pub fn source_name(tenant: &TenantId) -> String {
    format!("api-{tenant}")
}

/// The tenant's rules with one put in the place of the one of its name, or last.
///
/// # Errors
/// Kind invalid for a rule that cannot be used, naming what is wrong; corrupt where what is kept cannot be read.
pub fn with_rule(version: Option<&Version>, tenant: &TenantId, mut rule: NewRule) -> Result<Source> {
    if rule.matches.contains_key(TENANT) || rule.unless.contains_key(TENANT) {
        return Err(Error::new(
            ErrorKind::Invalid,
            "a rule set here is of your own tenant; leave `tenant` out",
        ));
    }
    if tenant.as_str().contains('*') {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the name of this tenant has a `*`, which patterns take for any text; import a file instead",
        ));
    }
    rule.matches.insert(TENANT.to_owned(), vec![tenant.as_str().to_owned()]);
    let name = source_name(tenant);
    let kept = version.and_then(|version| version.sources.iter().find(|source| source.name == name));
    let mut kept: Kept = match kept {
        Some(source) => toml::from_str(&source.text)
            .map_err(|error| Error::new(ErrorKind::Corrupt, format!("the rules {name} cannot be read: {error}")))?,
        None => Kept::default(),
    };
    match kept.rules.iter_mut().find(|earlier| earlier.name == rule.name) {
        Some(earlier) => *earlier = rule,
        None => kept.rules.push(rule),
    }
    let text = toml::to_string(&kept).map_err(|error| Error::internal(error.to_string()))?;
    file::read(&name, &text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::allocation::store::{ImportedBy, RuleStore};

    fn rule(name: &str, team: &str) -> NewRule {
        NewRule {
            name: name.to_owned(),
            matches: BTreeMap::from([("api_key".to_owned(), vec!["ci-*".to_owned()])]),
            unless: BTreeMap::new(),
            set: BTreeMap::from([("team".to_owned(), team.to_owned())]),
            overrides: false,
            valid_from: Some("2026-11-01".to_owned()),
            valid_to: None,
        }
    }

    #[test]
    fn a_rule_is_added_and_replaced_and_is_of_its_tenant_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = RuleStore::new(folder.path());
        let (acme, rival) = (TenantId::from_credential("acme"), TenantId::from_credential("rival"));
        let by = ImportedBy::default();
        for (tenant, rule) in [
            (&acme, rule("ci", "platform")),
            (&rival, rule("rivals", "other")),
            (&acme, rule("ci", "build")),
            (&acme, rule("late", "night")),
        ] {
            let source = with_rule(store.current().unwrap().as_ref(), tenant, rule).unwrap();
            store.import(source, &by, false).unwrap();
        }
        let rules = store.current_rules().unwrap();
        let named: Vec<(&str, String)> = rules
            .rules()
            .iter()
            .map(|rule| (rule.name.as_str(), rule.sets_text()))
            .collect();
        assert_eq!(
            named,
            [
                ("ci", "team=build".to_owned()),
                ("late", "team=night".to_owned()),
                ("rivals", "team=other".to_owned())
            ]
        );
        let text = rules.rules()[2].condition_text();
        assert!(text.contains("tenant rival") && text.contains("api_key ci-*"), "{text}");
    }

    #[test]
    fn a_rule_cannot_name_another_tenant_or_be_wrong() {
        let acme = TenantId::from_credential("acme");
        let mut other = rule("ci", "platform");
        other.matches.insert("tenant".to_owned(), vec!["rival".to_owned()]);
        assert!(
            with_rule(None, &acme, other)
                .unwrap_err()
                .message()
                .contains("your own tenant")
        );
        let mut wrong = rule("ci", "platform");
        wrong.set = BTreeMap::from([("tool".to_owned(), "x".to_owned())]);
        let error = with_rule(None, &acme, wrong).unwrap_err();
        assert!(error.message().contains("not set by rules"), "{}", error.message());
    }
}
