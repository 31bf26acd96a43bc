/**
 * How figures and text become characters on the screen. Pure functions, no DOM.
 *
 * Guarantees: money is never rounded to nothing ($0.00042, never $0.00) and never passes through a
 * float; text from telemetry loses its control and direction characters and is cut to a length.
 */

/** An exact decimal: `digits / 10^scale`. */
export interface Decimal {
  digits: bigint;
  scale: number;
}

/** Smallest amount that is written out; anything nearer to zero shows as "<" this. */
const MONEY_DECIMALS_MAX = 12;
/** Longest text of telemetry shown in a cell; the rest is in the tooltip. */
export const TEXT_CHARS_MAX = 60;
const TITLE_CHARS_MAX = 400;

/** Reads what the API sends for a DECIMAL: `"0.0123"`, `"-1"`, `"1E-9"`. Null where it is not a number. */
export function parseDecimal(text: string | number | null | undefined): Decimal | null {
  if (text === null || text === undefined) return null;
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/.exec(String(text).trim());
  if (!match || !(match[2] || match[3])) return null;
  const fraction = match[3] ?? '';
  let digits = BigInt((match[2] ?? '') + fraction);
  let scale = fraction.length - Number(match[4] ?? 0);
  if (scale < 0) {
    digits *= 10n ** BigInt(-scale);
    scale = 0;
  }
  return { digits: match[1] === '-' ? -digits : digits, scale };
}

/** Exact sum; values that are absent count as nothing. */
export function addDecimals(values: Iterable<string | null | undefined>): string {
  let digits = 0n;
  let scale = 0;
  for (const value of values) {
    const next = parseDecimal(value);
    if (!next) continue;
    if (next.scale > scale) {
      digits *= 10n ** BigInt(next.scale - scale);
      scale = next.scale;
    }
    digits += next.digits * 10n ** BigInt(scale - next.scale);
  }
  return decimalText({ digits, scale });
}

/** The float nearest to a decimal: for drawing and sorting only, never for adding up. */
export function decimalNumber(text: string | null | undefined): number {
  const value = parseDecimal(text);
  return value ? Number(decimalText(value)) : 0;
}

/** True where the amount is exactly zero, or absent. */
export function isZero(text: string | null | undefined): boolean {
  return (parseDecimal(text)?.digits ?? 0n) === 0n;
}

/** `$1,234.50`, `$0.0123`, `$0.00042`, `$0`: two digits from a dollar up, three significant ones below. */
export function formatMoney(text: string | null | undefined, currency = 'USD'): string {
  const value = parseDecimal(text);
  if (!value) return '–';
  const negative = value.digits < 0n;
  const amount: Decimal = { digits: negative ? -value.digits : value.digits, scale: value.scale };
  const sign = negative ? '−' : '';
  if (amount.digits === 0n) return withCurrency('0', currency);
  const plain = amount.digits.toString().padStart(amount.scale + 1, '0');
  const whole = plain.slice(0, plain.length - amount.scale);
  const fraction = amount.scale === 0 ? '' : plain.slice(-amount.scale);
  let decimals = 2;
  if (whole === '0') {
    const leadingZeros = fraction.length - fraction.replace(/^0+/, '').length;
    decimals = Math.max(2, leadingZeros + 3);
    if (leadingZeros >= MONEY_DECIMALS_MAX) {
      return `${sign}<${withCurrency(`0.${'0'.repeat(MONEY_DECIMALS_MAX - 1)}1`, currency)}`;
    }
    decimals = Math.min(decimals, MONEY_DECIMALS_MAX);
  }
  return sign + withCurrency(fixed(amount, decimals), currency);
}

/** Every digit there is, for tooltips: `0.000420000000000` becomes `0.00042 USD`. */
export function exactMoney(text: string | null | undefined, currency = 'USD'): string {
  const value = parseDecimal(text);
  if (!value) return 'unpriced';
  return `${decimalText(value)} ${currency}`;
}

function withCurrency(amount: string, currency: string): string {
  return currency === 'USD' ? `$${amount}` : `${currency} ${amount}`;
}

