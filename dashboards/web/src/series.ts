/**
 * From the API's points to what a chart and a table show: every day (or hour) of the range is there,
 * also those without calls. Pure functions; all in UTC, as the ledger's days are.
 */

import type { CostRow, Measures, SpendPoint } from './api';
import { addDecimals, decimalNumber, parseTime } from './format';
import type { Range, Sort, Split } from './route';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** More bars than this are not drawn one by one: the gaps before the first call stay out. */
const STEPS_MAX = 4000;

/** One bar: its start, its length and its figures. */
export interface Step {
  start: Date;
  cost: string | null;
  calls: number;
  tokens: number;
  unpricedTokens: number;
}

export interface Series {
  stepMs: number;
  steps: Step[];
}

/** Length of the range before the bar that is not over yet; 0 for all time. */
function span(range: Range): number {
  return { '24h': DAY_MS, '7d': 7 * DAY_MS, '30d': 30 * DAY_MS, all: 0 }[range];
}

/** First instant of a range, at the start of its first bar so that only the last one is partial; null for all time. */
export function rangeStart(range: Range, now: Date): Date | null {
  const stepMs = range === '24h' ? HOUR_MS : DAY_MS;
  return range === 'all' ? null : new Date(Math.floor((now.getTime() - span(range)) / stepMs) * stepMs);
}

/** Fills the days (24h: hours) between the start of the range and now. */
export function fillSeries(points: SpendPoint[], range: Range, now: Date): Series {
  const stepMs = range === '24h' ? HOUR_MS : DAY_MS;
  const byStart = new Map<number, SpendPoint>();
  for (const point of points) {
    const at = parseTime(point.day);
    if (at) byStart.set(Math.floor(at.getTime() / stepMs) * stepMs, point);
  }
  const starts = [...byStart.keys()];
  if (starts.length === 0) return { stepMs, steps: [] };
  const newest = Math.max(...starts, Math.floor(now.getTime() / stepMs) * stepMs);
  const wanted = rangeStart(range, now)?.getTime() ?? Math.min(...starts);
  const oldest = Math.max(Math.min(...starts, wanted), newest - STEPS_MAX * stepMs);
  const steps: Step[] = [];
  for (let at = oldest; at <= newest; at += stepMs) {
    const point = byStart.get(at);
    steps.push({
      start: new Date(at),
      cost: point ? point.cost : '0',
      calls: point?.calls ?? 0,
      tokens: point?.tokens ?? 0,
      unpricedTokens: point?.unpriced_tokens ?? 0,
    });
  }
  return { stepMs, steps };
}

/** A row of the split, or the rest that is folded; `folded` is 0 where only the server knows how many. */
export interface RankedRow extends Measures {
  /** Null: telemetry named none. */
  name: string | null;
  /** How many rows this one stands for, where it is the rest. */
  folded?: number;
}

/** Sorts the rows and folds those after `limit` into one, so that the column still adds up. */
export function rank(
  rows: CostRow[],
  split: Split,
  sort: Sort,
  ascending: boolean,
  limit: number,
  other?: Measures,
): RankedRow[] {
  const named: RankedRow[] = rows.map((row) => ({ ...row, name: row[split] ?? null }));
  const value = (row: RankedRow): number => (sort === 'cost' ? decimalNumber(row.cost) : sort === 'name' ? 0 : row[sort]);
  const byName = (a: RankedRow, b: RankedRow): number =>
    a.name === null ? (b.name === null ? 0 : 1) : b.name === null ? -1 : a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
  const order = ascending ? 1 : -1;
  named.sort((a, b) => order * (sort === 'name' ? byName(a, b) : value(a) - value(b)) || b.calls - a.calls || byName(a, b));
  const tail: RankedRow[] = other ? [{ ...other, name: null, folded: 0 }] : [];
  if (named.length <= limit + 1) return [...named, ...tail];
  const rest = named.slice(limit);
  return [...named.slice(0, limit), { ...sum([...rest, ...tail]), name: null, folded: rest.length }];
}

/** Exact sum of the measures. The cost stays absent only where every row's is. */
export function sum(rows: Measures[]): Measures {
  const add = (key: Exclude<keyof Measures, 'cost'>): number => rows.reduce((total, row) => total + (row[key] ?? 0), 0);
  return {
    cost: rows.some((row) => row.cost !== null) ? addDecimals(rows.map((row) => row.cost)) : null,
    tokens: add('tokens'),
    input_tokens: add('input_tokens'),
    output_tokens: add('output_tokens'),
    cache_read_tokens: add('cache_read_tokens'),
    cache_write_tokens: add('cache_write_tokens'),
    calls: add('calls'),
    llm_calls: add('llm_calls'),
    errors: add('errors'),
    unpriced_calls: add('unpriced_calls'),
    unpriced_tokens: add('unpriced_tokens'),
  };
}
