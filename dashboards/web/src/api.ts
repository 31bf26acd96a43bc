/**
 * The REST API as this page reads it: `/api/v1`, same origin, JSON. Only fetching and shapes; every
 * string in an answer may come from telemetry and is untrusted.
 */

import type { Range, Split } from './route';
import { rangeStart } from './series';

export interface Measures {
  /** Exact decimal; null where nothing in the group has a price. */
  cost: string | null;
  tokens: number;
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  cache_write_tokens: number;
  calls: number;
  llm_calls: number;
  errors: number;
  unpriced_calls: number;
  unpriced_tokens: number;
}

export type CostRow = Measures & { [dimension in Split | 'provider']?: string | null };

export interface CostReport {
  since: string | null;
  until: string | null;
  currency: string;
  rows: CostRow[];
  /** What the server's own limit of groups cut off, summed up. */
  other?: Measures;
  total: Measures;
}

export interface SpendPoint {
  /** `2026-11-22`, or an RFC 3339 time where the interval is an hour. */
  day: string;
  cost: string | null;
  calls: number;
  tokens: number;
  unpriced_tokens: number;
}

export interface Call {
  call_id: string;
  time: string;
  kind: string;
  status: string;
  error_type?: string | null;
  duration_ns?: number | null;
  team?: string | null;
  agent?: string | null;
  server?: string | null;
  tool?: string | null;
  prompt?: string | null;
  resource_uri?: string | null;
  mcp_method?: string | null;
  provider?: string | null;
  request_model?: string | null;
  response_model?: string | null;
  model?: string | null;
  input_tokens?: number | null;
  output_tokens?: number | null;
  cache_read_tokens?: number | null;
  own_cost?: string | null;
  /** The server's word for a call that should have a price and has none. */
  unpriced?: boolean | null;
}

export interface Status {
  version: string;
  started_at?: string | null;
  waiting_for_first_span: boolean;
  n_spans: number;
  n_observations: number;
  n_calls: number;
  positions?: unknown;
  freshness?: { acknowledged_at?: string | null; settled_at?: string | null } | null;
  endpoints: { otlp_grpc?: string | null; otlp_http?: string | null; http?: string | null };
}

/** Who asks, by whatever credential. */
export interface Session {
  /** False where the server has no login. */
  login: boolean;
  /** True where a session of this browser is the credential, which can be ended. */
  session: boolean;
  tenant: string;
  subject: string;
  name: string | null;
  role: string | null;
  scopes: string[];
  /** Column to the only values that are seen; empty where all of the tenant is. */
  rows: Record<string, string[]>;
}

/** An answer that is not what was asked for, in words a reader can act on. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly kind: string,
    readonly id: string | null,
  ) {
    super(message);
  }
}

async function ask(path: string, request: RequestInit): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(`api/v1/${path}`, { ...request, cache: 'no-store', credentials: 'same-origin' });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new ApiError('the server does not answer', 'unreachable', null);
  }
  if (response.status === 204) return null;
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) {
    const error = (body as { error?: { kind?: string; message?: string; id?: string } } | null)?.error;
    throw new ApiError(error?.message ?? `HTTP ${response.status}`, error?.kind ?? 'internal', error?.id ?? null);
  }
  return body;
}

async function get<T>(path: string, signal: AbortSignal): Promise<T> {
  const body = await ask(path, { signal, headers: { accept: 'application/json' } });
  if (body === null || typeof body !== 'object') {
    throw new ApiError(`the answer of ${path.split('?')[0]} is not JSON`, 'internal', null);
  }
  return body as T;
}

/** Rows of an answer that is an array, or an object with `rows`. */
function rowsOf<T>(answer: T[] | { rows?: T[] }): T[] {
  return Array.isArray(answer) ? answer : (answer.rows ?? []);
}

/** Without `since` the server answers for all time. */
function query(range: Range, parameters: Record<string, string>): string {
  const start = rangeStart(range, new Date());
  return new URLSearchParams(start ? { ...parameters, since: start.toISOString() } : parameters).toString();
}

export const getSession = (signal: AbortSignal): Promise<Session> => get('session', signal);

/** Exchanges an API key for a cookie that no script can read. */
export async function startSession(key: string): Promise<Session> {
  const headers = { 'content-type': 'application/json' };
  return (await ask('session', { method: 'POST', headers, body: JSON.stringify({ key }) })) as Session;
}

export async function endSession(): Promise<void> {
  await ask('session', { method: 'DELETE' });
}

export const getStatus = (signal: AbortSignal): Promise<Status> => get('status', signal);

export const getCosts = (by: Split, range: Range, signal: AbortSignal): Promise<CostReport> =>
  get(`costs?${query(range, { by })}`, signal);

export const getSpend = async (range: Range, signal: AbortSignal): Promise<SpendPoint[]> => {
  const interval = range === '24h' ? 'hour' : 'day';
  return rowsOf(await get(`spend?${query(range, { interval })}`, signal));
};

export const getCalls = async (limit: number, signal: AbortSignal): Promise<Call[]> =>
  rowsOf(await get(`calls?limit=${limit}`, signal));
