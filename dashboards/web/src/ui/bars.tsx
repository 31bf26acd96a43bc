/**
 * The bars of spend over time, drawn by uPlot on a canvas. Says which bar is pointed at (mouse, touch or
 * arrow keys); the words for it are the panel's. A hollow triangle marks a bar with unpriced usage.
 */

import { effect } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { decimalNumber, formatClock, formatDay, formatMoney } from '../format';
import type { Series } from '../series';
import { colour, paint } from './theme';

const HEIGHT_PX = 240;

function options(width: number, held: { series: Series; currency: string; onPoint: (idx: number | null) => void }): uPlot.Options {
  const bars = uPlot.paths.bars?.({ size: [0.72, 72], radius: 0.12 });
  return {
    width,
    height: HEIGHT_PX,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
    legend: { show: false },
    padding: [16, 8, 0, 0],
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false, setScale: false } },
    scales: {
      x: {
        time: true,
        range: (_chart, min, max) => {
          const half = (held.series.stepMs / 1000) * 0.5;
          return [min - half, max + half];
        },
      },
      y: { range: (_chart, _min, max) => [0, max > 0 ? max * 1.08 : 1] },
    },
    axes: [
      {
        stroke: () => colour('--muted'),
        font: '12px system-ui, sans-serif',
        grid: { show: false },
        ticks: { show: false },
        gap: 6,
        size: 28,
        splits: (chart) => labelled(chart),
        values: (_chart, splits) =>
          splits.map((seconds) => {
            const at = new Date(seconds * 1000);
            if (held.series.stepMs >= 86_400_000) return formatDay(at);
            return at.getUTCHours() === 0 ? formatDay(at) : formatClock(at);
          }),
      },
      {
        stroke: () => colour('--muted'),
        font: '12px system-ui, sans-serif',
        grid: { stroke: () => colour('--line'), width: 1 },
        ticks: { show: false },
        gap: 6,
        size: (_chart, values) => Math.max(36, ...(values ?? []).map((text) => text.length * 7.2 + 12)),
        values: (_chart, splits) => splits.map((value) => formatMoney(String(Number(value.toPrecision(6))), held.currency)),
      },
    ],
    series: [
      {},
      {
        fill: () => colour('--accent'),
        stroke: () => colour('--accent'),
        width: 0,
        points: { show: false },
        ...(bars ? { paths: bars } : {}),
      },
    ],
    hooks: {
      setCursor: [(chart) => held.onPoint(chart.cursor.idx ?? null)],
      draw: [(chart) => markUnpriced(chart, held.series)],
    },
  };
}

/** As many bars get a label as fit; the newest always does. */
function labelled(chart: uPlot): number[] {
  const xs = Array.from(chart.data[0]);
  const every = Math.max(1, Math.ceil((xs.length * 62) / Math.max(1, chart.bbox.width / devicePixelRatio)));
  return xs.filter((_x, idx) => (xs.length - 1 - idx) % every === 0);
}

function markUnpriced(chart: uPlot, series: Series): void {
  const { ctx } = chart;
  const size = 5 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour('--warn-text');
  ctx.fillStyle = colour('--surface');
  ctx.lineWidth = 1.5 * devicePixelRatio;
  series.steps.forEach((step, idx) => {
    const x = chart.data[0][idx];
    if (step.unpricedTokens <= 0 || x === undefined) return;
    const left = chart.valToPos(x, 'x', true);
    const top = chart.valToPos(decimalNumber(step.cost), 'y', true) - 5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(left, top - size * 1.5);
    ctx.lineTo(left + size, top);
    ctx.lineTo(left - size, top);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  });
  ctx.restore();
}

export function Bars(props: {
  series: Series;
  currency: string;
  label: string;
  onPoint: (idx: number | null) => void;
}): JSX.Element {
  const holder = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const held = useRef(props);
  held.current = props;
  const steps = props.series.steps;
  const data: uPlot.AlignedData = [
    steps.map((step) => step.start.getTime() / 1000),
    steps.map((step) => decimalNumber(step.cost)),
  ];

  useEffect(() => {
    const target = holder.current;
    if (!target) return undefined;
    const view = {
      get series() { return held.current.series; },
      get currency() { return held.current.currency; },
      onPoint: (idx: number | null) => held.current.onPoint(idx),
    };
    const plot = new uPlot(options(Math.max(200, target.clientWidth), view), data, target);
    chart.current = plot;
    const resize = new ResizeObserver(() => {
      if (target.clientWidth > 0 && target.clientWidth !== plot.width) plot.setSize({ width: target.clientWidth, height: HEIGHT_PX });
    });
    resize.observe(target);
    const stop = effect(() => {
      void paint.value;
      plot.redraw(false, true);
    });
    return () => {
      stop();
      resize.disconnect();
      plot.destroy();
      chart.current = null;
    };
  }, []);

  const drawn = JSON.stringify([props.currency, steps.map((step) => [step.start, step.cost, step.unpricedTokens])]);
  const last = useRef(drawn);
  useEffect(() => {
    if (last.current === drawn) return;
    last.current = drawn;
    chart.current?.setData(data);
  }, [drawn]);

  const move = (event: KeyboardEvent): void => {
    const plot = chart.current;
    if (!plot) return;
    const at = plot.cursor.idx ?? steps.length;
    const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: steps.length - 1 }[event.key];
    if (event.key === 'Escape') {
      plot.setCursor({ left: -10, top: -10 });
      return;
    }
    if (next === undefined) return;
    event.preventDefault();
    const x = plot.data[0][Math.min(steps.length - 1, Math.max(0, next))];
    if (x !== undefined) plot.setCursor({ left: plot.valToPos(x, 'x'), top: 10 });
  };

  return (
    <div
      class="bars"
      ref={holder}
      role="img"
      tabIndex={0}
      aria-label={props.label}
      onKeyDown={move}
      onBlur={() => chart.current?.setCursor({ left: -10, top: -10 })}
    />
  );
}
