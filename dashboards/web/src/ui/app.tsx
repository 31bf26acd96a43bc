/** The page: first run, or totals, spend, split and calls. */

import type { JSX } from 'preact';
import { formatClock, safeText } from '../format';
import { RANGES, route } from '../route';
import { connectionError, loadedAt, retry, signedOut, status } from '../store';
import { Notice, StateLink } from './bits';
import { BreakdownPanel } from './breakdown';
import { CallsPanel } from './calls';
import { FirstRun } from './first-run';
import { SignIn, Who } from './sign-in';
import { RANGE_WORDS, SpendPanel } from './spend';
import { ThemePicker } from './theme';
import { Totals } from './totals';

export function App(): JSX.Element {
  const known = status.value;
  const waiting = known?.waiting_for_first_span ?? false;
  return (
    <>
      <a class="skip" href="#main">Skip to the figures</a>
      <header class="top">
        <a class="brand" href="./"><img src="icon.svg" alt="" width="24" height="24" />Spanledger</a>
        {known && !waiting ? (
          <nav class="segments ranges" aria-label="Time range">
            {RANGES.map((range) => (
              <StateLink key={range} change={{ range }} current={route.value.range === range} title={RANGE_WORDS[range]}>
                {range === 'all' ? 'All' : range}
              </StateLink>
            ))}
          </nav>
        ) : null}
        <span class="zone" title="The ledger's days are UTC days">UTC</span>
        <Who />
        <ThemePicker />
      </header>
      <main id="main">
        <Connection />
        {signedOut.value ? <SignIn /> : null}
        {!known && !connectionError.value && !signedOut.value ? <Notice kind="loading" title="Connecting…" /> : null}
        {known && waiting ? <FirstRun status={known} /> : null}
        {known && !waiting ? (
          <>
            <h1 class="visually-hidden">What your AI traffic costs</h1>
            <Totals />
            <SpendPanel />
            <BreakdownPanel />
            <CallsPanel />
          </>
        ) : null}
      </main>
      <footer>
        <span>Spanledger {known ? safeText(known.version, 24) : ''}</span>
        <span>Times and days in UTC</span>
        <a href="licenses.txt">Licenses of the front end</a>
      </footer>
    </>
  );
}

function Connection(): JSX.Element | null {
  const error = connectionError.value;
  if (!error) return null;
  const at = loadedAt.value;
  return (
    <Notice kind="error" title="The server does not answer">
      <p>
        {error.kind === 'unreachable' ? 'Is spanledger still running? ' : `${safeText(error.message, 200)}. `}
        {at ? `The figures are from ${formatClock(at, true)} UTC. ` : ''}Trying again by itself.
      </p>
      <button type="button" onClick={retry}>Try now</button>
    </Notice>
  );
}
