//! Spend that is out of the ordinary: episodes with their money, their cause, and the calls behind them.
//!
//! ```text
//! lines by hour ─► series (team; model; server, tool; all four) ─► [`baseline`] ─► alarms ─► episodes ─► explained
//! calls, lines ─► [`detectors`]: loops, cache collapse, new model, unpriced usage, prices ───┘
//! ```
//!
//! Alarms are about complete hours and days only, and about money as well as about deviation. Adjacent hours, and the
//! series that an episode is seen in, are one episode. Amounts are exact; it looks at spend that rose, because spend
//! that falls looks like records that are late.

pub mod baseline;
mod detectors;

use std::collections::BTreeMap;

use serde::Serialize;
use spanledger_access::Principal;
use spanledger_ledger::allocation::UNALLOCATED;
use spanledger_model::FemtoUsd;

use crate::change::{CallBehind, Change, ChangeRequest};
use crate::costs::{Dimension, NONE, instant_sql};
use crate::engine::{Engine, QueryOptions, Session};
use crate::error::{Error, Result};
use crate::rows::rows;
use crate::source::Source;
use crate::spend::Interval;
use crate::time::{DAY_NS, format_instant};
use baseline::{Grain, alarms};

/// Days before the judged ones that tell what is usual: four of every weekday.
const HISTORY_DAYS: i64 = 28;
/// Days that one question may judge.
const JUDGED_DAYS_MAX: i64 = 92;
/// Records of an hour may come this much after it.
const GRACE_NS: i64 = 15 * 60_000_000_000;
/// Hourly sums that are read: four months of a hundred groups that are always busy.
const SUMS_MAX: usize = 500_000;
/// Money above what is expected that makes an episode, where the caller names no other.
pub const IMPACT_DEFAULT: FemtoUsd = FemtoUsd::ONE_USD;
/// Episodes told where the caller names no limit.
pub const EPISODES_DEFAULT: usize = 10;
/// Episodes told at most. Each is explained, which takes a second on a large lake.
pub const EPISODES_MAX: usize = 50;
const HOUR_NS: i64 = 3_600_000_000_000;
/// The dimensions of each series that is judged.
const SERIES: [&[&str]; 4] = [
    &["team"],
    &["model"],
    &["server", "tool"],
    &["team", "model", "server", "tool"],
];
/// Columns of the sums.
const COLUMNS: [&str; 4] = ["team", "model", "server", "tool"];

/// A question for episodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnomalyRequest {
    /// First instant judged, nanoseconds since the Unix epoch; seven days before its end where absent.
    pub since_ns: Option<i64>,
    /// First instant that is not judged; now where absent. Hours that are not complete never are.
    pub until_ns: Option<i64>,
    /// Money above what is expected that makes an episode; [`IMPACT_DEFAULT`] where absent.
    pub impact_min: Option<FemtoUsd>,
    /// As of a cost report.
    pub filters: Vec<(Dimension, Vec<Option<String>>)>,
    /// Episodes told; 0 takes the default.
    pub limit: usize,
}

/// What an episode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EpisodeKind {
    /// Spend far above its season.
    Spike,
    /// One tool called again and again in a session.
    RunawayLoop,
    /// Input that was read from a cache before, and is paid in full now.
    CacheCollapse,
    /// A model that was not used before.
    NewModel,
    /// Usage without a price.
    UnpricedUsage,
    /// A unit price of the price book that changed.
    PriceChange,
}

impl EpisodeKind {
    /// Name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::RunawayLoop => "runaway_loop",
            Self::CacheCollapse => "cache_collapse",
            Self::NewModel => "new_model",
            Self::UnpricedUsage => "unpriced_usage",
            Self::PriceChange => "price_change",
        }
    }
}

