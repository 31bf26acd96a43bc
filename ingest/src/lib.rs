//! OTLP in, canonical rows out: receivers, limits, dialects, deduplication, acknowledgement.
//!
//! The only crate that knows OTLP. A request goes
//! `read → inflate → decode → authenticate → normalise → append to WAL → acknowledge`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`accept`] | the seam between the receivers and the pipeline |
//! | [`admission`] | bounds on what is in flight |
//! | [`capture`], [`scrub`] | captures of an emitter: reading them, and making them fit to keep |
//! | [`decode`] | protobuf and JSON bodies into requests, within a memory budget |
//! | [`dialects`] | what an emitter's records mean |
//! | [`door`] | who may send |
//! | [`error`] | the crate's error |
//! | [`limits`] | every limit and its source |
//! | [`meters`] | counters of what was received |
//! | [`noise`] | raw spans that are stored for a share of their traces |
//! | [`normalise`] | requests into rows |
//! | [`pipeline`] | normalise, append to the log, acknowledge |
//! | `compression`, `json`, `receive`, `serve`, `status`, `unread` | inflating, OTLP/JSON, what both receivers share, connections, answers, those before a body was read |
//! | `http`, `grpc` | the two receivers |

#![forbid(unsafe_code)]

pub mod accept;
pub mod admission;
pub mod capture;
mod compression;
pub mod decode;
pub mod dialects;
pub mod door;
pub mod error;
mod grpc;
mod http;
mod json;
pub mod limits;
pub mod meters;
pub mod noise;
pub mod normalise;
pub mod pipeline;
mod receive;
pub mod scrub;
mod serve;
mod status;
mod unread;
pub mod value;

pub use accept::{Accept, Accepted, Encoding, Request, Signal};
pub use admission::Admission;
pub use decode::decode;
pub use door::Door;
pub use error::{Error, ErrorKind, Result};
pub use grpc::serve_grpc;
pub use http::{http_router, serve_http};
pub use limits::Limits;
pub use pipeline::{OtlpReplay, Pipeline};
pub use serve::serve_router;

#[cfg(test)]
pub(crate) mod testing;
