/** The strip of totals for the range: spend, calls, tokens, what is unpriced, how fresh it is. */

import type { JSX } from 'preact';
import { formatAge, formatClock, formatCompact, formatCount, formatShare, parseTime } from '../format';
import { calls, connectionError, costs, loadedAt, modelCosts, now, status } from '../store';
import { Money, Name, StateLink, Tokens } from './bits';
import { RANGE_WORDS } from './spend';

const MODELS_NAMED = 2;

export function Totals(): JSX.Element {
  const { value: report, loading, range } = costs.value;
  const total = report?.total;
  const cachedShare = total ? formatShare(total.cache_read_tokens, total.input_tokens) : null;
  return (
    <dl class={report ? 'totals' : 'totals pending'} aria-label={`Totals of ${RANGE_WORDS[range]}`} aria-busy={loading}>
      <div class="total main">
        <dt>Spend, {RANGE_WORDS[range]}</dt>
        <dd>{total && report ? <Money cost={total.cost} currency={report.currency} /> : '…'}</dd>
        <dd class="sub">{report ? `${report.currency}, effective cost` : ''}</dd>
      </div>
      <div class="total">
        <dt>Calls</dt>
        <dd>{total ? formatCount(total.calls) : '…'}</dd>
        <dd class="sub">{total ? <>{formatCount(total.llm_calls)} to models{total.errors > 0 ? <>, <span class="bad">{formatCount(total.errors)} errors</span></> : ', no errors'}</> : ''}</dd>
      </div>
      <div class="total">
        <dt>Tokens</dt>
        <dd>{total ? <Tokens count={total.tokens} /> : '…'}</dd>
        <dd class="sub">{total ? <>{formatCompact(total.input_tokens)} in ({cachedShare ?? '0%'} cached), {formatCompact(total.output_tokens)} out</> : ''}</dd>
      </div>
      <UnpricedTotal />
      <Freshness />
    </dl>
  );
}

function UnpricedTotal(): JSX.Element {
  const total = costs.value.value?.total;
  const models = (modelCosts.value.value?.rows ?? [])
    .filter((row) => row.unpriced_tokens > 0)
    .sort((a, b) => b.unpriced_tokens - a.unpriced_tokens);
  const unpriced = (total?.unpriced_tokens ?? 0) > 0;
  return (
    <div class={unpriced ? 'total attention' : 'total'}>
      <dt>Unpriced tokens</dt>
      <dd>{total ? <Tokens count={total.unpriced_tokens} /> : '…'}</dd>
      <dd class="sub">
        {unpriced && models.length > 0 ? (
          <StateLink change={{ split: 'model', sort: 'unpriced_tokens', ascending: false }} title="Show cost by model">
            {models.slice(0, MODELS_NAMED).map((row, idx) => (
              <>{idx > 0 ? ', ' : ''}<Name text={row.model} max={24} none="no model named" /></>
            ))}
            {models.length > MODELS_NAMED ? ` and ${models.length - MODELS_NAMED} more` : ''}
          </StateLink>
        ) : unpriced ? 'not in the spend above' : total ? 'every token has a price' : ''}
      </dd>
    </div>
  );
}

function Freshness(): JSX.Element {
  const newest = parseTime(calls.value.value?.[0]?.time);
  const lost = connectionError.value !== undefined;
  return (
    <div class={lost ? 'total attention' : 'total'}>
      <dt>Newest call</dt>
      <dd>{newest ? `${formatAge(now.value.getTime() - newest.getTime())} ago` : '…'}</dd>
      <dd class="sub">{lost ? 'server not reachable' : loadedAt.value ? `read ${formatClock(loadedAt.value, true)} UTC` : ''}{lost || !status.value || !loadedAt.value ? '' : `, ${formatCompact(status.value.n_spans)} span${status.value.n_spans === 1 ? '' : 's'}`}</dd>
    </div>
  );
}
