import { type JSX, useEffect, useState } from 'react';
import type { Address } from './address.ts';
import { useNotifications } from './notifications.ts';
import { withoutTab } from './tabs.ts';
import { setWaiting } from './title.ts';
import { useCounting, useCounts } from './use-counts.ts';

/**
 * Draws attention to tasks that wait, in every view and also in a hidden tab: their number in the title, a dot on the icon, and
 * notifications if they are switched on. Counted is what was listed last, at first one's own tasks.
 */
export function Attention({ address }: { readonly address: Address }): JSX.Element {
  const listed = address.view === 'list' ? withoutTab(address.query) : undefined;
  const [latest, setLatest] = useState('');
  if (listed !== undefined && listed !== latest) setLatest(listed);
  const query = listed ?? latest;
  useCounting(query);
  const waiting = useCounts(query)?.waiting;
  useEffect(() => setWaiting(waiting), [waiting]);
  useEffect(() => () => setWaiting(undefined), []);
  useNotifications();
  return <></>;
}
