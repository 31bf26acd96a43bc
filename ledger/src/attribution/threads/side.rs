//! Side calls: short calls of a conversation's model that do not stand in its growing context (a title, a
//! classification).

use spanledger_model::Call;

/// How many later calls of a thread are looked at to tell a side call from a compaction.
const LOOK_AHEAD: usize = 8;

/// What is asked about the calls of a thread, by position in the component.
pub(super) struct Questions<'q> {
    /// How many tool results came between two calls.
    pub(super) returned: &'q dyn Fn(usize, usize) -> bool,
    /// Records say that the second sends none of the first's instructions and tools.
    pub(super) is_apart: &'q dyn Fn(usize, usize) -> bool,
}

/// Takes out the calls that do not stand in the growing context: much smaller than the one before, and either
/// told to be another's or followed by one that continues that; or first, and much smaller than the next although
/// nothing was returned between. The only places where a call depends on later ones: at most [`LOOK_AHEAD`] of
/// them, and only where a context halves or begins.
pub(super) fn without_side_calls(
    calls: &[Call],
    members: Vec<usize>,
    questions: &Questions<'_>,
) -> (Vec<usize>, Vec<usize>) {
    let input = |position: usize| calls[position].usage.input.unwrap_or(0);
    let output = |position: usize| calls[position].usage.output.unwrap_or(0);
    let is_smaller = |small: usize, large: usize| input(small) < input(large) / 2;
    let is_preface = |first: usize, next: usize| {
        input(first).saturating_add(output(first)) < input(next) / 2 && !(questions.returned)(first, next)
    };
    // Most threads have none.
    let may_have = members.windows(2).any(|pair| is_smaller(pair[1], pair[0]))
        || members.windows(2).take(1).any(|pair| is_preface(pair[0], pair[1]));
    if !may_have {
        return (members, Vec::new());
    }
    let (mut main, mut side): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    for (at, member) in members.iter().enumerate() {
        let is_side = match main.last() {
            Some(last) if is_smaller(*member, *last) => {
                let mut later = members[at + 1..].iter().take(LOOK_AHEAD);
                (questions.is_apart)(*last, *member) || later.any(|later| input(*later) >= input(*last))
            }
            Some(_) => false,
            None => members.get(at + 1).is_some_and(|next| is_preface(*member, *next)),
        };
        if is_side {
            side.push(*member);
        } else {
            main.push(*member);
        }
    }
    (main, side)
}
