//! Prompts: questions that people ask again and again, as a plan of tool calls for a model.
//!
//! They name tools, arguments and what a good answer says; figures come from the tools. What a person fills in is
//! cleaned and bounded before it goes into the text.

use rmcp::model::{ErrorData, GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use crate::text::clean;

/// An argument of a prompt: its name, what it is for, whether it must be given.
type Field = (&'static str, &'static str, bool);

/// What was filled in for a field.
type Given<'g> = &'g dyn Fn(&str) -> Option<String>;

struct Definition {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    fields: &'static [Field],
    write: fn(Given<'_>) -> String,
}

const TEAM: Field = ("team", "one team; all where absent", false);

const ALL: [Definition; 4] = [
    Definition {
        name: "weekly_cost_review",
        title: "Weekly cost review",
        description: "What the last seven days cost, what changed and why, budgets, what to do about it",
        fields: &[TEAM],
        write: weekly_cost_review,
    },
    Definition {
        name: "investigate_spike",
        title: "Investigate a cost spike",
        description: "Why did cost go up: price, volume, mix or context size, and which calls are behind it",
        fields: &[
            (
                "since",
                "when it began: 2026-11-01, RFC 3339, or a span back such as 7d",
                true,
            ),
            ("until", "when it ended; now where absent", false),
            TEAM,
        ],
        write: investigate_spike,
    },
    Definition {
        name: "tool_surface_diet",
        title: "Tool surface diet",
        description: "Which MCP tools cost more than they give: definitions never called, results carried for long, errors",
        fields: &[("server", "one MCP server; all where absent", false)],
        write: tool_surface_diet,
    },
    Definition {
        name: "chargeback_statement",
        title: "Chargeback statement",
        description: "A month's statement: own and shared cost by team or project, exact to the last digit",
        fields: &[
            ("month", "2026-11", true),
            (
                "by",
                "team, project, cost_center or environment; team where absent",
                false,
            ),
        ],
        write: chargeback_statement,
    },
];

/// All prompts, always in this order.
pub(crate) fn definitions() -> Vec<Prompt> {
    ALL.iter()
        .map(|definition| {
            let arguments = definition.fields.iter().map(|(name, description, required)| {
                PromptArgument::new(*name)
                    .with_description(*description)
                    .with_required(*required)
            });
            Prompt::new(definition.name, Some(definition.description), Some(arguments.collect()))
                .with_title(definition.title)
        })
        .collect()
}

/// A prompt with its arguments filled in.
///
/// # Errors
/// `-32602` for a prompt that is not there, and an argument that is missing.
pub(crate) fn get(name: &str, arguments: Option<&JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let Some(definition) = ALL.iter().find(|definition| definition.name == name) else {
        let names: Vec<_> = ALL.iter().map(|definition| definition.name).collect();
        let message = format!("there is no such prompt; prompts: {}", names.join(", "));
        return Err(ErrorData::invalid_params(message, None));
    };
    let given = |field: &str| {
        let value = arguments?.get(field)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(clean(text.trim())).filter(|text| !text.is_empty() && *value != Value::Null)
    };
    if let Some((missing, what, _)) = definition
        .fields
        .iter()
        .find(|(field, _, required)| *required && given(field).is_none())
    {
        let message = format!("{name} needs `{missing}`: {what}");
        return Err(ErrorData::invalid_params(message, None));
    }
    let text = (definition.write)(&given);
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(definition.description))
}

/// `, filters {"dimension": "value"}` where a value is given.
fn filter(dimension: &str, value: Option<&String>) -> String {
    value.map_or_else(String::new, |value| {
        format!(", filters {}", serde_json::json!({ dimension: value }))
    })
}

fn weekly_cost_review(given: Given<'_>) -> String {
    let team = given("team");
    let filters = filter("team", team.as_ref());
    let of = team.map_or_else(|| "all teams".to_owned(), |team| format!("the team {team:?}"));
    format!(
        "Review what AI cost in the last seven days, for {of}.\n\
         1. query_costs with since 7d, by [\"team\"]{filters}; then by [\"model\"], and by [\"tool\"] for the dearest.\n\
         2. explain_change for these seven days against the seven before{filters}.\n\
         3. find_anomalies since 7d, forecast_spend for the month end and the budgets.\n\
         4. find_savings: the three largest, with their evidence.\n\
         Write one page: total and change in USD, what drove it (price, volume, mix, context size), budgets at risk \
         with their breach date, what to do, in order of money. Say what is unpriced or undivided. Every figure comes \
         from a tool, exactly as it was given."
    )
}

fn investigate_spike(given: Given<'_>) -> String {
    let team = given("team");
    let filters = filter("team", team.as_ref());
    let since = given("since").unwrap_or_default();
    let until = given("until").unwrap_or_else(|| "now".to_owned());
    format!(
        "Cost rose between {since:?} and {until:?}. Find out why.\n\
         1. explain_change for that time against the time before of the same length{filters}: price, volume, mix, \
         context size, top movers.\n\
         2. query_costs with an interval, by the dimension that moved most{filters}: when exactly did it begin?\n\
         3. inspect_trace for one or two of the calls behind it.\n\
         4. tool_economics if a tool or an MCP server moved: are its definitions, results or errors the cause?\n\
         Answer with the cause in one sentence, the money it explains and what remains unexplained, the evidence \
         (calls, traces), and what would undo it."
    )
}

fn tool_surface_diet(given: Given<'_>) -> String {
    let server = given("server");
    let filters = filter("server", server.as_ref());
    let of = server.map_or_else(
        || "every MCP server".to_owned(),
        |server| format!("the MCP server {server:?}"),
    );
    format!(
        "Which tools of {of} are not worth their context?\n\
         1. tool_economics since 30d{filters}: calls, errors, context tax, idle tax, carry, cost per success.\n\
         2. find_savings since 30d: what concerns tools.\n\
         3. run_sql on tool_catalog for definitions that are large and never called.\n\
         Write a table: tool, what it costs a month, what of it is definition (context tax) and idle, calls, errors; \
         then advice for each: remove, shorten, load on demand, return less, fix. Sum up what that saves a month."
    )
}

fn chargeback_statement(given: Given<'_>) -> String {
    let month = given("month").unwrap_or_default();
    let by = given("by").unwrap_or_else(|| "team".to_owned());
    format!(
        "Write the chargeback statement of {month:?} by {by:?}.\n\
         1. create_report of kind chargeback for that month by that dimension; link the file.\n\
         2. query_costs for that month by [{by:?}]: the rows and other must add up to the total.\n\
         3. run_sql on allocated_costs for that period and dimension: each one's part of shared costs.\n\
         Show own cost, part of shared cost and sum for each, exact to the last digit; name what is unallocated and \
         what has no price, and the rule that allocated it."
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn every_prompt_asks_for_what_it_needs_and_names_only_tools_that_are_planned() {
        for prompt in definitions() {
            let required: Vec<_> = prompt
                .arguments
                .iter()
                .flatten()
                .filter(|argument| argument.required == Some(true))
                .collect();
            assert_eq!(
                get(&prompt.name, None).is_err(),
                !required.is_empty(),
                "{}",
                prompt.name
            );
            let filled = json!({ "since": "7d", "month": "2026-11", "team": "a\u{202e}b", "server": "x" });
            let text = serde_json::to_string(&get(&prompt.name, filled.as_object()).unwrap()).unwrap();
            assert!(!text.contains('\u{202e}'), "{text}");
        }
        assert!(get("no_such_prompt", None).is_err());
    }
}
