/** Small pieces that every panel uses: amounts, names, links that are state, notices, copy buttons. */

import { useSignal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import type { ApiError } from '../api';
import { exactMoney, formatCompact, formatCount, formatMoney, isZero, parseDecimal, safeText, safeTitle } from '../format';
import { go, hrefWith, type Route } from '../route';
import { retry } from '../store';

/** A link to another state of this page: real address, so that it can be copied and opened in a tab. */
export function StateLink(props: {
  change: Partial<Route>;
  current?: boolean;
  class?: string;
  label?: string;
  title?: string;
  children: ComponentChildren;
}): JSX.Element {
  const follow = (event: MouseEvent): void => {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(props.change);
  };
  return (
    <a
      href={hrefWith(props.change)}
      class={props.class}
      aria-label={props.label}
      title={props.title}
      aria-current={props.current ? 'true' : undefined}
      onClick={follow}
    >
      {props.children}
    </a>
  );
}

/** An amount with every digit in its tooltip; "unpriced" is a state of its own, never zero. */
export function Money(props: { cost: string | null | undefined; currency: string; unpricedTokens?: number }): JSX.Element {
  const { cost, currency } = props;
  const unpriced = props.unpricedTokens ?? 0;
  if (unpriced > 0 && isZero(cost)) return <Unpriced tokens={unpriced} />;
  if (parseDecimal(cost) === null) return <span class="muted">–</span>;
  return (
    <span class={isZero(cost) ? 'money muted' : 'money'} title={exactMoney(cost, currency)}>
      {unpriced > 0 ? <Unpriced tokens={unpriced} also /> : null}
      {formatMoney(cost, currency)}
    </span>
  );
}

export function Unpriced(props: { tokens?: number; also?: boolean }): JSX.Element {
  const detail = props.tokens ? `${formatCount(props.tokens)} tokens have no price` : 'no price is known for this model';
  return (
    <span class="tag unpriced" title={detail}>
      {props.also ? 'some unpriced' : 'unpriced'}
    </span>
  );
}

export function Tokens(props: { count: number | null | undefined }): JSX.Element {
  const { count } = props;
  if (count === null || count === undefined) return <span class="muted" title="not reported">–</span>;
  return <span class={count === 0 ? 'muted' : undefined} title={formatCount(count)}>{formatCompact(count)}</span>;
}

/** A name from telemetry: text only, isolated from its surroundings, cut to a length. */
export function Name(props: { text: string | null | undefined; none?: string; max?: number }): JSX.Element {
  const { text } = props;
  if (text === null || text === undefined) return <span class="muted none">{props.none ?? '(none)'}</span>;
  if (text.trim() === '') return <span class="muted none">(empty)</span>;
  return <bdi title={safeTitle(text)}>{safeText(text, props.max)}</bdi>;
}

/** What is not there, or went wrong, and the next step. */
export function Notice(props: { kind: 'empty' | 'error' | 'loading'; title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class={`notice ${props.kind}`} role={props.kind === 'error' ? 'alert' : 'status'}>
      <strong>{props.title}</strong>
      {props.children ? <div>{props.children}</div> : null}
    </div>
  );
}

/** The error of a panel, with the way out. */
export function Failure(props: { what: string; error: ApiError }): JSX.Element {
  const { error } = props;
  return (
    <Notice kind="error" title={`${props.what} could not be read`}>
      <p>
        {safeText(error.message, 300)}
        {error.id ? ` (report id ${safeText(error.id)})` : ''}
      </p>
      <button type="button" onClick={retry}>Try again</button>
    </Notice>
  );
}

/** A block of commands with a button that copies it. */
export function CopyBlock(props: { title: string; note?: string; code: string }): JSX.Element {
  const said = useSignal('');
  const copy = async (event: MouseEvent): Promise<void> => {
    const block = (event.currentTarget as HTMLElement).closest('.copy-block')?.querySelector('pre');
    try {
      await navigator.clipboard.writeText(props.code);
      said.value = 'Copied';
    } catch {
      const selection = getSelection();
      if (block && selection) selection.selectAllChildren(block);
      said.value = 'Selected: press Ctrl+C';
    }
    setTimeout(() => {
      said.value = '';
    }, 4000);
  };
  return (
    <section class="copy-block">
      <div class="copy-head">
        <h2>{props.title}</h2>
        <span class="copied" role="status">{said.value}</span>
        <button type="button" onClick={(event) => void copy(event)} aria-label={`Copy: ${props.title}`}>Copy</button>
      </div>
      {props.note ? <p class="muted">{props.note}</p> : null}
      <pre tabIndex={0} aria-label={props.title}><code>{props.code}</code></pre>
    </section>
  );
}
