//! Rules: which calls they match, what they set, and which rule set what on a call.
//!
//! Rules are asked in their order. Each dimension takes the first rule that has a value for it and may set it:
//! a rule fills what is missing, or overrides what the records say. A later rule sees what an earlier one set, so
//! that a team found by its key can lead to a cost centre. What was set is recorded on the call
//! ([`Call::allocated_by`]) with what stood there before, so that it can be told, counted and taken back.

use std::borrow::Cow;

use serde::Serialize;
use spanledger_model::{Call, CallId, Pattern};

use super::shared::SharedCost;
use super::{Source, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::prices::{Validity, format_instant};

/// Reads a field of a call.
type Read = fn(&Call) -> Option<Cow<'_, str>>;

/// A field that a rule can ask.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: &'static str,
    read: Read,
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

macro_rules! field {
    ($name:literal, $($path:ident).+) => {
        Field { name: $name, read: |call| call.$($path).+.as_deref().map(Cow::Borrowed) }
    };
}

/// Every field, by name. `user` and `session` stand for their columns.
const FIELDS: [Field; 32] = [
    field!("service", dimensions.service),
    field!("environment", dimensions.environment),
    field!("team", dimensions.team),
    field!("project", dimensions.project),
    field!("cost_center", dimensions.cost_center),
    field!("user_id", dimensions.user_id),
    field!("agent", dimensions.agent),
    field!("client", dimensions.client),
    field!("session_id", dimensions.session_id),
    field!("api_key", dimensions.api_key),
    field!("server", mcp.server),
    field!("tool", mcp.tool),
    field!("prompt", mcp.prompt),
    field!("prompt_version", mcp.prompt_version),
    field!("resource_uri", mcp.resource_uri),
    field!("mcp_method", mcp.mcp_method),
    field!("mcp_protocol_version", mcp.mcp_protocol_version),
    field!("transport", mcp.transport),
    field!("provider", model.provider),
    Field {
        name: "model",
        read: |call| {
            let model = call.model.response_model.as_ref().or(call.model.request_model.as_ref());
            model.map(|model| Cow::Borrowed(model.as_str()))
        },
    },
    field!("request_model", model.request_model),
    field!("response_model", model.response_model),
    field!("service_tier", model.service_tier),
    field!("processing", model.processing),
    field!("operation", operation),
    field!("error_type", error_type),
    Field {
        name: "tenant",
        read: |call| Some(Cow::Borrowed(call.tenant.as_str())),
    },
    Field {
        name: "kind",
        read: |call| Some(Cow::Borrowed(call.kind.as_str())),
    },
    Field {
        name: "status",
        read: |call| Some(Cow::Borrowed(call.status.as_str())),
    },
    Field {
        name: "dialects",
        read: |call| Some(Cow::Borrowed(call.dialects.as_str())),
    },
    Field {
        name: "trace_id",
        read: |call| call.trace_id.map(|id| Cow::Owned(id.to_string())),
    },
    Field {
        name: "call_id",
        read: |call| (call.call_id != CallId::default()).then(|| Cow::Owned(call.call_id.to_string())),
    },
];

impl Field {
    /// Reads a name.
    ///
    /// # Errors
    /// A message with all names.
    pub fn parse(name: &str) -> std::result::Result<Self, String> {
        let wanted = match name {
            "user" => "user_id",
            "session" => "session_id",
            "resource" => "resource_uri",
            other => other,
        };
        FIELDS.into_iter().find(|field| field.name == wanted).ok_or_else(|| {
            let names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
            format!("`{name}` is no field of a call; fields: {}", names.join(", "))
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// One field and the patterns of which one must fit. The pattern `""` fits a field without a value, and no other
/// does.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Field.
    pub field: Field,
    /// Patterns.
    pub patterns: Vec<Pattern>,
}

impl Condition {
    /// The pattern that fits a value.
    fn fits(&self, value: Option<&str>) -> Option<&Pattern> {
        self.patterns
            .iter()
            .find(|pattern| match value.filter(|value| !value.is_empty()) {
                None => pattern.as_str().is_empty(),
                Some(value) => !pattern.as_str().is_empty() && pattern.matches(value),
            })
    }

    /// True where a value of the field fits.
    #[must_use]
    pub fn fits_value(&self, value: Option<&str>) -> bool {
        self.fits(value).is_some()
    }

    fn matches(&self, call: &Call) -> bool {
        self.fits_value((self.field.read)(call).as_deref())
    }

    /// As it is told: `api_key "ci-nightly" fits "ci-*"`.
    fn told(&self, call: &Call) -> String {
        let value = (self.field.read)(call);
        let pattern = self.fits(value.as_deref()).map_or("", Pattern::as_str);
        match value {
            None => format!("{} has no value", self.field.name),
            Some(value) if value == pattern => format!("{} is {value:?}", self.field.name),
            Some(value) => format!("{} {value:?} fits {pattern:?}", self.field.name),
        }
    }
}

/// What a rule sets.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// This text.
    Text(String),
    /// The call's value of this field, where it has one.
    Of(Field),
}

impl Value {
    fn of(&self, call: &Call) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Of(field) => (field.read)(call)
                .filter(|value| !value.is_empty())
                .map(Cow::into_owned),
        }
    }

    /// As it is written: a text, or `{service}`.
    #[must_use]
    pub fn written(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Of(field) => format!("{{{}}}", field.name),
        }
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, unique in the set: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// All must hold.
    pub matches: Vec<Condition>,
    /// None may hold.
    pub unless: Vec<Condition>,
    /// What it sets.
    pub sets: Vec<(Target, Value)>,
    /// True where it sets what the records say otherwise, too.
    pub overrides: bool,
    /// Calls that it is asked for, by their start.
    pub validity: Validity,
}

impl Rule {
    /// True where it is asked for such a call, and matches.
    #[must_use]
    pub fn holds(&self, call: &Call) -> bool {
        self.validity.holds_at(call.start_ns)
            && self.matches.iter().all(|condition| condition.matches(call))
            && !self.unless.iter().any(|condition| condition.matches(call))
    }

    /// What it asks, as text: `api_key ci-*, environment prod | staging, not user *bot, from 2026-11-01`.
    #[must_use]
    pub fn condition_text(&self) -> String {
        let of = |word: &str, condition: &Condition| {
            let patterns: Vec<&str> = condition
                .patterns
                .iter()
                .map(|pattern| {
                    if pattern.as_str().is_empty() {
                        "(no value)"
                    } else {
                        pattern.as_str()
                    }
                })
                .collect();
            format!("{word}{} {}", condition.field.name, patterns.join(" | "))
        };
        let mut parts: Vec<String> = self.matches.iter().map(|condition| of("", condition)).collect();
        parts.extend(self.unless.iter().map(|condition| of("not ", condition)));
        if parts.is_empty() {
            parts.push("every call".to_owned());
        }
        parts.extend(
            self.validity
                .from_ns
                .map(|from| format!("from {}", format_instant(from))),
        );
        parts.extend(self.validity.to_ns.map(|to| format!("before {}", format_instant(to))));
        parts.join(", ")
    }

    /// What it sets, as text: `team=payments, cost_center=CC-100`.
    #[must_use]
    pub fn sets_text(&self) -> String {
        let sets = self
            .sets
            .iter()
            .map(|(target, value)| format!("{}={}", target.as_str(), value.written()));
        sets.collect::<Vec<_>>().join(", ")
    }

    /// Why it matches a call.
    fn why(&self, call: &Call) -> String {
        let mut parts: Vec<String> = self.matches.iter().map(|condition| condition.told(call)).collect();
        if parts.is_empty() {
            parts.push("it matches every call".to_owned());
        }
        parts.join(", ")
    }
}

/// What one rule set on a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Dimension.
    pub target: Target,
    /// Rule.
    pub rule: String,
    /// What the records said, where it was overridden.
    pub was: Option<String>,
}

