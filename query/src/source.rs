//! What a cost report is read from: the lines and calls themselves, or the sums of [`crate::rollup`] that have all it
//! asks for. The choice is here alone; whatever is chosen adds up to the same.

use crate::costs::{CostRequest, Dimension, HOUR_NS, on_calls};
use crate::rollup;
use crate::spend::Interval;
use crate::views::IS_UNPRICED;

/// What a report is read from. All add up to the same: reports are of whole hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Each line and call.
    Lines,
    /// The sums of [`crate::rollup`] by hour.
    Hours,
    /// Those by day.
    Days,
    /// Those by hour and user, which have no causes.
    Users,
}

impl Source {
    /// The fewest rows that have all that is asked: sums for a request of whole hours.
    pub(crate) fn of(request: &CostRequest, by: &[Dimension]) -> Self {
        let filters = request.filters.iter().map(|(dimension, _)| dimension);
        let asked: Vec<&Dimension> = by.iter().chain(filters).collect();
        let bounds = [request.since_ns, request.until_ns];
        let is_whole = |width_ns: i64| bounds.iter().flatten().all(|ns| ns % width_ns == 0);
        if !is_whole(HOUR_NS) || asked.iter().any(|dimension| dimension.is_of_lines()) {
            return Self::Lines;
        }
        if asked.iter().any(|dimension| dimension.name() == "user_id") {
            return match asked.iter().any(|dimension| dimension.is_cause()) {
                true => Self::Lines,
                false => Self::Users,
            };
        }
        if is_whole(24 * HOUR_NS) && !by.contains(&Interval::Hour.dimension()) {
            Self::Days
        } else {
            Self::Hours
        }
    }

    /// The same, with causes and prices.
    pub(crate) fn with_causes(request: &CostRequest, by: &[Dimension]) -> Self {
        match Self::of(request, by) {
            Self::Users => Self::Lines,
            source => source,
        }
    }

    /// The table of lines.
    pub(crate) fn lines(self) -> &'static str {
        match self {
            Self::Lines => "ledger",
            Self::Hours => rollup::HOUR[0],
            Self::Days => rollup::DAY[0],
            Self::Users => rollup::USERS[0],
        }
    }

    /// The table of calls.
    pub(crate) fn calls(self) -> &'static str {
        match self {
            Self::Lines => "calls",
            Self::Hours => rollup::HOUR[1],
            Self::Days => rollup::DAY[1],
            Self::Users => rollup::USERS[1],
        }
    }

    /// The first time of a row, and the last, in SQL on that table.
    pub(crate) fn times(self) -> [&'static str; 2] {
        match self {
            Self::Lines => ["time", "time"],
            Self::Hours | Self::Days | Self::Users => ["first_time", "last_time"],
        }
    }

    /// How many calls, in SQL on that table.
    pub(crate) fn count(self) -> &'static str {
        match self {
            Self::Lines => "COUNT(*)",
            Self::Hours | Self::Days | Self::Users => "SUM(calls)",
        }
    }

    /// The calls whose cost is not known, in SQL on that table.
    pub(crate) fn is_unpriced(self) -> &'static str {
        match self {
            Self::Lines => IS_UNPRICED,
            Self::Hours | Self::Days | Self::Users => "unpriced",
        }
    }

    /// A dimension of calls, as that table has it.
    pub(crate) fn on_calls(self, dimension: &Dimension) -> String {
        match (self, dimension.name()) {
            (Self::Hours | Self::Days | Self::Users, "model") => "model".to_owned(),
            _ => on_calls(dimension),
        }
    }
}
