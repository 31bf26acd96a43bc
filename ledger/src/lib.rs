//! Money: what a call costs, and who caused it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`allocation`] | rules that say whose a call is, and the split of shared costs |
//! | [`budget`], [`forecast`] | what may be spent, and what will be |
//! | [`charge`] | from a call and the price book to ledger lines |
//! | [`fold`] | from observations to calls: every rule against double counting |
//! | [`prices`] | the price book: dated, conditional rates by provider and model |
//! | [`rating`] | usage × rates → exact pieces of cost |
//! | [`settle`] | the task that keeps `calls` and `ledger` true to the observations |
//! | [`version_files`] | a folder of immutable versions |

#![forbid(unsafe_code)]

pub mod allocation;
pub mod attribution;
pub mod budget;
pub mod charge;
pub mod error;
pub mod fold;
pub mod forecast;
pub mod prices;
pub mod rating;
pub mod settle;
pub mod version_files;

pub use error::{Error, ErrorKind, Result};
