/** Panel: spend by day (in the 24-hour range, by hour), as bars or as the same figures in a table. */

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { addDecimals, formatClock, formatCompact, formatCount, formatDay, formatDayLong, formatMoney, isZero } from '../format';
import { route } from '../route';
import { fillSeries, type Series, type Step } from '../series';
import { costs, now, spend } from '../store';
import { Bars } from './bars';
import { Failure, Money, Notice, StateLink, Tokens } from './bits';

export const RANGE_WORDS = { '24h': 'the last 24 hours', '7d': '7 days and today', '30d': '30 days and today', all: 'all time' } as const;

export function SpendPanel(): JSX.Element {
  const { value, error, loading, range } = spend.value;
  const { view } = route.value;
  const currency = costs.value.value?.currency ?? 'USD';
  const unit = range === '24h' ? 'hour' : 'day';
  const series = value ? fillSeries(value, range, now.value) : undefined;
  return (
    <section class="panel" aria-labelledby="spend-title" aria-busy={loading}>
      <header>
        <h2 id="spend-title">Spend by {unit}</h2>
        <nav class="segments" aria-label="Show spend as">
          <StateLink change={{ view: 'chart' }} current={view === 'chart'}>Chart</StateLink>
          <StateLink change={{ view: 'table' }} current={view === 'table'}>Table</StateLink>
        </nav>
      </header>
      {error ? <Failure what="Spend" error={error} /> : null}
      {!series && !error ? <Notice kind="loading" title="Reading the ledger…" /> : null}
      {series && series.steps.length === 0 ? <NothingInRange /> : null}
      {series && series.steps.length > 0 ? (
        view === 'table' ? <SpendTable series={series} currency={currency} /> : <SpendFigure series={series} currency={currency} />
      ) : null}
    </section>
  );
}

export function NothingInRange(): JSX.Element {
  const { range } = route.value;
  return (
    <Notice kind="empty" title={`No calls in this time: ${RANGE_WORDS[range]}`}>
      {range === 'all' ? (
        <p>Telemetry has arrived, but no model or MCP call was recognised in it yet. <code>spanledger doctor</code> says what is missing.</p>
      ) : (
        <p><StateLink change={{ range: 'all' }}>Look at all time</StateLink></p>
      )}
    </Notice>
  );
}

function stepName(step: Step, stepMs: number): string {
  const hour = stepMs < 86_400_000 ? ` ${formatClock(step.start)}–${formatClock(new Date(step.start.getTime() + stepMs))}` : '';
  return `${formatDayLong(step.start)}${hour}`;
}

function SpendFigure(props: { series: Series; currency: string }): JSX.Element {
  const { series, currency } = props;
  const pointed = useSignal<number | null>(null);
  const { steps, stepMs } = series;
  const total = addDecimals(steps.map((step) => step.cost));
  const anyUnpriced = steps.some((step) => step.unpricedTokens > 0);
  const step = pointed.value === null ? undefined : steps[pointed.value];
  const unit = stepMs < 86_400_000 ? 'hours' : 'days';
  const first = steps[0];
  const last = steps[steps.length - 1];
  const summary = first && last
    ? `${formatMoney(total, currency)} over ${steps.length} ${unit}, ${formatDay(first.start)} to ${formatDay(last.start)}`
    : '';
  return (
    <figure>
      <Bars
        series={series}
        currency={currency}
        label={`Bar chart: ${summary}. Arrow keys move along the bars; the same figures are under "Table".`}
        onPoint={(idx) => {
          pointed.value = idx;
        }}
      />
      <figcaption>
        <output class="readout">
          {step ? (
            <>
              <b>{stepName(step, stepMs)}</b>
              <span>{step.unpricedTokens > 0 && isZero(step.cost) ? 'unpriced' : formatMoney(step.cost, currency)}</span>
              <span>{formatCount(step.calls)} calls</span>
              <span>{formatCompact(step.tokens)} tokens</span>
              {step.unpricedTokens > 0 ? <span>{formatCompact(step.unpricedTokens)} unpriced</span> : null}
            </>
          ) : (
            <span>{summary}</span>
          )}
        </output>
        <span class="key">
          {anyUnpriced ? <span><span class="key-mark" aria-hidden="true">△</span> has unpriced tokens</span> : null}
          <span>UTC {unit}; the last one is not over yet</span>
        </span>
      </figcaption>
    </figure>
  );
}

function SpendTable(props: { series: Series; currency: string }): JSX.Element {
  const { series, currency } = props;
  return (
    <div class="scroll tall" role="region" aria-label="Spend, as a table" tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{series.stepMs < 86_400_000 ? 'Hour' : 'Day'} (UTC)</th>
            <th scope="col" class="number">Cost</th>
            <th scope="col" class="number">Calls</th>
            <th scope="col" class="number">Tokens</th>
            <th scope="col" class="number">Unpriced tokens</th>
          </tr>
        </thead>
        <tbody>
          {[...series.steps].reverse().map((step) => (
            <tr key={step.start.getTime()}>
              <th scope="row">{stepName(step, series.stepMs)}</th>
              <td class="number"><Money cost={step.cost} currency={currency} unpricedTokens={step.unpricedTokens} /></td>
              <td class="number">{formatCount(step.calls)}</td>
              <td class="number"><Tokens count={step.tokens} /></td>
              <td class="number"><Tokens count={step.unpricedTokens} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
