import { type JSX, useSyncExternalStore } from 'react';
import { durationSince, relativeTime } from './relative-time.ts';

/** How often relative times are updated, in milliseconds. */
const tickMs = 20_000;

const readable = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });
const listeners = new Set<() => void>();
let now = Date.now();
let timer: number | undefined;

/** A relative time, with the exact local time on hover. */
export function TimeAgo({ at }: { readonly at: number }): JSX.Element {
  return <Time at={at} words={relativeTime(at, useNow())} />;
}

/** How long something has lasted, such as `for 2 h`, with the exact local time on hover. */
export function TimeSince({ at }: { readonly at: number }): JSX.Element {
  return <Time at={at} words={`for ${durationSince(at, useNow())}`} />;
}

function Time({ at, words }: { readonly at: number; readonly words: string }): JSX.Element {
  const date = new Date(at);
  return (
    <time dateTime={date.toISOString()} title={exact.format(date)}>
      {words}
    </time>
  );
}

function useNow(): number {
  return useSyncExternalStore(subscribe, () => now);
}

/** A local time to the minute. */
export function localTime(at: number): string {
  return readable.format(new Date(at));
}

/** One clock for all times on the page. */
function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (timer === undefined) now = Date.now();
  timer ??= window.setInterval(() => {
    now = Date.now();
    for (const tell of listeners) tell();
  }, tickMs);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}