impl Assignment {
    /// Reads what stands on a call ([`Call::allocated_by`]); what cannot be read is left out.
    #[must_use]
    pub fn parse_list(text: &str) -> Vec<Self> {
        let parse = |part: &str| {
            let (target, rest) = part.split_once('=')?;
            let (rule, was) = match rest.split_once('<') {
                Some((rule, was)) => (rule, Some(unescaped(was))),
                None => (rest, None),
            };
            Some(Self {
                target: Target::parse(target)?,
                rule: rule.to_owned(),
                was,
            })
        };
        text.split(',').filter_map(parse).collect()
    }

    fn written(&self) -> String {
        match &self.was {
            None => format!("{}={}", self.target.as_str(), self.rule),
            Some(was) => format!("{}={}<{}", self.target.as_str(), self.rule, escaped(was)),
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace(',', "%2C").replace('<', "%3C")
}

fn unescaped(text: &str) -> String {
    text.replace("%3C", "<").replace("%2C", ",").replace("%25", "%")
}

/// Gives a call back what its records said.
pub fn take_back(call: &mut Call) {
    for assignment in Assignment::parse_list(&call.allocated_by.take().unwrap_or_default()) {
        assignment.target.set(&mut call.dimensions, assignment.was);
    }
}

/// Who decided a dimension of a call, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Dimension.
    pub dimension: &'static str,
    /// Its value; absent where nothing tells.
    pub value: Option<String>,
    /// Rule that set it; absent where the records say it, or nothing does.
    pub rule: Option<String>,
    /// What the records said, where it was overridden.
    pub was: Option<String>,
    /// Why, in words.
    pub why: String,
}

/// The rules and shared costs in use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleSet {
    version: String,
    rules: Vec<Rule>,
    shared: Vec<SharedCost>,
}

