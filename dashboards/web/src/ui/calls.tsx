/** Panel: the latest calls, newest first, with what each one cost by itself. */

import type { JSX } from 'preact';
import type { Call } from '../api';
import { formatClock, formatDay, formatDuration, parseTime, safeText } from '../format';
import { calls, costs, now } from '../store';
import { Failure, Money, Name, Notice, Tokens, Unpriced } from './bits';

export function CallsPanel(): JSX.Element {
  const { value, error, loading } = calls.value;
  return (
    <section class="panel" aria-labelledby="calls-title" aria-busy={loading}>
      <header>
        <h2 id="calls-title">Latest calls</h2>
        <span class="muted">{value && value.length > 0 ? `newest ${value.length}, times in UTC` : ''}</span>
      </header>
      {error ? <Failure what="Calls" error={error} /> : null}
      {!value && !error ? <Notice kind="loading" title="Reading the calls…" /> : null}
      {value && value.length === 0 ? (
        <Notice kind="empty" title="No calls yet">
          <p>Telemetry has arrived. Calls appear here once settlement has read it, usually within seconds.</p>
        </Notice>
      ) : null}
      {value && value.length > 0 ? <CallsTable rows={value} /> : null}
    </section>
  );
}

function CallsTable(props: { rows: Call[] }): JSX.Element {
  const currency = costs.value.value?.currency ?? 'USD';
  return (
    <div class="scroll tall" role="region" aria-label="Table: latest calls" tabIndex={0}>
      <table class="cards" role="table">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader" scope="col">Time (UTC)</th>
            <th role="columnheader" scope="col">Call</th>
            <th role="columnheader" scope="col">Team</th>
            <th role="columnheader" scope="col" class="number">Own cost</th>
            <th role="columnheader" scope="col" class="number">Tokens in</th>
            <th role="columnheader" scope="col" class="number">Cached</th>
            <th role="columnheader" scope="col" class="number">Out</th>
            <th role="columnheader" scope="col" class="number">Took</th>
            <th role="columnheader" scope="col">Status</th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {props.rows.map((call) => <Row key={call.call_id} call={call} currency={currency} />)}
        </tbody>
      </table>
    </div>
  );
}

function Row(props: { call: Call; currency: string }): JSX.Element {
  const { call } = props;
  const at = parseTime(call.time);
  const today = at !== null && formatDay(at) === formatDay(now.value) && now.value.getTime() - at.getTime() < 86_400_000;
  return (
    <tr role="row">
      <td role="cell" class="time">
        {at ? (
          <time dateTime={at.toISOString()} title={`local time: ${at.toLocaleString()}`}>
            {today ? '' : `${formatDay(at)} `}{formatClock(at, true)}
          </time>
        ) : '–'}
      </td>
      <td role="cell" class="call"><span class={`tag kind kind-${safeKind(call.kind)}`}>{safeText(call.kind, 12)}</span> <CallName call={call} /></td>
      <td role="cell" class="team"><Name text={call.team} max={28} none="no team" /></td>
      <td role="cell" class="number cost"><OwnCost call={call} currency={props.currency} /></td>
      <td role="cell" class={figure(call.input_tokens)} data-label="in"><Tokens count={call.input_tokens} /></td>
      <td role="cell" class={figure(call.cache_read_tokens)} data-label="cached"><Tokens count={call.cache_read_tokens} /></td>
      <td role="cell" class={figure(call.output_tokens)} data-label="out"><Tokens count={call.output_tokens} /></td>
      <td role="cell" class={figure(call.duration_ns)} data-label="took">{formatDuration(call.duration_ns)}</td>
      <td role="cell" class="status"><StatusText call={call} /></td>
    </tr>
  );
}

/** On a narrow screen a figure that was not reported takes no room. */
function figure(count: number | null | undefined): string {
  return count === null || count === undefined ? 'number absent' : 'number';
}

/** Class names are built from a closed list only: the kind is a string of the API. */
function safeKind(kind: string): string {
  return ['llm', 'embedding', 'tool', 'prompt', 'resource', 'agent', 'mcp'].includes(kind) ? kind : 'other';
}

function CallName(props: { call: Call }): JSX.Element {
  const { call } = props;
  const model = call.response_model ?? call.request_model ?? call.model;
  const target = call.tool ?? call.prompt ?? call.resource_uri ?? call.mcp_method;
  if (call.kind === 'llm' || call.kind === 'embedding') return <Name text={model} none="model not named" max={44} />;
  if (call.kind === 'agent') return <Name text={call.agent} none="agent run" max={44} />;
  return (
    <>
      {call.server ? <span class="muted"><Name text={call.server} max={24} /> › </span> : null}
      <Name text={target} none="not named" max={44} />
    </>
  );
}

function OwnCost(props: { call: Call; currency: string }): JSX.Element {
  const { call } = props;
  if (call.unpriced) return <Unpriced />;
  return <Money cost={call.own_cost} currency={props.currency} />;
}

function StatusText(props: { call: Call }): JSX.Element {
  const { status, error_type: errorType } = props.call;
  if (status === 'error') {
    return <span class="bad" title={errorType ? safeText(errorType, 200) : undefined}><span aria-hidden="true">✕ </span>{errorType ? safeText(errorType, 24) : 'error'}</span>;
  }
  if (status === 'ok') return <span class="good"><span aria-hidden="true">✓ </span>ok</span>;
  return <span class="muted" title="status not set, as usual for success">ok</span>;
}
