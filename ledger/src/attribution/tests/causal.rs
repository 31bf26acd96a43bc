//! What a call's division rests on was told by then: over simulated sessions that are cut at a call, the turns of
//! the beginning are those of the whole. Two things are told later by nature: a side call, by the next call of a
//! larger context; and what a call wrote, where only the tools that then ran tell it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use spanledger_testkit::simulator::{Session, Shape, session};

use super::super::threads::{Sent, Thread, threads};
use super::simulated::{Evidence, reported};
use crate::fold::Folded;

/// The calls that began until a call did, and where each stands in the whole.
fn beginning(whole: &Folded, until_ns: i64) -> (Folded, Vec<usize>) {
    let kept: Vec<usize> = (0..whole.calls.len())
        .filter(|at| whole.calls[*at].start_ns <= until_ns)
        .collect();
    let place_of = |at: usize| kept.iter().position(|kept| *kept == at);
    let folded = Folded {
        calls: kept.iter().map(|at| whole.calls[*at].clone()).collect(),
        parents: kept.iter().map(|at| whole.parents[*at].and_then(place_of)).collect(),
    };
    (folded, kept)
}

/// Starts of the main conversation's calls: nothing runs then.
fn cuts(session: &Session) -> Vec<i64> {
    let main = session.calls.iter().filter(|call| call.thread == 0);
    main.map(|call| call.start_ms * 1_000_000).collect()
}

#[test]
fn a_call_that_is_appended_changes_no_division_before_it() {
    let (mut n_compared, mut n_side) = (0, 0);
    for seed in 0..120 {
        let session = session(seed, Shape::REALISTIC);
        for evidence in [Evidence::Messages, Evidence::Stated, Evidence::Bytes, Evidence::Counts] {
            let (folded, observations) = reported(&session, evidence);
            let sent = Sent::of_all(&observations);
            let whole = threads(&folded, &sent);
            let of_call: HashMap<usize, (&Thread, usize)> = whole
                .iter()
                .flat_map(|thread| {
                    thread
                        .calls
                        .iter()
                        .enumerate()
                        .map(move |(at, call)| (*call, (thread, at)))
                })
                .collect();
            for cut in cuts(&session).into_iter().step_by(7) {
                let (begun, kept) = beginning(&folded, cut);
                for thread in threads(&begun, &sent) {
                    let calls: Vec<usize> = thread.calls.iter().map(|call| kept[*call]).collect();
                    let (later, from) = of_call[&calls[0]];
                    if !later.calls[from..].starts_with(&calls) || from > 0 {
                        let is_alone = |call: &usize| of_call[call].0.calls.len() == 1;
                        assert!(calls.iter().any(is_alone), "seed {seed}, {evidence:?}: {calls:?}");
                        n_side += 1;
                        continue;
                    }
                    let (mut now, mut then) = (thread.turns.clone(), later.turns[..calls.len()].to_vec());
                    if evidence != Evidence::Messages {
                        now.last_mut().unwrap().parts.clear();
                        then.last_mut().unwrap().parts.clear();
                    }
                    assert_eq!(now, then, "seed {seed}, {evidence:?}, until {cut}");
                    n_compared += 1;
                }
            }
        }
    }
    assert!(
        n_compared > 1_000 && n_side * 10 < n_compared,
        "{n_compared} compared, {n_side} side calls"
    );
}
