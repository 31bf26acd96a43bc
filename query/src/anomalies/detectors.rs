//! What no baseline is needed for: loops, caches that stopped working, new models, usage without a price, new prices.
//!
//! Each looks at the judged time only (the cache and the prices at the history before it too), bounds what it reads
//! and tells, and says in a sentence what it saw. A loop or a collapse within a spike is that spike's cause.

use std::collections::BTreeMap;

use spanledger_model::FemtoUsd;

use super::baseline::{SEASON_MIN, median};
use super::{AnomalyRequest, Episode, EpisodeKind, Scope, Sums, begun, shown, within};
use crate::change::parts::{Charge, per_million};
use crate::costs::{CostRequest, Dimension, conditions, needs_kind, on_calls, on_ledger, quoted};
use crate::engine::{QueryOptions, Session};
use crate::error::Result;
use crate::rows::{Row, rows};
use crate::source::Source;
use crate::time::{DAY_NS, format_instant};

/// Calls of one tool in a session that may be a loop: sessions of coding agents call a tool a dozen times.
const LOOP_CALLS_MIN: i64 = 30;
/// Findings of one detector.
const FINDINGS_MAX: usize = 20;
/// Input tokens of a day from which its share of cache reads says something.
const CACHE_TOKENS_MIN: i64 = 100_000;
/// Share of cache reads, in thousandths, that is worth losing.
const CACHE_SHARE_MIN: i128 = 300;
const HOUR_NS: i64 = 3_600_000_000_000;

/// Adds what the detectors find.
pub(super) async fn add(
    session: &Session,
    request: &AnomalyRequest,
    sums: &Sums,
    judged: (i64, i64),
    impact_min: FemtoUsd,
    episodes: &mut Vec<Episode>,
) -> Result<()> {
    for found in loops(session, request, judged, impact_min).await? {
        join(episodes, found);
    }
    for found in cache_collapses(session, request, sums, judged, impact_min).await? {
        join(episodes, found);
    }
    episodes.extend(new_models(session, request, sums, judged).await?);
    episodes.extend(unpriced(session, request, judged).await?);
    episodes.extend(prices(session, request, judged).await?);
    Ok(())
}

/// Makes a finding the cause of the spike that it lies in, or an episode of its own.
fn join(episodes: &mut Vec<Episode>, found: Episode) {
    let spike = episodes
        .iter_mut()
        .find(|episode| episode.kind == EpisodeKind::Spike && episode.is_with(found.span, &found.scope));
    match spike {
        Some(spike) => {
            spike.kind = found.kind;
            for (name, value) in found.scope {
                spike.scope.entry(name).or_insert(value);
            }
            spike.cause.extend(found.cause);
        }
        None => episodes.push(found),
    }
}

fn as_costs(request: &AnomalyRequest, span: (i64, i64)) -> CostRequest {
    CostRequest {
        since_ns: Some(span.0),
        until_ns: Some(span.1),
        filters: request.filters.clone(),
        ..CostRequest::default()
    }
}

/// `FROM ledger l` with the conditions of a question, or its sums by day or hour where they have what is asked; and
/// its columns of the first and the last time.
fn lines(request: &AnomalyRequest, span: (i64, i64)) -> (String, [&'static str; 2]) {
    let costs = &as_costs(request, span);
    let source = Source::with_causes(costs, &[]);
    let join = if needs_kind(costs, &[]) {
        " LEFT JOIN (SELECT call_id, kind FROM calls) c ON l.call_id = c.call_id"
    } else {
        ""
    };
    let from = format!(
        "FROM {} l{join}{}",
        source.lines(),
        conditions(costs, "l.time", &on_ledger)
    );
    (from, source.times())
}

/// `FROM calls` with the conditions of a question; those on what only lines have do not count.
fn calls(request: &AnomalyRequest, span: (i64, i64)) -> String {
    let mut costs = as_costs(request, span);
    costs.filters.retain(|(dimension, _)| dimension.is_of_calls());
    format!("FROM calls{}", conditions(&costs, "time", &on_calls))
}

async fn ask(session: &Session, sql: &str) -> Result<crate::ResultSet> {
    session.query(sql, &QueryOptions::default()).await
}

fn scope(row: Row<'_>, names: &[&'static str]) -> Scope {
    names.iter().map(|name| (*name, row.text(name))).collect()
}

