import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CostRow } from '../src/api';
import { DEFAULT_ROUTE, parseRoute, routeSearch, type Route } from '../src/route';
import { fillSeries, rangeStart, rank } from '../src/series';

const now = new Date('2026-11-22T10:30:00Z');

function point(day: string, cost: string | null) {
  return { day, cost, calls: 1, tokens: 10, unpriced_tokens: cost === null ? 10 : 0 };
}

test('days without calls are in the series, and the range reaches to today', () => {
  const { steps } = fillSeries([point('2026-11-18', '1.5'), point('2026-11-20', null)], '7d', now);
  assert.deepEqual(
    steps.map((step) => [step.start.toISOString().slice(0, 10), step.cost, step.unpricedTokens]),
    [
      ['2026-11-15', '0', 0],
      ['2026-11-16', '0', 0],
      ['2026-11-17', '0', 0],
      ['2026-11-18', '1.5', 0],
      ['2026-11-19', '0', 0],
      ['2026-11-20', null, 10],
      ['2026-11-21', '0', 0],
      ['2026-11-22', '0', 0],
    ],
  );
});

test('a range starts with a whole bar', () => {
  const start = (range: '24h' | '7d' | '30d' | 'all') => rangeStart(range, now)?.toISOString() ?? null;
  assert.deepEqual(
    [start('24h'), start('7d'), start('30d'), start('all')],
    ['2026-11-21T10:00:00.000Z', '2026-11-15T00:00:00.000Z', '2026-10-23T00:00:00.000Z', null],
  );
});

test('all time starts at the first day, a day has hours, nothing stays nothing', () => {
  assert.equal(fillSeries([point('2026-11-20', '1')], 'all', now).steps.length, 3);
  assert.equal(fillSeries([point('2026-11-22T09:00:00Z', '1')], '24h', now).steps.length, 25);
  assert.equal(fillSeries([], '7d', now).steps.length, 0);
  assert.equal(fillSeries([point('1970-01-01', '1')], 'all', now).steps.length, 4001);
});

function row(team: string | null, cost: string | null, calls = 1): CostRow {
  const zero = { tokens: 0, input_tokens: 0, output_tokens: 0, cache_read_tokens: 0, cache_write_tokens: 0 };
  return { ...zero, team, cost, calls, llm_calls: 0, errors: 0, unpriced_calls: 0, unpriced_tokens: 0 };
}

test('the rows shown and their rest add up to all rows', () => {
  const rows = [row('b', '0.1'), row('a', '0.2', 5), row(null, '0.3'), row('c', null), row('d', '0.00000001')];
  const names = (sort: 'cost' | 'name' | 'calls', ascending: boolean, limit: number) =>
    rank(rows, 'team', sort, ascending, limit).map((entry) => (entry.folded ? `+${entry.folded} ${entry.cost}` : entry.name));
  assert.deepEqual(names('cost', false, 10), [null, 'a', 'b', 'd', 'c']);
  assert.deepEqual(names('errors' as 'calls', false, 10), ['a', 'b', 'c', 'd', null]);
  assert.deepEqual(names('name', true, 10), ['a', 'b', 'c', 'd', null]);
  assert.deepEqual(names('calls', false, 10), ['a', 'b', 'c', 'd', null]);
  assert.deepEqual(names('cost', false, 2), [null, 'a', '+3 0.10000001']);
  const cut = rank(rows, 'team', 'cost', false, 2, { ...row(null, '1'), calls: 7 });
  assert.deepEqual([cut[2]?.cost, cut[2]?.calls], ['1.10000001', 10]);
});

test('the address is the whole state, and a damaged one falls back', () => {
  const states: Route[] = [
    DEFAULT_ROUTE,
    { range: '30d', split: 'tool', sort: 'name', ascending: false, view: 'table', allRows: true },
    { range: 'all', split: 'model', sort: 'errors', ascending: true, view: 'chart', allRows: false },
  ];
  for (const state of states) assert.deepEqual(parseRoute(routeSearch(state)), state);
  assert.equal(routeSearch(DEFAULT_ROUTE), '');
  assert.deepEqual(parseRoute('?range=1y&by=<script>&sort=cost;drop&view=&order=up'), DEFAULT_ROUTE);
});
