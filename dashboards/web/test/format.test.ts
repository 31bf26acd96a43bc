import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addDecimals,
  exactMoney,
  formatAge,
  formatCompact,
  formatDuration,
  formatMoney,
  formatShare,
  parseDecimal,
  safeText,
} from '../src/format';

function check<I, O>(format: (input: I) => O, cases: [I, O][]): void {
  for (const [input, expected] of cases) assert.deepEqual(format(input), expected, `input ${String(input)}`);
}

test('money keeps enough digits and never shows an amount as nothing', () => {
  check(formatMoney, [
    ['0', '$0'],
    ['0.000000000000000', '$0'],
    ['0.000420000000000', '$0.00042'],
    ['0.0000001234', '$0.000000123'],
    ['0.000000000000001', '<$0.000000000001'],
    ['0.5', '$0.50'],
    ['0.0123', '$0.0123'],
    ['0.99999', '$1.00'],
    ['1', '$1.00'],
    ['12.345', '$12.35'],
    ['1234567.891', '$1,234,567.89'],
    ['-0.00042', '−$0.00042'],
    ['1E-9', '$0.000000001'],
    [null, '–'],
    ['not a number', '–'],
  ]);
  assert.equal(formatMoney('3.5', 'EUR'), 'EUR 3.50');
});

test('exact money keeps every digit', () => {
  check((text: string | null) => exactMoney(text), [
    ['0.000420000000000', '0.00042 USD'],
    ['12345678901234567890.000000000000001', '12345678901234567890.000000000000001 USD'],
    [null, 'unpriced'],
  ]);
});

test('sums are exact where floats are not', () => {
  assert.equal(addDecimals(['0.1', '0.2']), '0.3');
  assert.equal(addDecimals(['0.000000000000001', '123456789012345', null]), '123456789012345.000000000000001');
  assert.equal(addDecimals(['1.5', '-1.5']), '0');
  assert.equal(addDecimals([]), '0');
});

test('a decimal is refused where it is not one', () => {
  for (const text of ['', '.', '1,5', '0x10', 'NaN', '1e', '--1']) assert.equal(parseDecimal(text), null, text);
});

test('counts are compact from ten thousand up', () => {
  check(formatCompact, [
    [0, '0'],
    [9999, '9,999'],
    [12_345, '12.3k'],
    [999_499, '999k'],
    [999_900, '1M'],
    [4_567_890, '4.57M'],
    [7e9, '7B'],
    [null, '–'],
  ]);
});

test('shares, durations and ages read as a person would say them', () => {
  assert.equal(formatShare(1, 3), '33.3%');
  assert.equal(formatShare(1, 100_000), '<0.1%');
  assert.equal(formatShare(5, 5), '100%');
  assert.equal(formatShare(0, 5), '0%');
  assert.equal(formatShare(1, 0), null);
  check(formatDuration, [
    [400_000, '<1 ms'],
    [840e6, '840 ms'],
    [1.25e9, '1.25 s'],
    [192e9, '3 m 12 s'],
    [null, '–'],
  ]);
  check(formatAge, [
    [3400, '3 s'],
    [-5, '0 s'],
    [61_000, '1 min'],
    [7_200_000, '2 h'],
    [5 * 86_400_000, '5 days'],
  ]);
});

test('text of telemetry cannot turn direction, hide characters or run on', () => {
  assert.equal(safeText('get_forecast'), 'get_forecast');
  assert.equal(safeText('safe\u202Eexe.txt'), 'safe\uFFFDexe.txt');
  assert.equal(safeText('a\u200Bb\u0000c\nd'), 'a\uFFFDb\uFFFDc\uFFFDd');
  assert.equal(safeText('x'.repeat(100), 10), `${'x'.repeat(9)}…`);
  assert.equal(safeText('🧾'.repeat(20), 5), '🧾🧾🧾🧾…');
  assert.equal(safeText('<img src=x onerror=alert(1)>'), '<img src=x onerror=alert(1)>');
});