/// The same tool, many times in one session, with the same arguments: by their hash where they were captured, else by
/// their size, or because nearly every call fails.
async fn loops(
    session: &Session,
    request: &AnomalyRequest,
    judged: (i64, i64),
    impact_min: FemtoUsd,
) -> Result<Vec<Episode>> {
    let team = Dimension::parse("team")?;
    let sql = format!(
        "SELECT COALESCE(session_id, trace_id) AS thread, {} AS team, agent, server, tool, COUNT(*) AS n, \
         COUNT(*) FILTER (WHERE status = 'error') AS failed, COUNT(request_bytes) AS sized, \
         COUNT(DISTINCT request_bytes) AS sizes, MIN(time) AS first, MAX(time) AS last \
         {} AND kind = 'tool' AND COALESCE(session_id, trace_id) IS NOT NULL \
         GROUP BY 1, 2, 3, 4, 5 HAVING COUNT(*) >= {LOOP_CALLS_MIN} ORDER BY n DESC, thread LIMIT {FINDINGS_MAX}",
        team.group_name(on_calls(&team)),
        calls(request, judged),
    );
    let answer = ask(session, &sql).await?;
    let mut found = Vec::new();
    for row in rows(&answer) {
        let (Some(thread), Some(first), Some(last)) = (row.text("thread"), row.time_ns("first"), row.time_ns("last"))
        else {
            continue;
        };
        let (n, failed) = (row.count("n"), row.count("failed"));
        let scope = scope(row, &["team", "agent", "server", "tool"]);
        let span = (begun(first), begun(last) + HOUR_NS);
        let same = same_arguments(session, &thread, scope.get("tool").and_then(Option::as_deref), span).await?;
        let same_size = row.count("sized") == n && row.count("sizes") == 1;
        let how = match same {
            Some(same) if same >= LOOP_CALLS_MIN => format!("{same} times with the same arguments"),
            Some(_) => continue,
            None if failed * 10 >= n * 8 => "nearly always failing".to_owned(),
            // Short calls of one size are common: only many of them are a sign.
            None if same_size && n >= 3 * LOOP_CALLS_MIN => "always with arguments of the same size".to_owned(),
            None => continue,
        };
        let of_thread = format!("COALESCE(session_id, trace_id) = {}", quoted(&thread));
        let cost = ask(
            session,
            &format!(
                "SELECT SUM(own_cost) AS cost FROM calls WHERE {of_thread} AND {}",
                within("time", span)
            ),
        )
        .await?;
        let cost = rows(&cost).next().and_then(|row| row.cost("cost"));
        if cost.is_some_and(|cost| cost < impact_min) {
            continue;
        }
        let mut episode = Episode::new(EpisodeKind::RunawayLoop, span, scope);
        episode.actual = cost;
        episode.impact = cost;
        episode.cause.push(format!(
            "runaway loop: {}/{} was called {n} times in session {thread}, {how}; {failed} calls failed; the session cost {} USD meanwhile",
            shown(row.text("server").as_deref()),
            shown(row.text("tool").as_deref()),
            cost.unwrap_or_default(),
        ));
        found.push(episode);
    }
    Ok(found)
}

/// How often a tool was called with the most frequent arguments of a session; `None` where none were captured.
async fn same_arguments(session: &Session, thread: &str, tool: Option<&str>, span: (i64, i64)) -> Result<Option<i64>> {
    let Some(tool) = tool else {
        return Ok(None);
    };
    let thread = quoted(thread);
    let sql = format!(
        "SELECT COUNT(DISTINCT COALESCE(span_id, observation_id)) AS n FROM observations \
         WHERE {} AND tool = {} AND arguments_hash IS NOT NULL AND (session_id = {thread} OR trace_id = {thread} OR trace_id IN \
         (SELECT trace_id FROM calls WHERE {} AND session_id = {thread})) GROUP BY arguments_hash, dialect ORDER BY n DESC LIMIT 1",
        within("time", span),
        quoted(tool),
        within("time", span),
    );
    let answer = ask(session, &sql).await?;
    Ok(rows(&answer).next().map(|row| row.count("n")))
}

/// One day of a group's input.
struct CacheDay {
    day_ns: i64,
    input: Charge,
    read: Charge,
}

impl CacheDay {
    /// Share of the input that was read from a cache, in thousandths.
    fn share(&self) -> i128 {
        let all = i128::from(self.input.units + self.read.units);
        i128::from(self.read.units) * 1_000 / all.max(1)
    }
}

