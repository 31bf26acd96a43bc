//! What stands before the protocol layer, over HTTP and over standard input alike: what a call needs, and whether
//! its principal has it.
//!
//! A token that lacks a scope has to be told so by HTTP, before rmcp answers with a result of its own.

use serde_json::Value;
use spanledger_access::{Scope, Scopes};

/// All scopes that a call of this tool with these arguments needs, so that one challenge names them all.
pub(crate) fn needs(tool: &str, arguments: &Value) -> Scopes {
    match tool {
        "run_sql" => Scopes::of(&[Scope::SqlRead]),
        "set_budget" | "set_allocation_rule" => Scopes::of(&[Scope::FinopsWrite]),
        "inspect_trace" if is_set(&arguments["payloads"]) => Scopes::of(&[Scope::CostsRead, Scope::PayloadsRead]),
        _ => Scopes::of(&[Scope::CostsRead]),
    }
}

/// True for an argument that is given as true, in any of the forms that clients send.
fn is_set(argument: &Value) -> bool {
    argument == &Value::Bool(true) || argument == "true"
}
