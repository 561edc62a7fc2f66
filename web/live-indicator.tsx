import type { JSX } from 'react';
import type { LiveStatus } from './task-stream.ts';

/** How often the page polls without a stream, in milliseconds. */
export const pollMs = 10_000;

const words: Readonly<Record<LiveStatus, readonly [word: string, meaning: string]>> = {
  connecting: ['Connecting', 'Changes will show by themselves in a moment'],
  live: ['Live', 'Changes show by themselves'],
  reconnecting: ['Reconnecting', 'The service cannot be reached just now. What changed meanwhile will be shown'],
  offline: ['Offline', 'There is no network. What changed meanwhile will be shown'],
  idle: ['Not live', 'There is nothing here that could change'],
  polling: [`Every ${pollMs / 1000} s`, 'Not live: this query is asked again every few seconds'],
};

/** Shows whether the view is up to date. */
export function LiveIndicator({ status }: { readonly status: LiveStatus }): JSX.Element {
  const [word, meaning] = words[status];
  return (
    <span className={`live-indicator ${status}`} role="status" title={meaning}>
      <span className="dot" aria-hidden="true" />
      {word}
    </span>
  );
}