/// Days on which far less of the input came from a cache than usual.
async fn cache_collapses(
    session: &Session,
    request: &AnomalyRequest,
    sums: &Sums,
    judged: (i64, i64),
    impact_min: FemtoUsd,
) -> Result<Vec<Episode>> {
    let team = Dimension::parse("team")?;
    let sql = format!(
        "SELECT time_bucket('1 day', l.time) AS day, {} AS team, l.agent AS agent, l.model AS model, \
         SUM(CASE WHEN l.bucket = 'cache_read' THEN l.tokens END) AS read_units, \
         SUM(CASE WHEN l.bucket = 'cache_read' THEN l.effective_cost END) AS read_cost, \
         SUM(CASE WHEN l.bucket <> 'cache_read' THEN l.tokens END) AS units, \
         SUM(CASE WHEN l.bucket <> 'cache_read' THEN l.effective_cost END) AS cost \
         {} AND {} AND l.effective_cost IS NOT NULL GROUP BY 1, 2, 3, 4 HAVING SUM(l.tokens) >= {CACHE_TOKENS_MIN} ORDER BY day",
        team.group_name(on_ledger(&team)),
        lines(request, (sums.first_ns, judged.1)).0,
        crate::views::IS_INPUT,
    );
    let answer = ask(session, &sql).await?;
    let mut groups: BTreeMap<Scope, Vec<CacheDay>> = BTreeMap::new();
    for row in rows(&answer) {
        let Some(day_ns) = row.time_ns("day") else {
            continue;
        };
        let charge = |cost, units| Charge {
            cost: row.cost(cost).unwrap_or_default(),
            units: row.count(units),
        };
        let day = CacheDay {
            day_ns,
            input: charge("cost", "units"),
            read: charge("read_cost", "read_units"),
        };
        groups
            .entry(scope(row, &["team", "agent", "model"]))
            .or_default()
            .push(day);
    }
    let mut found = Vec::new();
    for (scope, days) in groups {
        for (index, day) in days.iter().enumerate() {
            let span = (day.day_ns, day.day_ns + DAY_NS);
            if span.0 < judged.0 || span.1 > judged.1 {
                continue;
            }
            let others = || {
                days.iter()
                    .enumerate()
                    .filter(|(other, _)| *other != index)
                    .map(|(_, day)| day)
            };
            let shares: Vec<i128> = others().map(CacheDay::share).collect();
            let usual = median(shares.clone());
            if shares.len() < SEASON_MIN || usual < CACHE_SHARE_MIN || day.share() * 2 > usual {
                continue;
            }
            // What the missing reads cost, at this day's price of fresh input and the others' price of a read.
            let reads = others().fold(Charge::default(), |sum, day| Charge {
                cost: sum.cost + day.read.cost,
                units: sum.units + day.read.units,
            });
            let missing = (usual - day.share()) * i128::from(day.input.units + day.read.units) / 1_000;
            let price = per_million(day.input).unwrap_or_default() - per_million(reads).unwrap_or_default();
            let impact = FemtoUsd(price.0.saturating_mul(missing) / 1_000_000);
            if impact < impact_min {
                continue;
            }
            let mut episode = Episode::new(EpisodeKind::CacheCollapse, span, scope.clone());
            let actual = day.input.cost + day.read.cost;
            episode.actual = Some(actual);
            episode.expected = Some(actual - impact);
            episode.impact = Some(impact);
            episode.cause.push(format!(
                "cache-hit collapse: {}.{} % of the input of {} came from a cache, usually {}.{} %",
                day.share() / 10,
                day.share() % 10,
                shown(scope.get("model").and_then(Option::as_deref)),
                usual / 10,
                usual % 10,
            ));
            found.push(episode);
        }
    }
    found.sort_by_key(|episode| std::cmp::Reverse(episode.impact));
    found.truncate(FINDINGS_MAX);
    Ok(found)
}

/// Models that were used for the first time, a day or more after the first record.
async fn new_models(
    session: &Session,
    request: &AnomalyRequest,
    sums: &Sums,
    judged: (i64, i64),
) -> Result<Vec<Episode>> {
    let all = AnomalyRequest {
        filters: request.filters.clone(),
        ..AnomalyRequest::default()
    };
    let (from, [first, _]) = lines(&all, (0, judged.1));
    let sql = format!(
        "SELECT provider, model, first, cost, tokens FROM (SELECT l.provider AS provider, l.model AS model, MIN(l.{first}) AS first, \
         SUM(l.effective_cost) AS cost, SUM(l.tokens) AS tokens {from} AND l.model IS NOT NULL GROUP BY 1, 2) \
         WHERE {} ORDER BY cost DESC NULLS LAST, model LIMIT {FINDINGS_MAX}",
        within("first", (judged.0.max(sums.first_ns + DAY_NS), judged.1)),
    );
    let answer = ask(session, &sql).await?;
    let found = rows(&answer).filter_map(|row| {
        let first = row.time_ns("first")?;
        let mut episode = Episode::new(
            EpisodeKind::NewModel,
            (begun(first), judged.1),
            scope(row, &["provider", "model"]),
        );
        episode.actual = row.cost("cost");
        episode.impact = row.cost("cost");
        episode.cause.push(format!(
            "new model: {} was used first at {}; {} tokens since",
            shown(row.text("model").as_deref()),
            format_instant(first),
            row.count("tokens"),
        ));
        Some(episode)
    });
    Ok(found.collect())
}

