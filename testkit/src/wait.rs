//! Waiting for a condition: asks again and again until it holds or a deadline has passed.
//!
//! The only place in the tests that lets time pass. No test waits for a time, only for a fact.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Between two questions. Short against everything that is waited for, long against a busy loop.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it gives a value; an error of `probe` counts as "not yet" and is told at the deadline.
///
/// # Errors
/// Where `deadline` passes first, with `what` and the last error.
pub async fn until<T>(what: &str, deadline: Duration, mut probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        let outcome = probe().await;
        if let Ok(Some(value)) = outcome {
            return Ok(value);
        }
        if started.elapsed() > deadline {
            let waited = format!("waited {:.0} s in vain for {what}", started.elapsed().as_secs_f64());
            match outcome {
                Ok(_) => bail!(waited),
                Err(error) => return Err(error).context(waited),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
