//! Carried lines: what calls send again, summed over the calls of an hour.
//!
//! A carried line has no call: it stands for the calls of one conversation that started within one hour of UTC,
//! so that no hour, day or month has another sum than call by call, and `n_calls` says how many. What tells two
//! carried lines apart is everything a line says but its measures. Without a conversation the trace is one.

use spanledger_model::{Bucket, CallId, FemtoUsd, LedgerLine};

use super::lines::{Names, Share};

/// Calls are summed that started within the same one of these, nanoseconds.
const SUMMED_NS: i64 = 3_600_000_000_000;

/// The carried lines of a component in the making.
#[derive(Debug, Default)]
pub(super) struct Carried {
    groups: Vec<Group>,
    sums: Vec<Sum>,
    /// The group of each bucket that a line was last added to: mostly the next call's is the same.
    recent: [Option<usize>; Bucket::ALL.len()],
    /// The line that was added from last, and its group: a line has many shares.
    last: Option<(Option<CallId>, Bucket, usize)>,
}

/// Lines of calls that differ in who caused them only.
#[derive(Debug)]
struct Group {
    /// A line of one of the calls.
    line: LedgerLine,
    hour: i64,
    /// By name: the place of its sum.
    places: Vec<Option<usize>>,
}

#[derive(Debug)]
struct Sum {
    group: usize,
    share: Share,
    n_calls: i64,
    /// Start of the first call, nanoseconds since the Unix epoch.
    time_ns: i64,
}

impl Carried {
    /// Adds a share of a call's line.
    pub(super) fn add(&mut self, line: &LedgerLine, share: &Share) {
        let group = match self.last {
            Some((call_id, bucket, group)) if call_id == line.call_id && bucket == line.bucket => group,
            _ => self.group_of(line),
        };
        self.last = Some((line.call_id, line.bucket, group));
        let places = &mut self.groups[group].places;
        if places.len() <= share.name {
            places.resize(share.name + 1, None);
        }
        let place = places[share.name];
        let Some(sum) = place.and_then(|place| self.sums.get_mut(place)) else {
            places[share.name] = Some(self.sums.len());
            self.sums.push(Sum {
                group,
                share: *share,
                n_calls: 1,
                time_ns: line.time_ns,
            });
            return;
        };
        let add = |sum: &mut Option<FemtoUsd>, cost: Option<FemtoUsd>| {
            // A group's lines are all priced or all unpriced.
            if let (Some(sum), Some(cost)) = (sum, cost) {
                *sum += cost;
            }
        };
        if let (Some(sum), Some(tokens)) = (&mut sum.share.tokens, share.tokens) {
            *sum += tokens;
        }
        add(&mut sum.share.list_cost, share.list_cost);
        add(&mut sum.share.contracted_cost, share.contracted_cost);
        add(&mut sum.share.effective_cost, share.effective_cost);
        sum.n_calls += 1;
        sum.time_ns = sum.time_ns.min(line.time_ns);
    }

    fn group_of(&mut self, line: &LedgerLine) -> usize {
        let hour = line.time_ns.div_euclid(SUMMED_NS);
        let bucket = line.bucket as usize;
        let is_of = |group: &Group| group.hour == hour && is_alike(&group.line, line);
        if let Some(recent) = self.recent[bucket].filter(|recent| is_of(&self.groups[*recent])) {
            return recent;
        }
        let found = self.groups.iter().position(is_of).unwrap_or_else(|| {
            self.groups.push(Group {
                line: line.clone(),
                hour,
                places: Vec::new(),
            });
            self.groups.len() - 1
        });
        self.recent[bucket] = Some(found);
        found
    }

    /// The lines, in the order in which they were first added to.
    pub(super) fn into_lines(self, names: &Names) -> impl Iterator<Item = LedgerLine> {
        let groups = self.groups;
        self.sums.into_iter().map(move |sum| {
            let line = &groups[sum.group].line;
            let mut carried = LedgerLine {
                call_id: None,
                span_id: None,
                trace_id: line.trace_id.filter(|_| line.dimensions.session_id.is_none()),
                time_ns: sum.time_ns,
                n_calls: sum.n_calls,
                tokens: sum.share.tokens,
                list_cost: sum.share.list_cost,
                contracted_cost: sum.share.contracted_cost,
                effective_cost: sum.share.effective_cost,
                ..line.clone()
            };
            names.write_to(sum.share.name, &mut carried);
            carried
        })
    }
}

/// True where two lines of calls can be summed: they differ in the call and in measures only.
fn is_alike(a: &LedgerLine, b: &LedgerLine) -> bool {
    a.bucket == b.bucket
        && a.list_cost.is_some() == b.list_cost.is_some()
        && a.contracted_cost.is_some() == b.contracted_cost.is_some()
        && a.effective_cost.is_some() == b.effective_cost.is_some()
        && a.model == b.model
        && a.price_id == b.price_id
        && a.price_version == b.price_version
        && (a.dimensions.session_id.is_some() || a.trace_id == b.trace_id)
        && a.dimensions == b.dimensions
        && a.provider == b.provider
        && a.prompt == b.prompt
        && a.tenant == b.tenant
}
