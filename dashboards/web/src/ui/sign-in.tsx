/** Signing in with an API key, and who is signed in. The key is sent once and kept nowhere on the page. */

import { signal } from '@preact/signals';
import type { JSX } from 'preact';
import { ApiError, type Session } from '../api';
import { safeText } from '../format';
import { enter, leave, session } from '../store';

const problem = signal<string | undefined>(undefined);
const busy = signal(false);

async function submit(event: Event): Promise<void> {
  event.preventDefault();
  const form = event.currentTarget as HTMLFormElement;
  const key = String(new FormData(form).get('key') ?? '').trim();
  if (!key || busy.peek()) return;
  busy.value = true;
  problem.value = undefined;
  try {
    await enter(key);
    form.reset();
  } catch (error) {
    problem.value = error instanceof ApiError ? error.message : String(error);
  } finally {
    busy.value = false;
  }
}

export function SignIn(): JSX.Element {
  return (
    <section class="panel sign-in" aria-labelledby="sign-in-title">
      <h1 id="sign-in-title">Sign in</h1>
      <p class="muted">This server asks who you are. Paste an API key; it is exchanged for a session of this browser.</p>
      <form onSubmit={(event) => void submit(event)}>
        <label for="key">API key</label>
        <input id="key" name="key" type="password" autocomplete="off" spellcheck={false} placeholder="sl_…" required autofocus aria-describedby={problem.value ? 'sign-in-problem' : undefined} />
        <button type="submit" disabled={busy.value}>{busy.value ? 'Signing in…' : 'Sign in'}</button>
      </form>
      {problem.value ? <p id="sign-in-problem" class="bad" role="alert">{safeText(problem.value, 300)}</p> : null}
      <p class="muted">No key yet? Who runs the server makes one: <code>spanledger keys create --role viewer</code></p>
    </section>
  );
}

/** Tenant, role and what of the tenant is seen; nothing where the server has no login. */
export function Who(): JSX.Element | null {
  const known = session.value;
  if (!known?.login) return null;
  return (
    <span class="who">
      <span title={whole(known)}>
        <strong>{safeText(known.tenant, 40)}</strong> {safeText(known.role ?? known.subject, 40)}
      </span>
      {known.session ? <button type="button" onClick={() => void leave()}>Sign out</button> : null}
    </span>
  );
}

function whole(known: Session): string {
  const seen = Object.entries(known.rows).map(([column, values]) => `${column}: ${values.join(', ')}`);
  const parts = [`tenant ${known.tenant}`, `signed in as ${known.name ?? known.subject}`, known.scopes.join(' '), ...seen];
  return safeText(parts.join(' · '), 400);
}