/// Version of a set without rules.
pub const NO_VERSION: &str = "v0";

impl RuleSet {
    /// Puts sources together, in their order.
    ///
    /// # Errors
    /// Kind invalid where two rules or two shared costs have one name, or a pool names one that is not there.
    pub fn compose(version: &str, sources: &[Source]) -> Result<Self> {
        let rules: Vec<Rule> = sources.iter().flat_map(|source| source.rules.iter().cloned()).collect();
        let shared: Vec<SharedCost> = sources
            .iter()
            .flat_map(|source| source.shared.iter().cloned())
            .collect();
        let names = |names: Vec<&str>, what: &str| -> Result<()> {
            let mut sorted = names;
            sorted.sort_unstable();
            match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                None => Ok(()),
                Some(pair) => Err(Error::new(
                    ErrorKind::Invalid,
                    format!("two {what} are named {}; give each a name of its own", pair[0]),
                )),
            }
        };
        names(rules.iter().map(|rule| rule.name.as_str()).collect(), "rules")?;
        names(shared.iter().map(|cost| cost.name.as_str()).collect(), "shared costs")?;
        super::shared::check_pools(&shared)?;
        Ok(Self {
            version: version.to_owned(),
            rules,
            shared,
        })
    }

    /// Its version, `v3-1a2b3c4d5e6f`; `v0` for one without rules.
    #[must_use]
    pub fn version(&self) -> &str {
        if self.version.is_empty() {
            NO_VERSION
        } else {
            &self.version
        }
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The shared costs, in their order.
    #[must_use]
    pub fn shared(&self) -> &[SharedCost] {
        &self.shared
    }

    /// The rule of a name.
    #[must_use]
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Fills and overrides a call's dimensions and notes which rule did it. What earlier rules set is taken back
    /// first, so that applying twice is the same as once.
    pub fn apply(&self, call: &mut Call) {
        take_back(call);
        let assignments = self.assign(call, |_, _, _| {});
        let written: Vec<String> = assignments.iter().map(Assignment::written).collect();
        call.allocated_by = (!written.is_empty()).then(|| written.join(","));
    }

    fn assign(&self, call: &mut Call, mut told: impl FnMut(&Rule, Target, &Call)) -> Vec<Assignment> {
        let mut assignments: Vec<Assignment> = Vec::new();
        for rule in &self.rules {
            let is_open = |target: Target, call: &Call| {
                assignments.iter().all(|done| done.target != target)
                    && (rule.overrides || target.of(&call.dimensions).is_none())
            };
            let open: Vec<&(Target, Value)> = rule.sets.iter().filter(|(target, _)| is_open(*target, call)).collect();
            if open.is_empty() || !rule.holds(call) {
                continue;
            }
            // All values first: a rule sees the call as it was when the rule was asked.
            let values: Vec<(Target, String)> = open
                .into_iter()
                .filter_map(|(target, value)| Some((*target, value.of(call)?)))
                .collect();
            for (target, _) in &values {
                told(rule, *target, call);
            }
            for (target, value) in values {
                let was = target.of(&call.dimensions).map(str::to_owned);
                target.set(&mut call.dimensions, Some(value));
                assignments.push(Assignment {
                    target,
                    rule: rule.name.clone(),
                    was,
                });
            }
        }
        assignments
    }

    /// Which rule decides each dimension of a call, and why. The call may be as its records say or as settled.
    #[must_use]
    pub fn explain(&self, call: &Call) -> Vec<Decision> {
        let mut call = call.clone();
        take_back(&mut call);
        let mut reasons: Vec<(Target, String)> = Vec::new();
        let assignments = self.assign(&mut call, |rule, target, call| reasons.push((target, rule.why(call))));
        let decide = |target: Target| {
            let value = target.of(&call.dimensions).map(str::to_owned);
            let done = assignments.iter().find(|done| done.target == target);
            let why = match (done, &value) {
                (Some(_), _) => reasons
                    .iter()
                    .find(|(of, _)| *of == target)
                    .map_or_else(String::new, |(_, why)| why.clone()),
                (None, Some(_)) => "the records say so, and no rule overrides it".to_owned(),
                (None, None) => "no record says it and no rule matches".to_owned(),
            };
            Decision {
                dimension: target.as_str(),
                value,
                rule: done.map(|done| done.rule.clone()),
                was: done.and_then(|done| done.was.clone()),
                why,
            }
        };
        Target::ALL.map(decide).to_vec()
    }
}
