/** Light, dark, or as the system says. A taste of the reader, so it is kept in the browser and not in the address. */

import { signal } from '@preact/signals';
import type { JSX } from 'preact';

const KEY = 'spanledger.theme';
type Theme = 'auto' | 'light' | 'dark';

function stored(): Theme {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'auto';
  } catch {
    return 'auto';
  }
}

export const theme = signal<Theme>(stored());
/** Changes whenever the colours do: canvases draw again. */
export const paint = signal(0);

function apply(): void {
  document.documentElement.dataset['theme'] = theme.value;
  paint.value += 1;
}

export function startTheme(): void {
  apply();
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', apply);
}

/** The value of a colour variable of the stylesheet, for canvases. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function ThemePicker(): JSX.Element {
  return (
    <label class="theme">
      <span class="visually-hidden">Theme</span>
      <select
        value={theme.value}
        onChange={(event) => {
          theme.value = event.currentTarget.value as Theme;
          try {
            localStorage.setItem(KEY, theme.value);
          } catch {
            // private mode: the choice lasts as long as the page
          }
          apply();
        }}
      >
        <option value="auto">Auto theme</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}
