//! Every limit of the crate, each with its source.
//!
//! A request over a limit is refused or a value is truncated and marked; nothing is dropped in silence.
//! So are the rules for noise, which are counted.
//! The defaults are constants here; configuration may change the fields of [`Limits`].

use crate::noise::NoiseRules;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// A request body after decompression: the OTLP specification recommends 64 MiB (v1.11.0).
pub const BODY_BYTES_MAX: usize = 64 * MIB;
/// A compressed request body on the wire. Telemetry compresses about 10:1, so that 16 MiB holds any body
/// of [`BODY_BYTES_MAX`] that is not mostly noise.
pub const COMPRESSED_BYTES_MAX: usize = 16 * MIB;
/// What a body may weigh once decoded. Spans with short attributes decode to about 4.5 times their bytes,
/// empty ones to 150 times: the bound lets the first through at full body size and stops the second.
pub const DECODED_BYTES_MAX: usize = 384 * MIB;
/// Bodies being read, decoded or written, all requests together: one decoded request of the largest size
/// and some room, and under the memory target of ingest (512 MB, performance.md P10).
pub const BODIES_IN_FLIGHT_BYTES_MAX: usize = 512 * MIB;
/// Requests between their first byte and their answer. A request waits one group commit (2-10 ms), so 256
/// of them keep a disk busy many times over.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;
/// Open gRPC connections; further ones wait in the listener's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// Concurrent streams of one HTTP/2 connection. SDK exporters send one request at a time, collectors tens.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Header list of one HTTP/2 request: the size most HTTP servers allow.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// HTTP/2 receive window of a stream and of a connection: a usual batch (~250 KB) arrives without waiting
/// for a window update.
pub const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// HTTP/2 receive window of a connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// A request from its first byte to its answer. OTLP exporters give up after 10 s by default.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;
/// What a refused sender is told to wait. Group commit and flush both run within 2 s.
pub const RETRY_AFTER_MS: u64 = 1_000;
/// Time open requests get at shutdown: the process is to exit within 10 s of SIGTERM.
pub const DRAIN_MS: u64 = 8_000;
/// What is read and thrown away of a refused body, so that an HTTP/1 sender reads the answer instead of
/// failing on its own write and sending the same body again.
pub const DISCARD_BYTES_MAX: usize = 256 * MIB;
/// The same on the port of the faces, whose requests are small.
pub const DISCARD_FACES_BYTES_MAX: usize = MIB;
/// An error or partial-success message in an answer. OTLP allows 4 MiB; gRPC carries it in a header, and
/// 8 KiB is what proxies take for all headers.
pub const RESPONSE_MESSAGE_BYTES_MAX: usize = KIB;
/// Window of a zstd frame: RFC 8878 recommends that decoders support 8 MiB and refuse what they cannot hold.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Nested arrays and maps in a JSON attribute value. prost stops at 100 messages, which is 31 nested maps;
/// serde_json at 127 levels, which 24 nested maps in an exemplar come close to.
pub const JSON_VALUE_DEPTH_MAX: u32 = 24;
/// Bodies over this are inflated and decoded on the blocking pool: about 2 ms of work.
pub const INLINE_DECODE_BYTES_MAX: usize = MIB;

/// Attributes kept of a span, log record or data point. SDKs stop at 128 by default, but OpenInference spends
/// several on each message of a conversation; the body limit bounds the rest.
pub const ATTRIBUTES_MAX: usize = 4096;
/// Attributes kept of a resource or scope.
pub const RESOURCE_ATTRIBUTES_MAX: usize = 256;
/// Bytes of an attribute key.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 512;
/// Bytes of a value kept in the attribute maps, truncated and marked beyond. Larger texts that are prompts
/// or results go to `payloads`.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 32 * KIB;
/// Bytes of one text kept in `payloads`: a context window of a million tokens is about 4 MiB.
pub const PAYLOAD_TEXT_BYTES_MAX: usize = 4 * MIB;
/// Nested arrays and maps kept as structure, beyond it as JSON text.
pub const VALUE_DEPTH_MAX: usize = 16;
/// Events kept of a span (SDKs stop at 128; streaming LLM spans add one per chunk).
pub const EVENTS_MAX: usize = 1024;
/// Links kept of a span (SDKs stop at 128).
pub const LINKS_MAX: usize = 256;
/// Bytes of a span's, metric's or event's name.
pub const NAME_BYTES_MAX: usize = 4 * KIB;

