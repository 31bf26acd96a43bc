//! Tests of the rules, the splits and the versions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rules;
mod splits;
mod versions;