/// An episode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Episode {
    /// What it is.
    pub kind: EpisodeKind,
    /// First instant, RFC 3339.
    pub since: String,
    /// First instant after it.
    pub until: String,
    /// Where: dimension to value, as filters of other questions take them.
    pub scope: BTreeMap<&'static str, Option<String>>,
    /// What it cost.
    #[serde(serialize_with = "money")]
    pub actual: Option<FemtoUsd>,
    /// What is usual.
    #[serde(serialize_with = "money")]
    pub expected: Option<FemtoUsd>,
    /// Money above what is usual; none where nobody knows (unpriced usage).
    #[serde(serialize_with = "money")]
    pub impact: Option<FemtoUsd>,
    /// Usual deviations above what is usual, in tenths; none where no deviation was measured.
    pub score_tenths: Option<i64>,
    /// What was found, in sentences built from the figures.
    pub cause: Vec<String>,
    /// The dearest calls behind it.
    pub calls: Vec<CallBehind>,
    #[serde(skip)]
    span: (i64, i64),
    /// The scope it was found in, before narrower alarms said more.
    #[serde(skip)]
    found_in: Scope,
}

fn money<S: serde::Serializer>(cost: &Option<FemtoUsd>, serializer: S) -> Result<S::Ok, S::Error> {
    match cost {
        Some(cost) => serializer.collect_str(cost),
        None => serializer.serialize_none(),
    }
}

impl Episode {
    fn new(kind: EpisodeKind, span: (i64, i64), scope: BTreeMap<&'static str, Option<String>>) -> Self {
        Self {
            kind,
            since: format_instant(span.0),
            until: format_instant(span.1),
            found_in: scope.clone(),
            scope,
            actual: None,
            expected: None,
            impact: None,
            score_tenths: None,
            cause: Vec::new(),
            calls: Vec::new(),
            span,
        }
    }

