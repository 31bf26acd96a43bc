//! The ledger as an MCP server: an AI client asks what things cost and gets exact figures.
//!
//! The last station of the flow, beside the dashboard: every answer comes from
//! [`Engine`](spanledger_query::Engine), so that it agrees with REST, SQL and the command line. `rmcp` is the
//! protocol layer and knows both eras (2026-07-28 stateless, 2025-11-25 with its handshake); nothing is kept
//! between requests but for legacy clients that the server may ask, and tasks are durable. Guarantees: an answer fits a model's context (limits in
//! [`limits`]), its text and its structured form are each complete alone, names from telemetry are marked as
//! data and stripped of invisible characters. Deliberately not here: SQL planning, the answers' arithmetic.
//!
//! | module | what it holds |
//! |---|---|
//! | `transport`, `stdio` | Streamable HTTP, and standard input and output |
//! | `front`, `legacy` | before the protocol layer: limits, hosts, scopes, sessions, tasks of 2025-11-25 |
//! | [`server`] | the MCP handler: who asks, which tools, resources, prompts, how answers and errors go out |
//! | `runner`, `tasks` | the one place that runs a tool; runs that outlive their request |
//! | [`shared`] | what every request works with |
//! | `tools` | one file a tool: definition, schema, answer |
//! | `resources`, `prompts`, `completion` | what there is beside tools |
//! | `asking`, `confirmation`, `progress` | questions to the client's user, sealed; how far a tool is |
//! | [`telemetry`] | the server meters itself |
//! | `arguments`, `text` | lenient reading of arguments, with errors that teach; telemetry's text made harmless; TSV |
//! | `fixtures` | what the conformance suite calls, behind a flag |
//! | [`limits`] | every limit, with its reason |

#![forbid(unsafe_code)]

mod arguments;
mod asking;
mod client;
mod completion;
mod confirmation;
mod error;
mod fixtures;
mod front;
mod legacy;
pub mod limits;
mod progress;
mod prompts;
mod question;
mod resources;
mod runner;
pub mod server;
pub mod shared;
mod stdio;
pub(crate) mod tasks;
pub mod telemetry;
mod text;
mod tools;
mod transport;

pub use error::{Error, ErrorKind, Result};
pub use server::LedgerServer;
pub use shared::{Shared, owner_digest};
pub use tasks::TaskSettings;
pub use transport::{ROUTES, router, serve_stdio};

/// The mark of the server, drawn here: nothing is loaded from anywhere.
const ICON: &str = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAxNiAxNiI+PHJlY3Qgd2lkdGg9IjE2IiBoZWlnaHQ9IjE2IiByeD0iMyIgZmlsbD0iIzFmMmE0NCIvPjxwYXRoIGQ9Ik0zIDRoMTBNMyA4aDdNMyAxMmg0IiBzdHJva2U9IiNmZmYiIHN0cm9rZS13aWR0aD0iMiIvPjwvc3ZnPg==";

/// [`ICON`] as the protocol writes it.
pub(crate) fn icon() -> rmcp::model::Icon {
    rmcp::model::Icon::new(ICON)
        .with_mime_type("image/svg+xml")
        .with_sizes(vec!["any".to_owned()])
}

#[cfg(test)]
mod tests;
