//! Definitions that come and leave between two calls of a thread: a server was connected, a list of tools
//! changed, tools were searched for. Those that leave take their tokens with them; those that come claim a part
//! of the growth and stand in the prefix, behind the definitions that stayed, so that the cache is placed on the
//! order in which they are sent. Sizes are the caller's; nothing here knows where they came from.

use hashbrown::HashSet;

use super::{Cause, Claim, Owner, Segment};

/// Takes out the definitions that are not among those sent now.
pub(super) fn leave(segments: &mut Vec<Segment>, sent: &[Claim]) {
    let sent: HashSet<&Owner> = sent.iter().map(|claim| &*claim.owner).collect();
    segments.retain(|segment| segment.cause != Cause::Definition || sent.contains(&*segment.owner));
}

/// The claims of definitions that stand in no segment.
pub(super) fn came(segments: &[Segment], sent: &[Claim]) -> Vec<Claim> {
    let definitions = segments.iter().filter(|segment| segment.cause == Cause::Definition);
    let stand: HashSet<&Owner> = definitions.map(|segment| &*segment.owner).collect();
    let is_new = |claim: &&Claim| claim.cause == Cause::Definition && !stand.contains(&*claim.owner);
    sent.iter().filter(is_new).cloned().collect()
}

/// Moves definitions that were appended behind those of the prefix.
pub(super) fn to_the_prefix(segments: &mut Vec<Segment>) {
    let is_definition = |segment: &Segment| segment.cause == Cause::Definition;
    let n_first = segments.iter().take_while(|segment| is_definition(segment)).count();
    let (appended, others): (Vec<Segment>, Vec<Segment>) = segments.drain(n_first..).partition(is_definition);
    segments.extend(appended);
    segments.extend(others);
}