    /// True where both may be the same incident: they touch in time and no dimension tells them apart.
    fn is_with(&self, span: (i64, i64), scope: &BTreeMap<&'static str, Option<String>>) -> bool {
        let touches = self.span.0 <= span.1 && span.0 <= self.span.1;
        touches
            && scope
                .iter()
                .all(|(name, value)| self.found_in.get(name).is_none_or(|own| own == value))
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnomalyReport {
    /// First instant judged.
    pub since: String,
    /// First instant not judged: the end of the last complete hour asked for.
    pub until: String,
    /// Always US dollars.
    pub currency: &'static str,
    /// Money above what is expected that makes an episode.
    #[serde(serialize_with = "money")]
    pub impact_min: Option<FemtoUsd>,
    /// Episodes, the dearest first, those of unknown cost last.
    pub episodes: Vec<Episode>,
    /// How many there are.
    pub found: usize,
    /// True where not all of them are told.
    pub truncated: bool,
    /// What limits the answer.
    pub notes: Vec<String>,
}

impl Engine {
    /// Episodes of spend out of the ordinary.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a period that is empty, not complete, or over [`JUDGED_DAYS_MAX`];
    /// those of [`Engine::sql`].
    pub async fn anomalies(&self, principal: &Principal, request: &AnomalyRequest) -> Result<AnomalyReport> {
        let complete_ns = self.complete_until();
        let until_ns = begun(request.until_ns.unwrap_or(complete_ns)).min(complete_ns);
        let since_ns = begun(request.since_ns.unwrap_or(until_ns.saturating_sub(7 * DAY_NS)));
        if since_ns >= until_ns {
            return Err(Error::invalid(format!(
                "no complete hour lies between `since` and `until`; hours are complete up to {}",
                format_instant(complete_ns)
            )));
        }
        if until_ns - since_ns > JUDGED_DAYS_MAX * DAY_NS {
            return Err(Error::invalid(format!(
                "at most {JUDGED_DAYS_MAX} days can be judged at once"
            )));
        }
        find(&self.session(principal), request, (since_ns, until_ns)).await
    }

    /// The end of the last hour whose records are all in: over for a while, and settled.
    fn complete_until(&self) -> i64 {
        let over = begun(self.now_ns().saturating_sub(GRACE_NS));
        let positions = self.lake().positions();
        if positions.settled < positions.acknowledged && positions.settled_ns != 0 {
            over.min(begun(positions.settled_ns))
        } else {
            over
        }
    }
}

fn begun(ns: i64) -> i64 {
    ns.div_euclid(HOUR_NS) * HOUR_NS
}

type Scope = BTreeMap<&'static str, Option<String>>;

/// An alarm of one series.
struct Found {
    span: (i64, i64),
    scope: Scope,
    actual: i128,
    expected: i128,
    score_tenths: i64,
}

impl Found {
    fn impact(&self) -> i128 {
        self.actual - self.expected
    }
}

async fn find(session: &Session, request: &AnomalyRequest, judged: (i64, i64)) -> Result<AnomalyReport> {
    let impact_min = request.impact_min.unwrap_or(IMPACT_DEFAULT);
    let sums = Sums::read(session, request, judged).await?;
    let mut notes = Vec::new();
    let history_days = judged.1.saturating_sub(sums.first_ns) / DAY_NS;
    if sums.series.is_empty() {
        notes.push("no cost in this time; describe_data tells the time there is".to_owned());
    } else if history_days < 14 {
        notes.push(format!(
            "only {history_days} days of history: seasons are told by few days, and hours without three alike are not judged"
        ));
    }
    let mut found = Vec::new();
    for (scope, values) in &sums.series {
        found.extend(sums.alarms(scope, values, judged, impact_min));
    }
    let mut episodes = merge(found);
    detectors::add(session, request, &sums, judged, impact_min, &mut episodes).await?;
    episodes.sort_by(|a, b| {
        (b.impact, &a.since, a.kind.name(), &a.scope).cmp(&(a.impact, &b.since, b.kind.name(), &b.scope))
    });
    let n_found = episodes.len();
    let limit = match request.limit {
        0 => EPISODES_DEFAULT,
        limit => limit.min(EPISODES_MAX),
    };
    episodes.truncate(limit);
    for episode in &mut episodes {
        explain(session, &sums, request, episode).await?;
    }
    Ok(AnomalyReport {
        since: format_instant(judged.0),
        until: format_instant(judged.1),
        currency: crate::costs::CURRENCY,
        impact_min: Some(impact_min),
        truncated: n_found > episodes.len(),
        found: n_found,
        episodes,
        notes,
    })
}

/// Cost by hour of every series.
struct Sums {
    /// First instant with any cost: the start of the history.
    first_ns: i64,
    series: BTreeMap<Scope, Vec<i128>>,
}

impl Sums {
    async fn read(session: &Session, request: &AnomalyRequest, judged: (i64, i64)) -> Result<Self> {
        let costs = crate::CostRequest {
            since_ns: Some(judged.0.saturating_sub(HISTORY_DAYS * DAY_NS).div_euclid(DAY_NS) * DAY_NS),
            until_ns: Some(judged.1),
            filters: request.filters.clone(),
            ..crate::CostRequest::default()
        };
        let join = if crate::costs::needs_kind(&costs, &[]) {
            " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
        } else {
            ""
        };
        let sql = format!(
            "SELECT time_bucket('1 hour', l.time) AS hour, COALESCE(l.team, '{UNALLOCATED}') AS team, l.model AS model, \
             l.server AS server, l.tool AS tool, SUM(l.effective_cost) AS cost FROM {} l{join}{} \
             GROUP BY 1, 2, 3, 4, 5 HAVING SUM(l.effective_cost) IS NOT NULL",
            Source::with_causes(&costs, &[Interval::Hour.dimension()]).lines(),
            crate::costs::conditions(&costs, "l.time", &crate::costs::on_ledger)
        );
        let options = QueryOptions {
            rows_max: SUMS_MAX,
            ..QueryOptions::default()
        };
        let answer = session.query(&sql, &options).await?;
        if answer.truncated {
            return Err(Error::invalid(
                "there are more hourly sums than can be judged at once; shorten the time, or filter by team or model",
            ));
        }
        let mut read = Vec::new();
        for row in rows(&answer) {
            let (Some(time_ns), Some(cost)) = (row.time_ns("hour"), row.cost("cost")) else {
                continue;
            };
            read.push((time_ns, COLUMNS.map(|name| row.text(name)), cost.0));
        }
        let first_ns = read.iter().map(|(time_ns, ..)| *time_ns).min().unwrap_or(judged.0);
        let n_hours = usize::try_from((judged.1 - first_ns).div_euclid(HOUR_NS)).unwrap_or(0);
        let mut series: BTreeMap<Scope, Vec<i128>> = BTreeMap::new();
        for (time_ns, values, cost) in read {
            let Ok(hour) = usize::try_from((time_ns - first_ns).div_euclid(HOUR_NS)) else {
                continue;
            };
            for names in SERIES {
                let pairs = COLUMNS.iter().zip(&values).filter(|(name, _)| names.contains(name));
                let scope: Scope = pairs.map(|(name, value)| (*name, value.clone())).collect();
                // What no tool caused is no series of a tool.
                if names == SERIES[2] && scope.values().all(Option::is_none) {
                    continue;
                }
                let series = series.entry(scope).or_insert_with(|| vec![0; n_hours]);
                if let Some(sum) = series.get_mut(hour) {
                    *sum += cost;
                }
            }
        }
        Ok(Self { first_ns, series })
    }

    /// Episodes of one series: adjacent hours, and days that no hour of them tells.
    fn alarms(&self, scope: &Scope, hours: &[i128], judged: (i64, i64), impact_min: FemtoUsd) -> Vec<Found> {
        let first_hour = self.first_ns.div_euclid(HOUR_NS);
        let place = |ns: i64| usize::try_from((ns - self.first_ns).div_euclid(HOUR_NS)).unwrap_or(0);
        let mut found: Vec<Found> = Vec::new();
        for alarm in alarms(
            hours,
            first_hour,
            Grain::Hour,
            place(judged.0)..place(judged.1),
            impact_min.0,
        ) {
            let begins = self.first_ns + i64::try_from(alarm.index).unwrap_or(0) * HOUR_NS;
            let score_tenths = score(alarm);
            match found.last_mut().filter(|last| last.span.1 == begins) {
                Some(last) => {
                    last.span.1 += HOUR_NS;
                    last.actual += alarm.actual;
                    last.expected += alarm.expected;
                    last.score_tenths = last.score_tenths.max(score_tenths);
                }
                None => found.push(Found {
                    span: (begins, begins + HOUR_NS),
                    scope: scope.clone(),
                    actual: alarm.actual,
                    expected: alarm.expected,
                    score_tenths,
                }),
            }
        }
        found.extend(self.alarmed_days(scope, hours, judged, impact_min, &found));
        found
    }

    fn alarmed_days(
        &self,
        scope: &Scope,
        hours: &[i128],
        judged: (i64, i64),
        impact_min: FemtoUsd,
        by_hour: &[Found],
    ) -> Vec<Found> {
        let first_day = self.first_ns.div_euclid(DAY_NS);
        let end_day = judged.1.div_euclid(DAY_NS);
        let mut days = vec![0_i128; usize::try_from(end_day - first_day).unwrap_or(0)];
        for (hour, cost) in hours.iter().enumerate() {
            let ns = self.first_ns + i64::try_from(hour).unwrap_or(0) * HOUR_NS;
            let day = usize::try_from(ns.div_euclid(DAY_NS) - first_day).unwrap_or(usize::MAX);
            if let Some(sum) = days.get_mut(day) {
                *sum += cost;
            }
        }
        let begins = usize::try_from((judged.0 + DAY_NS - 1).div_euclid(DAY_NS) - first_day).unwrap_or(0);
        let found = alarms(&days, first_day, Grain::Day, begins..days.len(), impact_min.0).into_iter();
        let found = found.filter_map(|alarm| {
            let begins = (first_day + i64::try_from(alarm.index).ok()?) * DAY_NS;
            let span = (begins, begins + DAY_NS);
            let within = by_hour
                .iter()
                .filter(|found| found.span.0 >= span.0 && found.span.1 <= span.1);
            let told: i128 = within.map(Found::impact).sum();
            // Hours that tell half of it tell it better.
            (told * 2 < alarm.actual - alarm.expected).then(|| Found {
                span,
                scope: scope.clone(),
                actual: alarm.actual,
                expected: alarm.expected,
                score_tenths: score(alarm),
            })
        });
        found.collect()
    }
}

fn score(alarm: baseline::Alarm) -> i64 {
    i64::try_from((alarm.actual - alarm.expected).saturating_mul(10) / alarm.scale).unwrap_or(i64::MAX)
}

/// One incident is seen in many series: the dearest one tells it, and narrower ones that have most of its money say where.
fn merge(mut found: Vec<Found>) -> Vec<Episode> {
    found.sort_by(|a, b| {
        (b.impact(), a.span, a.scope.len(), &a.scope).cmp(&(a.impact(), b.span, b.scope.len(), &b.scope))
    });
    let mut episodes: Vec<Episode> = Vec::new();
    for alarm in found {
        if let Some(episode) = episodes
            .iter_mut()
            .find(|episode| episode.is_with(alarm.span, &alarm.scope))
        {
            let most = episode.impact.unwrap_or_default().0 / 2;
            if alarm.impact() >= most {
                // That most of it named no tool says nothing of where it was.
                for (name, value) in alarm.scope.into_iter().filter(|(_, value)| value.is_some()) {
                    episode.scope.entry(name).or_insert(value);
                }
            }
            continue;
        }
        let mut episode = Episode::new(EpisodeKind::Spike, alarm.span, alarm.scope.clone());
        episode.actual = Some(FemtoUsd(alarm.actual));
        episode.expected = Some(FemtoUsd(alarm.expected));
        episode.impact = Some(FemtoUsd(alarm.impact()));
        episode.score_tenths = Some(alarm.score_tenths);
        episodes.push(episode);
    }
    episodes
}

/// The exact reasons of an episode, against the same hours of an ordinary day.
async fn explain(session: &Session, sums: &Sums, request: &AnomalyRequest, episode: &mut Episode) -> Result<()> {
    let (since_ns, until_ns) = (begun(episode.span.0), begun(episode.span.1 + HOUR_NS - 1));
    let back = [7 * DAY_NS, DAY_NS];
    let back = back
        .into_iter()
        .find(|back| since_ns - back >= sums.first_ns && until_ns - since_ns <= *back);
    let Some(back) = back else {
        return Ok(());
    };
    let mut question = ChangeRequest {
        since_ns: Some(since_ns),
        until_ns: Some(until_ns),
        baseline_since_ns: Some(since_ns - back),
        baseline_until_ns: Some(until_ns - back),
        filters: request.filters.clone(),
        ..ChangeRequest::default()
    };
    for name in ["team", "model"] {
        // Who caused a line is told by its movers: as filters they would hide the rest of the incident.
        if let Some(value) = episode.scope.get(name)
            && !request.filters.iter().any(|(dimension, _)| dimension.name() == name)
        {
            question.filters.push((Dimension::parse(name)?, vec![value.clone()]));
        }
    }
    let change: Change = session.explain_change(&question).await?;
    let when = if back == DAY_NS { "the day" } else { "the week" };
    episode.cause.push(format!(
        "against the same hours of {when} before: {}",
        change.notes.join("; ")
    ));
    if episode.calls.is_empty() && change.change.0 > 0 {
        episode.calls = change.calls;
    }
    Ok(())
}

/// A value for a sentence.
fn shown(value: Option<&str>) -> &str {
    value.unwrap_or(NONE)
}

/// SQL for a span of time.
fn within(column: &str, (since_ns, until_ns): (i64, i64)) -> String {
    format!(
        "{column} >= {} AND {column} < {}",
        instant_sql(since_ns),
        instant_sql(until_ns)
    )
}
