/**
 * What the page shows, as a URL: the whole state, so that a link shows a colleague the same figures.
 * Unknown or damaged parameters fall back to the default and are not kept.
 */

import { signal } from '@preact/signals';

export const RANGES = ['24h', '7d', '30d', 'all'] as const;
export type Range = (typeof RANGES)[number];

export const SPLITS = ['team', 'agent', 'server', 'tool', 'model'] as const;
export type Split = (typeof SPLITS)[number];

export const SORTS = ['name', 'cost', 'llm_calls', 'calls', 'errors', 'tokens', 'unpriced_tokens'] as const;
export type Sort = (typeof SORTS)[number];

export interface Route {
  range: Range;
  split: Split;
  sort: Sort;
  ascending: boolean;
  /** The spend figure as bars or as a table. */
  view: 'chart' | 'table';
  /** Every row of the split instead of the first ones and their rest. */
  allRows: boolean;
}

export const DEFAULT_ROUTE: Route = {
  range: '7d',
  split: 'team',
  sort: 'cost',
  ascending: false,
  view: 'chart',
  allRows: false,
};

function oneOf<T extends string>(values: readonly T[], value: string | null, fallback: T): T {
  return (values as readonly (string | null)[]).includes(value) ? (value as T) : fallback;
}

/** Reads a query string. */
export function parseRoute(search: string): Route {
  const params = new URLSearchParams(search);
  const sort = oneOf(SORTS, params.get('sort'), DEFAULT_ROUTE.sort);
  return {
    range: oneOf(RANGES, params.get('range'), DEFAULT_ROUTE.range),
    split: oneOf(SPLITS, params.get('by'), DEFAULT_ROUTE.split),
    sort,
    ascending: oneOf(['asc', 'desc'], params.get('order'), sort === 'name' ? 'asc' : 'desc') === 'asc',
    view: oneOf(['chart', 'table'], params.get('view'), DEFAULT_ROUTE.view),
    allRows: params.get('rows') === 'all',
  };
}

/** Writes the query string that {@link parseRoute} reads back; the defaults are left out. */
export function routeSearch(route: Route): string {
  const params = new URLSearchParams();
  if (route.range !== DEFAULT_ROUTE.range) params.set('range', route.range);
  if (route.split !== DEFAULT_ROUTE.split) params.set('by', route.split);
  if (route.sort !== DEFAULT_ROUTE.sort) params.set('sort', route.sort);
  if (route.ascending !== (route.sort === 'name')) params.set('order', route.ascending ? 'asc' : 'desc');
  if (route.view !== DEFAULT_ROUTE.view) params.set('view', route.view);
  if (route.allRows) params.set('rows', 'all');
  const search = params.toString();
  return search ? `?${search}` : '';
}

/** The state of the page now. */
export const route = signal<Route>({ ...DEFAULT_ROUTE });

/** The address of the page with some of its state changed: what links point to. */
export function hrefWith(change: Partial<Route>): string {
  return `./${routeSearch({ ...route.value, ...change })}`;
}

/** Goes to a changed state, as a new entry in the browser's history. */
export function go(change: Partial<Route>): void {
  const next = { ...route.peek(), ...change };
  history.pushState(null, '', `${location.pathname}${routeSearch(next)}${location.hash}`);
  route.value = next;
}

/** Takes the state from the address, now and whenever the browser goes back or forward. */
export function followAddress(): void {
  const read = (): void => {
    route.value = parseRoute(location.search);
  };
  window.addEventListener('popstate', read);
  read();
}
