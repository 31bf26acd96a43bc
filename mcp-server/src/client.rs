//! [`Client`]: what the program at the other end can do, as far as a tool's answer depends on it.
//!
//! Read from each request: in the modern era from its `_meta`, in the legacy era from the handshake, where there is
//! one. A capability that was not declared is not used.

use rmcp::model::ProtocolVersion;
use rmcp::service::{RequestContext, RoleServer};

/// Which of the two protocols a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Era {
    /// Up to 2025-11-25: handshake, the server may ask the client in a session.
    #[default]
    Legacy,
    /// From 2026-07-28: every request on its own; the server asks by `InputRequiredResult`.
    Modern,
}

/// What a client declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// Which protocol.
    pub(crate) era: Era,
    /// Version of the protocol, where known.
    pub(crate) version: Option<String>,
    /// Understands a task as the answer to any call (extension `io.modelcontextprotocol/tasks` of the modern era; in the
    /// legacy era a call asks for one, whatever the handshake declared).
    pub(crate) tasks: bool,
    /// Can show its user a form.
    pub(crate) elicitation_form: bool,
    /// Can open an address for its user.
    pub(crate) elicitation_url: bool,
}

impl Client {
    /// The client of a request.
    pub(crate) fn of(context: &RequestContext<RoleServer>) -> Self {
        let version = context.protocol_version();
        let is_modern = version
            .as_ref()
            .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        let capabilities = context.client_capabilities().unwrap_or_default();
        let elicitation = capabilities.elicitation.as_ref();
        Self {
            era: if is_modern { Era::Modern } else { Era::Legacy },
            version: version.map(|version| version.as_str().to_owned()),
            tasks: is_modern && capabilities.supports_tasks(),
            // An empty capability means forms, as before URL mode existed.
            elicitation_form: elicitation.is_some_and(|kinds| kinds.form.is_some() || kinds.url.is_none()),
            elicitation_url: elicitation.is_some_and(|kinds| kinds.url.is_some()),
        }
    }
}
