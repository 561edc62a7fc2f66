import { type AnchorHTMLAttributes, type JSX, type MouseEvent, useSyncExternalStore } from 'react';
import { type Address, parseAddress } from './address.ts';

/** What the history keeps of an entry, so that going back finds the list as it was left. */
interface HistoryEntry {
  /** How far the page was scrolled down. */
  readonly scroll?: number;
  /** The task whose view was opened from here. */
  readonly opened?: string;
  /** Whether the entry before is this page's, too. */
  readonly inPage?: boolean;
}

const listeners = new Set<() => void>();
const tellAll = (): void => {
  for (const listener of listeners) listener();
};

/** The present address; the component renders again when it changes. */
export function useAddress(): Address {
  const text = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const [path = '', search = ''] = text.split(/\?(.*)/s);
  return parseAddress(path, search);
}

/** Goes to a path as a new entry of the history. */
export function goTo(path: string, note: HistoryEntry = {}): void {
  if (path === location.pathname + location.search) return;
  history.replaceState({ ...historyEntry(), ...note, scroll: scrollY }, '');
  history.pushState({ inPage: true } satisfies HistoryEntry, '', path);
  tellAll();
  if (!path.startsWith('/?') && path !== '/') scrollTo(0, 0);
}

/** Goes back where one came from; to the list, for who came by a link. */
export function goBack(): void {
  if (historyEntry().inPage === true) history.back();
  else goTo('/');
}

/** What the history keeps of the present entry. */
export function historyEntry(): HistoryEntry {
  return (history.state ?? {}) as HistoryEntry;
}

function subscribe(listener: () => void): () => void {
  if (listeners.size === 0) addEventListener('popstate', tellAll);
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) removeEventListener('popstate', tellAll);
  };
}

/** A link within the page. With Ctrl, Shift or the middle button it opens like any other. */
export function Link(props: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; note?: HistoryEntry }): JSX.Element {
  const { note, ...attributes } = props;
  const onClick = (event: MouseEvent<HTMLAnchorElement>): void => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    goTo(props.href, note);
  };
  return <a {...attributes} onClick={onClick} />;
}
