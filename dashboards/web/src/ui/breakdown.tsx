/** Panel: cost, calls, errors and tokens split by one dimension. Rows and total always add up. */

import type { JSX } from 'preact';
import { decimalNumber, formatCount, formatShare } from '../format';
import { route, SPLITS, type Sort, type Split } from '../route';
import { rank, type RankedRow } from '../series';
import { costs } from '../store';
import { Failure, Money, Name, Notice, StateLink, Tokens } from './bits';
import { NothingInRange } from './spend';

const ROWS_SHOWN = 12;
const SPLIT_WORDS: Record<Split, string> = { team: 'Team', agent: 'Agent', server: 'MCP server', tool: 'Tool', model: 'Model' };
/** What the server names what nobody is told to pay. */
const UNALLOCATED = '__unallocated__';
/** What a row without a name holds: said where the reader would otherwise think it is an error. */
const NONE_WORDS: Record<Split, string> = {
  team: 'no record and no rule names a team: set spanledger.team as a resource attribute, or write an allocation rule',
  agent: 'calls outside a named agent',
  server: 'the model calls themselves, with what no server\'s tools added to them, and the host\'s built-in tools',
  tool: 'the model calls themselves, with what no tool added to them: answers, instructions, messages',
  model: 'calls that use no model, such as tools',
};

/** What the cost of a row is, where it is not simply the cost of its calls. */
const COST_WORDS: Partial<Record<Split, string>> = {
  server: 'what the server\'s tools and resources added to model calls, and their own price',
  tool: 'what the tool\'s definition, calls and results added to model calls, and its own price',
};

const COLUMNS: { sort: Sort; title: string }[] = [
  { sort: 'cost', title: 'Cost' },
  { sort: 'llm_calls', title: 'LLM calls' },
  { sort: 'calls', title: 'All calls' },
  { sort: 'errors', title: 'Errors' },
  { sort: 'tokens', title: 'Tokens' },
  { sort: 'unpriced_tokens', title: 'Unpriced tokens' },
];

export function BreakdownPanel(): JSX.Element {
  const { value, error, loading, split } = costs.value;
  const wanted = route.value.split;
  return (
    <section class="panel" aria-labelledby="split-title" aria-busy={loading}>
      <header>
        <h2 id="split-title">Cost by {SPLIT_WORDS[wanted].replace(/^[TA]|^Mo/, (start) => start.toLowerCase())}</h2>
        <nav class="segments" aria-label="Split cost by">
          {SPLITS.map((name) => (
            <StateLink key={name} change={{ split: name, allRows: false }} current={name === wanted}>
              {name === 'server' ? 'Server' : SPLIT_WORDS[name]}
            </StateLink>
          ))}
        </nav>
      </header>
      {error ? <Failure what="Costs" error={error} /> : null}
      {!value && !error ? <Notice kind="loading" title="Reading the ledger…" /> : null}
      {value && value.rows.length === 0 ? <NothingInRange /> : null}
      {value && value.rows.length > 0 ? <BreakdownTable split={split} /> : null}
    </section>
  );
}

function BreakdownTable(props: { split: Split }): JSX.Element | null {
  const report = costs.value.value;
  if (!report) return null;
  const { split } = props;
  const { sort, ascending, allRows } = route.value;
  const rows = rank(report.rows, split, sort, ascending, allRows ? Infinity : ROWS_SHOWN, report.other);
  const total = decimalNumber(report.total.cost);
  const none = rows.find((row) => row.folded === undefined && (row.name === null || row.name === UNALLOCATED));
  return (
    <>
      <div class="scroll" role="region" aria-label={`Table: cost by ${split}`} tabIndex={0}>
        <table class="sticky-first">
          <thead>
            <tr>
              <SortHead title={SPLIT_WORDS[split]} column="name" />
              {COLUMNS.slice(0, 1).map((column) => <SortHead key={column.sort} title={column.title} column={column.sort} number />)}
              <th scope="col">Share</th>
              {COLUMNS.slice(1).map((column) => <SortHead key={column.sort} title={column.title} column={column.sort} number />)}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => <Row key={row.folded !== undefined ? '\u0000rest' : (row.name ?? '\u0000none')} row={row} total={total} currency={report.currency} split={split} />)}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">Total</th>
              <td class="number"><Money cost={report.total.cost} currency={report.currency} unpricedTokens={report.total.unpriced_tokens} /></td>
              <td />
              <td class="number">{formatCount(report.total.llm_calls)}</td>
              <td class="number">{formatCount(report.total.calls)}</td>
              <td class="number">{formatCount(report.total.errors)}</td>
              <td class="number"><Tokens count={report.total.tokens} /></td>
              <td class="number"><Tokens count={report.total.unpriced_tokens} /></td>
            </tr>
          </tfoot>
        </table>
      </div>
      <p class="foot">
        <span>
          {COST_WORDS[split] ? <>Cost: {COST_WORDS[split]}. </> : null}
          {none ? <><i>{none.name ?? '(none)'}</i>: {NONE_WORDS[split]}</> : null}
        </span>
        {allRows && report.rows.length > ROWS_SHOWN + 1 ? <StateLink change={{ allRows: false }}>Show the first {ROWS_SHOWN}</StateLink> : null}
      </p>
    </>
  );
}

function SortHead(props: { title: string; column: Sort; number?: boolean }): JSX.Element {
  const { sort, ascending } = route.value;
  const sorted = sort === props.column;
  const next = sorted ? !ascending : props.column === 'name';
  return (
    <th scope="col" class={props.number ? 'number' : undefined} aria-sort={sorted ? (ascending ? 'ascending' : 'descending') : undefined}>
      <StateLink class="sort" change={{ sort: props.column, ascending: next }}>
        {props.title}
        <span class="arrow" aria-hidden="true">{sorted ? (ascending ? '▲' : '▼') : ''}</span>
      </StateLink>
    </th>
  );
}

function Row(props: { row: RankedRow; total: number; currency: string; split: Split }): JSX.Element {
  const { row, total } = props;
  const part = decimalNumber(row.cost);
  const share = formatShare(part, total);
  return (
    <tr class={row.folded !== undefined ? 'rest' : undefined}>
      <th scope="row">
        {row.folded === undefined ? <Name text={row.name} max={48} /> : row.folded === 0 ? 'all others' : <StateLink change={{ allRows: true }}>{formatCount(row.folded)} more…</StateLink>}
      </th>
      <td class="number"><Money cost={row.cost} currency={props.currency} unpricedTokens={row.unpriced_tokens} /></td>
      <td class="share">
        <span class="share-bar" aria-hidden="true"><span style={{ width: `${total > 0 ? Math.max(0, (part / total) * 100) : 0}%` }} /></span>
        <span class="share-text">{share ?? '–'}</span>
      </td>
      <td class="number">{formatCount(row.llm_calls)}</td>
      <td class="number">{formatCount(row.calls)}</td>
      <td class="number">{row.errors > 0 ? <span class="bad" title={formatShare(row.errors, row.calls) ?? undefined}>{formatCount(row.errors)}</span> : <span class="muted">0</span>}</td>
      <td class="number"><Tokens count={row.tokens} /></td>
      <td class="number">{row.unpriced_tokens > 0 ? <span class="warn"><Tokens count={row.unpriced_tokens} /></span> : <span class="muted">0</span>}</td>
    </tr>
  );
}
