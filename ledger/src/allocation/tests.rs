#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rules;
mod splits;
mod versions;
