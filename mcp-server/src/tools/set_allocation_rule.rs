//! `set_allocation_rule`: one rule that says whose a cost is, after a look at what it would move.

use std::collections::BTreeMap;

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_access::audit::Interface;
use spanledger_ledger::allocation::edit::NewRule;
use spanledger_query::{Error, Result};

use super::{Answer, Call, writing_tool};
use crate::arguments::Arguments;
use crate::confirmation::Question;
use crate::text::{clean, clean_value};

pub(crate) const NAME: &str = "set_allocation_rule";
const ARGUMENTS: [&str; 8] = [
    "name",
    "match",
    "unless",
    "set",
    "override",
    "valid_from",
    "valid_to",
    "confirm",
];
/// Moves told in the question.
const MOVES_TOLD: usize = 8;

pub(crate) fn definition() -> Tool {
    writing_tool(
        NAME,
        "Set allocation rule",
        "Adds or replaces a rule that says whose cost a call is. Without confirm it changes nothing and tells how much \
         cost of the last 30 days it would move: show that to the user first. For calls settled from then on.",
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "match": { "type": "object", "description": "field to patterns, all must fit, e.g. {\"api_key\": [\"ci-*\"]}" },
                "unless": { "type": "object" },
                "set": { "type": "object", "description": "team, project, cost_center or environment to a text" },
                "override": { "type": "boolean", "description": "also against what the records say" },
                "valid_from": { "type": "string" },
                "valid_to": { "type": "string" },
                "confirm": { "type": "boolean", "description": "the user agreed" }
            },
            "required": ["name", "match", "set"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "changed": { "type": "boolean" },
                "version": { "type": ["string", "null"] },
                "preview": { "type": "object" },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let finops = call.shared.finops()?;
    let rule = rule(&arguments)?;
    let preview = finops.preview_rule(call.principal, rule.clone()).await?;
    call.confirmation.demand(arguments.flag("confirm")?, || Question {
        message: told(&preview),
        url: call.shared.link("/"),
    })?;
    let version = finops.set_rule(call.principal, Interface::Mcp, rule).await?;
    let notes =
        ["taken up within a second, for calls settled from then on; `spanledger settle --rebuild` moves history"];
    let text = match &version {
        Some(version) => format!("set as version {version}: {}\n{}", told(&preview), notes[0]),
        None => "the rules say this already; nothing was changed".to_owned(),
    };
    Ok(Answer::new(
        text,
        json!({
            "changed": version.is_some(), "version": version, "preview": clean_value(preview), "notes": notes,
        }),
    ))
}

fn rule(arguments: &Arguments) -> Result<NewRule> {
    let name = arguments
        .text("name")?
        .ok_or_else(|| Error::invalid("`name` of set_allocation_rule is missing"))?;
    let patterns = |argument: &str| -> Result<BTreeMap<String, Vec<String>>> {
        let conditions = arguments.conditions(argument)?.into_iter();
        // The empty pattern fits a field without a value.
        Ok(conditions
            .map(|(field, values)| (field, values.into_iter().map(Option::unwrap_or_default).collect()))
            .collect())
    };
    let mut set = BTreeMap::new();
    for (dimension, mut values) in arguments.conditions("set")? {
        match (values.len(), values.pop().flatten()) {
            (1, Some(value)) => drop(set.insert(dimension, value)),
            _ => {
                return Err(Error::invalid(
                    "`set` gives each dimension one text, such as {\"team\": \"platform\"}",
                ));
            }
        }
    }
    let text = |argument: &str| Ok::<_, Error>(arguments.text(argument)?.map(str::to_owned));
    Ok(NewRule {
        name: name.to_owned(),
        matches: patterns("match")?,
        unless: patterns("unless")?,
        set,
        overrides: arguments.flag("override")?,
        valid_from: text("valid_from")?,
        valid_to: text("valid_to")?,
    })
}

/// The preview in words.
fn told(preview: &Value) -> String {
    let text = |value: &Value| clean(value.as_str().unwrap_or_default());
    let mut told = format!("rule {}: {}", text(&preview["rule"]), text(&preview["text"]));
    if let Some(old) = preview["replaces"].as_str() {
        told.push_str(&format!("; replaces {}", clean(old)));
    }
    let moves: Vec<&Value> = preview["moves"].as_array().into_iter().flatten().collect();
    told.push_str(&format!(
        "; of the last 30 days it decides {} calls, {} USD",
        preview["calls"],
        text(&preview["cost"])
    ));
    for moved in moves.iter().take(MOVES_TOLD) {
        told.push_str(&format!(
            "; {} {} -> {}: {} calls, {} USD",
            text(&moved["dimension"]),
            text(&moved["from"]),
            text(&moved["to"]),
            moved["calls"],
            text(&moved["cost"])
        ));
    }
    let total = preview["moves_total"].as_u64().unwrap_or(0);
    if total == 0 {
        told.push_str("; nothing moves");
    } else if total > MOVES_TOLD as u64 {
        told.push_str(&format!("; {MOVES_TOLD} of {total} moves shown"));
    }
    told
}