/// The limits in force. Lengths are in bytes, times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`COMPRESSED_BYTES_MAX`].
    pub compressed_bytes_max: usize,
    /// See [`DECODED_BYTES_MAX`].
    pub decoded_bytes_max: usize,
    /// See [`BODIES_IN_FLIGHT_BYTES_MAX`].
    pub bodies_in_flight_bytes_max: usize,
    /// See [`REQUESTS_IN_FLIGHT_MAX`].
    pub requests_in_flight_max: usize,
    /// See [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// See [`STREAMS_PER_CONNECTION_MAX`].
    pub streams_per_connection_max: u32,
    /// See [`REQUEST_TIMEOUT_MS`].
    pub request_timeout_ms: u64,
    /// See [`RETRY_AFTER_MS`].
    pub retry_after_ms: u64,
    /// See [`DRAIN_MS`].
    pub drain_ms: u64,
    /// See [`RESPONSE_MESSAGE_BYTES_MAX`].
    pub response_message_bytes_max: usize,
    /// See [`ATTRIBUTES_MAX`].
    pub attributes_max: usize,
    /// See [`RESOURCE_ATTRIBUTES_MAX`].
    pub resource_attributes_max: usize,
    /// See [`ATTRIBUTE_KEY_BYTES_MAX`].
    pub attribute_key_bytes_max: usize,
    /// See [`ATTRIBUTE_VALUE_BYTES_MAX`].
    pub attribute_value_bytes_max: usize,
    /// See [`PAYLOAD_TEXT_BYTES_MAX`].
    pub payload_text_bytes_max: usize,
    /// See [`VALUE_DEPTH_MAX`].
    pub value_depth_max: usize,
    /// See [`EVENTS_MAX`].
    pub events_max: usize,
    /// See [`LINKS_MAX`].
    pub links_max: usize,
    /// See [`NAME_BYTES_MAX`].
    pub name_bytes_max: usize,
    /// Raw spans that are stored for a share of their traces only.
    pub noise: NoiseRules,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            compressed_bytes_max: COMPRESSED_BYTES_MAX,
            decoded_bytes_max: DECODED_BYTES_MAX,
            bodies_in_flight_bytes_max: BODIES_IN_FLIGHT_BYTES_MAX,
            requests_in_flight_max: REQUESTS_IN_FLIGHT_MAX,
            connections_max: CONNECTIONS_MAX,
            streams_per_connection_max: STREAMS_PER_CONNECTION_MAX,
            request_timeout_ms: REQUEST_TIMEOUT_MS,
            retry_after_ms: RETRY_AFTER_MS,
            drain_ms: DRAIN_MS,
            response_message_bytes_max: RESPONSE_MESSAGE_BYTES_MAX,
            attributes_max: ATTRIBUTES_MAX,
            resource_attributes_max: RESOURCE_ATTRIBUTES_MAX,
            attribute_key_bytes_max: ATTRIBUTE_KEY_BYTES_MAX,
            attribute_value_bytes_max: ATTRIBUTE_VALUE_BYTES_MAX,
            payload_text_bytes_max: PAYLOAD_TEXT_BYTES_MAX,
            value_depth_max: VALUE_DEPTH_MAX,
            events_max: EVENTS_MAX,
            links_max: LINKS_MAX,
            name_bytes_max: NAME_BYTES_MAX,
            noise: NoiseRules::default(),
        }
    }
}
