//! `set_budget`: a budget, after a look at what it would change.

use rmcp::model::Tool;
use serde_json::{Value, json};
use spanledger_access::audit::Interface;
use spanledger_ledger::budget::{Period, Thresholds};
use spanledger_query::costs::CURRENCY;
use spanledger_query::finops::budgets::{Measured, Preview, budget_from};
use spanledger_query::{Error, Result};

use super::{Answer, Call, writing_tool};
use crate::arguments::Arguments;
use crate::confirmation::Question;
use crate::question;
use crate::text::clean;

pub(crate) const NAME: &str = "set_budget";
const ARGUMENTS: [&str; 7] = ["name", "amount", "period", "filters", "thresholds", "delete", "confirm"];

pub(crate) fn definition() -> Tool {
    writing_tool(
        NAME,
        "Set budget",
        "Sets, replaces or deletes a budget in USD for a scope. Without confirm it changes nothing and tells what would \
         change and how past periods compare: show that to the user first. forecast_spend lists budgets.",
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "amount": { "type": "string", "description": "USD a period, e.g. 1200.50" },
                "period": { "enum": Period::ALL.map(Period::as_str), "default": "month" },
                "filters": question::filters_schema(),
                "thresholds": { "type": "array", "items": { "type": "integer" }, "description": "percent; default 80, 100" },
                "delete": { "type": "boolean" },
                "confirm": { "type": "boolean", "description": "the user agreed" }
            },
            "required": ["name"],
            "additionalProperties": false
        }),
        json!({
            "type": "object",
            "properties": {
                "changed": { "type": "boolean" },
                "budget": { "type": ["object", "null"] },
                "past": { "type": "array", "items": { "type": "object" } },
                "notes": { "type": "array" }
            }
        }),
    )
}

pub(crate) async fn answer(call: Call<'_>) -> Result<Answer> {
    let arguments = Arguments::new(NAME, &ARGUMENTS, call.arguments)?;
    let finops = call.shared.finops()?;
    let name = arguments
        .text("name")?
        .ok_or_else(|| Error::invalid("`name` of set_budget is missing"))?;
    let confirm = arguments.flag("confirm")?;
    let url = call.shared.link("/");
    if arguments.flag("delete")? {
        let measured = finops.budget(call.principal, name).await?;
        call.confirmation.demand(confirm, || Question {
            message: format!("deletes the budget {}", in_words(&measured)),
            url,
        })?;
        finops.delete_budget(call.principal, Interface::Mcp, name).await?;
        let text = format!("deleted the budget {}", clean(name));
        return Ok(Answer::new(
            text,
            json!({ "changed": true, "budget": null, "notes": [] }),
        ));
    }
    let amount = arguments
        .digits("amount")?
        .ok_or_else(|| Error::invalid("`amount` of set_budget is missing: USD a period, such as \"1200\""))?;
    let thresholds = arguments.percents("thresholds")?.map(|actual| Thresholds {
        actual,
        ..Thresholds::default()
    });
    let budget = budget_from(
        name,
        &amount,
        arguments.text("period")?,
        arguments.conditions("filters")?,
        thresholds,
    )?;
    let preview = finops.preview_budget(call.principal, budget.clone()).await?;
    call.confirmation.demand(confirm, || Question {
        message: told(&preview),
        url,
    })?;
    let measured = finops.set_budget(call.principal, Interface::Mcp, budget).await?;
    let notes = notes(&measured);
    let text = format!("set: {}\n{}", in_words(&measured), notes.join("; "));
    let past: Vec<Value> = preview
        .past
        .iter()
        .map(|(since, cost)| json!({ "since": since, "cost": cost.to_string() }))
        .collect();
    Ok(Answer::new(
        text,
        json!({ "changed": true, "budget": in_fields(&measured), "past": past, "notes": notes }),
    ))
}

/// The preview in words.
fn told(preview: &Preview) -> String {
    let verb = if preview.replaces.is_some() { "replaces" } else { "sets" };
    let mut text = format!("{verb} the budget {}", in_words(&preview.measured));
    if let Some(old) = &preview.replaces {
        text.push_str(&format!(
            ", was {} {CURRENCY} a {} for {}",
            old.amount,
            old.period.as_str(),
            clean(&old.scope_text())
        ));
    }
    if preview.past.is_empty() {
        text.push_str("; no whole period of usage to compare with");
    } else {
        let past: Vec<String> = preview
            .past
            .iter()
            .map(|(since, cost)| format!("{since} {cost}"))
            .collect();
        text.push_str(&format!(
            "; {} of the last {} periods would have been over it ({})",
            preview.n_over(),
            preview.past.len(),
            past.join(", ")
        ));
    }
    text
}

/// A budget in one line.
pub(crate) fn in_words(measured: &Measured) -> String {
    let (budget, standing) = (&measured.budget, &measured.standing);
    let mut text = format!(
        "{}: {}, {} of {} {CURRENCY} a {} spent by {}, forecast {}",
        clean(&budget.name),
        standing.state.as_str(),
        standing.spent,
        budget.amount,
        budget.period.as_str(),
        clean(&budget.scope_text()),
        standing.forecast
    );
    if let Some(date) = measured.breach_date() {
        text.push_str(&format!(", breach {date}"));
    }
    if let Some(burning) = standing.burning() {
        text.push_str(&format!(", burns {burning}"));
    }
    text
}

/// A budget for programs.
pub(crate) fn in_fields(measured: &Measured) -> Value {
    crate::text::clean_value(serde_json::to_value(measured).unwrap_or_default())
}

fn notes(measured: &Measured) -> Vec<String> {
    let mut notes = vec!["it is looked at by forecast_spend and spanledger://budgets".to_owned()];
    if measured.unpriced_tokens > 0 {
        notes.push(format!(
            "{} tokens without a price do not count",
            measured.unpriced_tokens
        ));
    }
    notes
}
