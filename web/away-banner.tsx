import { type JSX, useEffect, useState } from 'react';
import type { LiveState } from './task-stream.ts';

const times = new Intl.DateTimeFormat(undefined, { timeStyle: 'short' });

/** Says that the service cannot be reached, since when, and when the page tries again. It moves nothing of the view. */
export function AwayBanner({ live: { status, since, retryAt } }: { readonly live: LiveState }): JSX.Element | null {
  const isAway = status === 'reconnecting' || status === 'offline';
  const now = useSeconds(isAway);
  if (!isAway || since === undefined) return null;
  const seconds = retryAt === undefined ? 0 : Math.ceil((retryAt - now) / 1000);
  return (
    <p className="away banner bad" role="status">
      {status === 'offline' ? 'There is no network' : 'The service cannot be reached'} since {times.format(since)}. What you see
      may be old. <span aria-hidden="true">{seconds > 0 ? `Next try in ${seconds} s.` : 'Trying now.'}</span>
    </p>
  );
}

/** The time, each second while it is needed. */
function useSeconds(isNeeded: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!isNeeded) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [isNeeded]);
  return now;
}