/// Models whose usage has no price.
async fn unpriced(session: &Session, request: &AnomalyRequest, judged: (i64, i64)) -> Result<Vec<Episode>> {
    let (from, [first, last]) = lines(request, judged);
    let sql = format!(
        "SELECT l.provider AS provider, l.model AS model, SUM(l.tokens) AS tokens, MIN(l.{first}) AS first, MAX(l.{last}) AS last \
         {from} AND l.effective_cost IS NULL GROUP BY 1, 2 HAVING SUM(l.tokens) <> 0 ORDER BY tokens DESC, model LIMIT {FINDINGS_MAX}",
    );
    let answer = ask(session, &sql).await?;
    let found = rows(&answer).filter_map(|row| {
        let span = (begun(row.time_ns("first")?), begun(row.time_ns("last")?) + HOUR_NS);
        let mut episode = Episode::new(EpisodeKind::UnpricedUsage, span, scope(row, &["provider", "model"]));
        episode.cause.push(format!(
            "unpriced usage: {} tokens of {} have no price and are in no cost; import one (docs/prices.md)",
            row.count("tokens"),
            shown(row.text("model").as_deref()),
        ));
        Some(episode)
    });
    Ok(found.collect())
}

/// Unit prices that another version of the price book, or another price in it, changed.
async fn prices(session: &Session, request: &AnomalyRequest, judged: (i64, i64)) -> Result<Vec<Episode>> {
    let history = judged.0.saturating_sub(super::HISTORY_DAYS * DAY_NS);
    let (from, [first, _]) = lines(request, (history, judged.1));
    let sql = format!(
        "SELECT l.provider AS provider, l.model AS model, l.bucket AS bucket, l.price_id AS price_id, \
         l.price_version AS price_version, MIN(l.{first}) AS first, SUM(l.effective_cost) AS cost, SUM(l.tokens) AS tokens \
         {from} AND l.price_id IS NOT NULL AND l.effective_cost IS NOT NULL \
         GROUP BY 1, 2, 3, 4, 5 HAVING SUM(l.tokens) > 0 ORDER BY provider, model, bucket, first, price_version",
    );
    let answer = ask(session, &sql).await?;
    let mut found: Vec<Episode> = Vec::new();
    let mut before: Option<(Scope, String, Charge)> = None;
    for row in rows(&answer) {
        let (Some(first), bucket) = (row.time_ns("first"), row.text("bucket").unwrap_or_default()) else {
            continue;
        };
        let scope = scope(row, &["provider", "model"]);
        let charge = Charge {
            cost: row.cost("cost").unwrap_or_default(),
            units: row.count("tokens"),
        };
        if let Some((of, old_bucket, old)) = &before
            && *of == scope
            && *old_bucket == bucket
            && first >= judged.0
            && let (Some(old_price), Some(price)) = (per_million(*old), per_million(charge))
            // Unit prices are quotients of exact sums: below a billionth of a dollar they are the same.
            && (price.0 - old_price.0).abs() > 1_000_000
        {
            let impact = FemtoUsd((price.0 - old_price.0).saturating_mul(i128::from(charge.units)) / 1_000_000);
            let sentence = format!(
                "price change: {bucket} of {} costs {price} USD a million, {old_price} before ({}, {})",
                shown(row.text("model").as_deref()),
                shown(row.text("price_id").as_deref()),
                shown(row.text("price_version").as_deref()),
            );
            match found.iter_mut().find(|episode| episode.scope == scope) {
                Some(episode) => {
                    episode.impact = Some(episode.impact.unwrap_or_default() + impact);
                    episode.cause.push(sentence);
                }
                None => {
                    let mut episode = Episode::new(EpisodeKind::PriceChange, (begun(first), judged.1), scope.clone());
                    episode.impact = Some(impact);
                    episode.cause.push(sentence);
                    found.push(episode);
                }
            }
        }
        before = Some((scope, bucket, charge));
    }
    found.truncate(FINDINGS_MAX);
    Ok(found)
}
