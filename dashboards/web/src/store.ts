/**
 * The data on the page and when it is fetched again. The status is asked every few seconds; figures are
 * fetched when it says that something changed, when the address changes, and at least every half minute,
 * because a range like "7 days" moves. Old figures stay on screen until new ones arrive, and after an error.
 */

import { effect, signal, type Signal } from '@preact/signals';
import { ApiError, endSession, getCalls, getCosts, getSession, getSpend, getStatus, startSession } from './api';
import type { Call, CostReport, Session, SpendPoint, Status } from './api';
import { route, type Range, type Split } from './route';

const STATUS_INTERVAL_MS = 3000;
const FIRST_SPAN_INTERVAL_MS = 1000;
const FIGURES_AGE_MAX_MS = 30_000;
const CALLS_SHOWN = 50;

/** One kind of data: what is known, whether it is being fetched for another address, what went wrong. */
export interface Resource<T> {
  value: T | undefined;
  /** What `value` was fetched for; constant where the data does not depend on it. */
  range: Range;
  split: Split;
  loading: boolean;
  error: ApiError | undefined;
}

function resource<T>(): Signal<Resource<T>> {
  return signal({ value: undefined, range: '7d', split: 'team', loading: true, error: undefined } as Resource<T>);
}

/** Who asks; undefined until the server says it, and while nobody is signed in. */
export const session = signal<Session | undefined>(undefined);
/** Set while the server demands a credential: the page shows the sign-in form and nothing else. */
export const signedOut = signal(false);
export const status = signal<Status | undefined>(undefined);
/** Set while the server does not answer; the figures on screen are those of `loadedAt`. */
export const connectionError = signal<ApiError | undefined>(undefined);
export const loadedAt = signal<Date | undefined>(undefined);
export const costs = resource<CostReport>();
/** By model, for the names behind "unpriced". */
export const modelCosts = resource<CostReport>();
export const spend = resource<SpendPoint[]>();
export const calls = resource<Call[]>();
/** Advances while the page is open, so that ages stay true. */
export const now = signal(new Date());

let figures: AbortController | undefined;
let seen = '';
let timer: ReturnType<typeof setTimeout> | undefined;

/** Fills one resource; a failure keeps the old value next to the error. */
async function load<T>(target: Signal<Resource<T>>, range: Range, split: Split, fetched: Promise<T>, signal: AbortSignal): Promise<boolean> {
  const held = target.peek();
  if (held.range !== range || held.split !== split) target.value = { ...held, loading: true };
  try {
    const value = await fetched;
    if (signal.aborted) return false;
    target.value = { value, range, split, loading: false, error: undefined };
    return true;
  } catch (error) {
    if (signal.aborted) return false;
    const known = error instanceof ApiError ? error : new ApiError(String(error), 'internal', null);
    target.value = { ...target.peek(), loading: false, error: known };
    return false;
  }
}

async function loadFigures(range: Range, split: Split): Promise<void> {
  figures?.abort();
  const controller = new AbortController();
  figures = controller;
  const { signal } = controller;
  const byModel = getCosts('model', range, signal);
  const bySplit = split === 'model' ? byModel : getCosts(split, range, signal);
  const done = await Promise.all([
    load(costs, range, split, bySplit, signal),
    load(modelCosts, range, 'model', byModel, signal),
    load(spend, range, 'team', getSpend(range, signal), signal),
    load(calls, 'all', 'team', getCalls(CALLS_SHOWN, signal), signal),
  ]);
  if (!signal.aborted) {
    loadedAt.value = new Date();
    if (!done.every(Boolean)) seen = '';
  }
}

async function poll(): Promise<void> {
  let next = STATUS_INTERVAL_MS;
  try {
    const answer = await getStatus(AbortSignal.timeout(15_000));
    if (!session.peek()) session.value = await getSession(AbortSignal.timeout(15_000));
    status.value = answer;
    connectionError.value = undefined;
    if (answer.waiting_for_first_span) {
      next = FIRST_SPAN_INTERVAL_MS;
    } else {
      const counters = JSON.stringify([answer.n_spans, answer.n_observations, answer.n_calls, answer.positions, answer.started_at]);
      const age = Date.now() - (loadedAt.peek()?.getTime() ?? 0);
      if (counters !== seen || age > FIGURES_AGE_MAX_MS) {
        seen = counters;
        await loadFigures(route.peek().range, route.peek().split);
      }
    }
  } catch (error) {
    if (error instanceof ApiError && error.kind === 'unauthenticated') {
      forget();
      return;
    }
    connectionError.value = error instanceof ApiError ? error : new ApiError('the server does not answer', 'unreachable', null);
    seen = '';
  }
  now.value = new Date();
  schedule(next);
}

function schedule(delayMs: number): void {
  clearTimeout(timer);
  if (!document.hidden && !signedOut.peek()) timer = setTimeout(() => void poll(), delayMs);
}

/** Takes every figure off the page: whoever looks next may not see them. */
function forget(): void {
  clearTimeout(timer);
  figures?.abort();
  for (const held of [costs, modelCosts, spend, calls]) held.value = { ...held.peek(), value: undefined, loading: true, error: undefined } as never;
  session.value = undefined;
  status.value = undefined;
  connectionError.value = undefined;
  loadedAt.value = undefined;
  seen = '';
  signedOut.value = true;
}

/** Signs in with an API key; rejects with the server's reason. */
export async function enter(key: string): Promise<void> {
  session.value = await startSession(key);
  signedOut.value = false;
  retry();
}

/** Signs out, and takes every figure off the page even where the server does not answer. */
export async function leave(): Promise<void> {
  try {
    await endSession();
  } finally {
    forget();
  }
}

/** Asks again at once: for the "try again" buttons. */
export function retry(): void {
  seen = '';
  schedule(0);
}

/** Starts following the server; stops while nobody looks at the page. */
export function startPolling(): void {
  let shown = '';
  effect(() => {
    const { range, split } = route.value;
    const key = `${range} ${split}`;
    if (shown && shown !== key && status.peek() && !status.peek()?.waiting_for_first_span) {
      void loadFigures(range, split);
    }
    shown = key;
  });
  document.addEventListener('visibilitychange', () => schedule(0));
  schedule(0);
}