/** Rounds half away from zero, groups thousands, and drops trailing zeros beyond two decimals. */
function fixed(value: Decimal, decimals: number): string {
  let digits = value.digits;
  if (value.scale > decimals) {
    const unit = 10n ** BigInt(value.scale - decimals);
    digits = (digits + unit / 2n) / unit;
  } else {
    digits *= 10n ** BigInt(decimals - value.scale);
  }
  const plain = digits.toString().padStart(decimals + 1, '0');
  const fraction = plain.slice(-decimals).replace(/0+$/, '').padEnd(2, '0');
  return `${groupThousands(plain.slice(0, plain.length - decimals))}.${fraction}`;
}

function decimalText({ digits, scale }: Decimal): string {
  const negative = digits < 0n;
  const plain = (negative ? -digits : digits).toString().padStart(scale + 1, '0');
  const whole = plain.slice(0, plain.length - scale);
  const fraction = scale === 0 ? '' : plain.slice(-scale).replace(/0+$/, '');
  return `${negative ? '-' : ''}${whole}${fraction ? `.${fraction}` : ''}`;
}

function groupThousands(digits: string): string {
  return digits.replace(/\B(?=(\d{3})+(?!\d))/g, ',');
}

/** `1,234`; a dash where the count is not known (absent is not zero). */
export function formatCount(count: number | null | undefined): string {
  return count === null || count === undefined ? '–' : groupThousands(String(Math.trunc(count)));
}

/** `9,876`, `12.3k`, `4.57M`: three significant digits from ten thousand up. */
export function formatCompact(count: number | null | undefined): string {
  if (count === null || count === undefined) return '–';
  if (Math.abs(count) < 10_000) return groupThousands(String(Math.trunc(count)));
  for (const [unit, suffix] of [[1e3, 'k'], [1e6, 'M'], [1e9, 'B'], [1e12, 'T']] as const) {
    const scaled = count / unit;
    if (Math.abs(scaled) < 999.5 || unit === 1e12) return `${Number(scaled.toPrecision(3))}${suffix}`;
  }
  return String(count);
}

/** `12.3%`, `<0.1%`, `0%`. Null where there is no whole to take a share of. */
export function formatShare(part: number, whole: number): string | null {
  if (!(whole > 0)) return null;
  const percent = (part / whole) * 100;
  if (percent === 0) return '0%';
  if (percent < 0.1) return '<0.1%';
  return `${percent.toFixed(percent < 99.95 ? 1 : 0)}%`;
}

/** `840 ms`, `1.25 s`, `3 m 12 s`. */
export function formatDuration(ns: number | null | undefined): string {
  if (ns === null || ns === undefined) return '–';
  const ms = ns / 1e6;
  if (ms < 1) return '<1 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
}

/** `3 s`, `4 min`, `2 h`, `5 days`: one unit, rounded down. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const WEEKDAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];

function two(value: number): string {
  return String(value).padStart(2, '0');
}

/** `22 Nov`, in UTC. */
export function formatDay(at: Date): string {
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()] ?? ''}`;
}

/** `Sun 22 Nov 2026`, in UTC. */
export function formatDayLong(at: Date): string {
  return `${WEEKDAYS[at.getUTCDay()] ?? ''} ${formatDay(at)} ${at.getUTCFullYear()}`;
}

/** `14:03`, in UTC. */
export function formatClock(at: Date, seconds = false): string {
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds ? `:${two(at.getUTCSeconds())}` : ''}`;
}

/** The moment of an API timestamp, or null where it is none. */
export function parseTime(text: string | null | undefined): Date | null {
  if (!text) return null;
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? null : at;
}

// C0 and C1 controls, zero-width and direction characters, line separators, tags: what lets a name
// look like another name, or run out of its cell.
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\u{e0000}-\u{e0fff}]/gu;

/** Text of telemetry, made fit for one line: invisible characters shown as `�`, cut to `max` characters. */
export function safeText(text: string, max: number = TEXT_CHARS_MAX): string {
  const characters = Array.from(text.slice(0, max * 4).replace(INVISIBLE, '\ufffd'));
  return characters.length > max ? `${characters.slice(0, max - 1).join('')}…` : characters.join('');
}

/** The same text with more of it, for a tooltip. */
export function safeTitle(text: string): string {
  return safeText(text, TITLE_CHARS_MAX);
}
