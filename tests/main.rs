//! The end-to-end suite: the built binary, real captures, real peers, over its real ports.
//!
//! One binary, for each would link DataFusion again. Every test starts its own server on its own folder;
//! nothing is shared, so any test can run alone: `cargo nextest run --test main captures::`.
//!
//! | module | what it proves |
//! |---|---|
//! | [`allocation`] | rules move cost between teams and change no sum; reports name the same groups |
//! | [`attribution`] | what tools cost adds up, in lines, views and reports |
//! | [`tools`] | the catalogue names tools as the ledger does; `spanledger tools` of a folder and a server agree |
//! | [`captures`] | totals of real traffic equal the ground truth, in any order, sent twice |
//! | [`prices`] | published (model, usage) → cost pairs come out of OTLP digit for digit |
//! | [`sdks`] | the Python and JavaScript OpenTelemetry SDKs export unchanged |
//! | [`reports`] | a month as a file opens in every format, adds up, and is the same over every interface until it is deleted |
//! | [`oauth`] | each flow of an authorization server ends in a tool call and a REST call, and no other token does |
//! | [`otlp`] | the protocol's answers: media types, partial success, errors, limits |
//! | [`crash`] | `kill -9` under load: nothing acknowledged is lost, nothing is counted twice |
//! | [`retry_storm`] | batches sent up to ten times, in other requests, over restarts and compaction: counted once |
//! | [`settle`] | `spanledger settle` and `--rebuild`, in a folder and through a server |
//! | [`lake`] | the Python `deltalake` package reads the same rows and sums |
//! | [`emitters`] | coverage names what nobody reads, a mapping reads it; explain and capture |
//! | [`evaluations`] | fifty questions of an analyst have their exact answers, by the tools of the MCP server |
//! | [`answers`] | answers of every tool take the tokens they may and conform to their output schemas |
//! | [`keys`] | keys are made and revoked beside a server and found nowhere else; two tenants are two ledgers |
//! | [`faces`] | MCP Inspector, Chromium and the command line agree |
//! | [`floods`] | silence, slowness, resets and floods are bounded, and a healthy tenant is served |
//! | [`hostile`] | hostile text in every field reaches no terminal, page, spreadsheet or instruction |
//! | [`refusals`] | what is refused at a face runs nothing and stores nothing |
//! | [`tenants`] | every route by every credential: its rule holds, and no byte of another tenant comes back |
//! | [`tasks`] | MCP tasks by the clients that people have, over restarts, to their expiry |
//! | [`conformance`] | the official conformance suite passes: all of it with fixtures, what any server can pass without |
//! | [`own_calls`] | `serve` meters its own MCP calls, below the caller's trace, without loops |
//! | [`cli`] | exit codes, help, formats, import, doctor |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test says so by a panic"
)]

mod allocation;
mod answers;
mod attribution;
mod captures;
mod cli;
mod conformance;
mod crash;
mod emitters;
mod evaluations;
mod faces;
mod floods;
mod hostile;
mod keys;
mod lake;
mod oauth;
mod otlp;
mod own_calls;
mod pieces;
mod prices;
mod refusals;
mod reports;
mod retry_storm;
mod sdks;
mod settle;
mod support;
mod tasks;
mod tenants;
mod tools;
