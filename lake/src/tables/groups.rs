//! Columns that several tables have, in groups that stand together: each is named once, for writing and for reading.
//!
//! The columns' names are spelled out: what is stored does not follow the names of our fields.

use spanledger_model::Usage;
use spanledger_model::call::{Dimensions, McpFields, ModelFields, Sizes};

use super::codec::{Decoder, Encoder};

/// A struct of texts: how it is written as columns, and read by row.
macro_rules! texts {
    ($(#[$doc:meta])* $write:ident, $read:ident, $of:ident { $($field:ident: $column:literal,)+ }) => {
        $(#[$doc])*
        pub(super) fn $write<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r $of> + Clone) {
            $(encoder.text($column, rows.clone().map(|of| of.$field.as_deref()));)+
        }

        $(#[$doc])*
        pub(super) fn $read<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> $of + use<'b> {
            $(let $field = columns.text($column);)+
            move |row| $of { $($field: $field.owned(row),)+ }
        }
    };
}

/// The same of numbers.
macro_rules! ints {
    ($(#[$doc:meta])* $write:ident, $read:ident, $of:ident { $($field:ident: $column:literal,)+ }) => {
        $(#[$doc])*
        pub(super) fn $write<'r>(encoder: &mut Encoder, rows: impl Iterator<Item = &'r $of> + Clone) {
            $(encoder.int($column, rows.clone().map(|of| of.$field));)+
        }

        $(#[$doc])*
        pub(super) fn $read<'b>(columns: &Decoder<'b>) -> impl Fn(usize) -> $of + use<'b> {
            $(let $field = columns.int($column);)+
            move |row| $of { $($field: $field(row),)+ }
        }
    };
}

texts! {
    /// What a call is counted under.
    write_dimensions, read_dimensions, Dimensions {
        service: "service",
        environment: "environment",
        team: "team",
        project: "project",
        cost_center: "cost_center",
        user_id: "user_id",
        agent: "agent",
        client: "client",
        session_id: "session_id",
        api_key: "api_key",
    }
}

texts! {
    /// What a call is in MCP.
    write_mcp, read_mcp, McpFields {
        server: "server",
        tool: "tool",
        prompt: "prompt",
        prompt_version: "prompt_version",
        resource_uri: "resource_uri",
        mcp_method: "mcp_method",
        mcp_protocol_version: "mcp_protocol_version",
        transport: "transport",
        request_id: "request_id",
    }
}

texts! {
    /// Which model answered, and how.
    write_model, read_model, ModelFields {
        provider: "provider",
        request_model: "request_model",
        response_model: "response_model",
        response_id: "response_id",
        service_tier: "service_tier",
        processing: "processing",
    }
}

ints! {
    /// What was used, in tokens and searches.
    write_usage, read_usage, Usage {
        input: "input_tokens",
        cache_read: "cache_read_tokens",
        cache_write_5m: "cache_write_5m_tokens",
        cache_write_1h: "cache_write_1h_tokens",
        output: "output_tokens",
        reasoning: "reasoning_tokens",
        audio_input: "audio_input_tokens",
        audio_output: "audio_output_tokens",
        image_input: "image_input_tokens",
        web_searches: "web_searches",
    }
}

ints! {
    /// Sizes, in bytes.
    write_sizes, read_sizes, Sizes {
        request_bytes: "request_bytes",
        response_bytes: "response_bytes",
        definition_bytes: "definition_bytes",
    }
}
