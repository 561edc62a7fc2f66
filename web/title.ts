import icon from './icon.svg?url&no-inline';
import waitingIcon from './icon-waiting.svg?url&no-inline';
import { type Count, countText } from './use-counts.ts';

let text = 'Tasks';
let waiting: Count | undefined;
let shownIcon = icon;

/** Sets what the tab of the browser is called. The number of waiting tasks stands before it. */
export function setTitle(next: string): void {
  text = next;
  write();
}

/** Sets how many tasks wait: a number in the title of every view, and a dot on the icon of the tab. */
export function setWaiting(next: Count | undefined): void {
  waiting = next;
  write();
  const href = next === undefined || next.count === 0 ? icon : waitingIcon;
  const link = document.querySelector<HTMLLinkElement>('link[rel="icon"]');
  if (link !== null && shownIcon !== href) link.href = href;
  shownIcon = href;
}

function write(): void {
  document.title = waiting === undefined || waiting.count === 0 ? text : `(${countText(waiting)}) ${text}`;
}
