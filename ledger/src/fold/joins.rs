//! Which positions are of one call, and under which rule each came to be.
//!
//! Rules join positions; the result is a partition with, for each part, the surest joins that hold it
//! together: a part held by an id is as sure as the id, whatever weaker rules would have found it too.

use std::collections::BTreeMap;

use super::rules::Rule;

/// A join: the record that was there, the one that came in, and why.
pub type Edge = (usize, usize, Rule);

/// Disjoint sets of positions, and the joins that made them.
#[derive(Debug)]
pub(crate) struct Joins {
    sets: Sets,
    members: Vec<Vec<usize>>,
    edges: Vec<Edge>,
}

impl Joins {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            sets: Sets::new(count),
            members: (0..count).map(|position| vec![position]).collect(),
            edges: Vec::new(),
        }
    }

    pub(crate) fn find(&mut self, position: usize) -> usize {
        self.sets.find(position)
    }

    /// The positions that are of one call with a position.
    pub(crate) fn members_of(&mut self, position: usize) -> &[usize] {
        let root = self.sets.find(position);
        &self.members[root]
    }

    /// Joins `b` to `a`.
    pub(crate) fn join(&mut self, a: usize, b: usize, rule: Rule) {
        self.edges.push((a, b, rule));
        let (first, second) = (self.sets.find(a), self.sets.find(b));
        if first == second {
            return;
        }
        self.sets.join(first, second);
        let root = self.sets.find(first);
        let other = if root == first { second } else { first };
        let (mut large, mut small) = (
            std::mem::take(&mut self.members[root]),
            std::mem::take(&mut self.members[other]),
        );
        if large.len() < small.len() {
            std::mem::swap(&mut large, &mut small);
        }
        large.append(&mut small);
        self.members[root] = large;
    }

    /// The parts that hold any of the positions, each in order, with the joins that hold it together.
    pub(crate) fn parts(mut self, positions: impl Iterator<Item = usize>) -> Vec<(Vec<usize>, Vec<Edge>)> {
        let mut parts: BTreeMap<usize, (Vec<usize>, Vec<Edge>)> = BTreeMap::new();
        for position in positions {
            parts.entry(self.sets.find(position)).or_default().0.push(position);
        }
        self.edges
            .sort_unstable_by_key(|(a, b, rule)| (rule.confidence(), *rule, *a, *b));
        let mut spanned = Sets::new(self.members.len());
        for (a, b, rule) in self.edges {
            if spanned.find(a) != spanned.find(b) {
                spanned.join(a, b);
                if let Some((_, edges)) = parts.get_mut(&self.sets.find(a)) {
                    edges.push((a, b, rule));
                }
            }
        }
        parts.into_values().collect()
    }
}

/// Disjoint sets of positions.
#[derive(Debug)]
struct Sets(Vec<usize>);

impl Sets {
    fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    fn find(&mut self, position: usize) -> usize {
        let mut root = position;
        while self.0[root] != root {
            self.0[root] = self.0[self.0[root]];
            root = self.0[root];
        }
        root
    }

    /// Joins two sets; the lower representative stays.
    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
