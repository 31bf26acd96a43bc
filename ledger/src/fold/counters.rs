//! Counters: metrics of usage, for emitters that send nothing better.
//!
//! A counter repeats what events already said, so it is charged only for the cells (service, session,
//! model) that no call-level record covers: never in addition to events of the same session. Within a cell
//! the points of one time (one point a kind of token, and one for the cost) make one call, at the grain
//! they have. A delta point is usage; of a
//! cumulative series only the newest point counts, for it holds all since the series' start.

use std::collections::{BTreeMap, BTreeSet};

use spanledger_model::{CallKind, Observation, Role};

use super::Group;
use super::index::Index;
use super::model_calls::bare_model;

type Cell = (Option<String>, Option<String>, Option<String>);

/// Groups the counter points that no call covers.
pub(crate) fn group(index: &Index<'_>, calls: &[Group]) -> Vec<Group> {
    let covered: BTreeSet<Cell> = calls
        .iter()
        .flat_map(|group| &group.members)
        .map(|member| index.get(*member))
        .filter(|observation| observation.usage.is_chargeable())
        .flat_map(|observation| models(observation).into_iter().map(|model| cell(observation, model)))
        .collect();
    let mut cells: BTreeMap<(Cell, i64), Vec<usize>> = BTreeMap::new();
    for point in index.all() {
        let observation = index.get(point);
        let time = match observation.role {
            Role::CounterDelta => observation.end_ns(),
            Role::CounterCumulative if is_newest(index, point) => observation.start_ns,
            _ => continue,
        };
        let cell = cell(observation, models(observation).into_iter().next().flatten());
        if !covered.contains(&cell) {
            cells.entry((cell, time)).or_default().push(point);
        }
    }
    cells
        .into_values()
        .map(|members| Group {
            kind: CallKind::Llm,
            members,
            keeps_usage: true,
        })
        .collect()
}

/// The newest point of a cumulative series holds all it counted since its start; the older ones repeat it.
fn is_newest(index: &Index<'_>, point: usize) -> bool {
    let observation = index.get(point);
    !index.all().any(|other| {
        let candidate = index.get(other);
        candidate.role == Role::CounterCumulative
            && candidate.series == observation.series
            && (candidate.end_ns(), candidate.observation_id) > (observation.end_ns(), observation.observation_id)
    })
}

fn cell(observation: &Observation, model: Option<String>) -> Cell {
    (
        observation.dimensions.service.clone(),
        observation.dimensions.session_id.clone(),
        model,
    )
}

fn models(observation: &Observation) -> Vec<Option<String>> {
    let names: Vec<Option<String>> = [&observation.model.request_model, &observation.model.response_model]
        .into_iter()
        .flatten()
        .map(|name| Some(bare_model(name)))
        .collect();
    if names.is_empty() { vec![None] } else { names }
}
