import { type AnchorHTMLAttributes, type JSX, type MouseEvent, useSyncExternalStore } from 'react';
import { type Address, parseAddress } from './address.ts';
import { basePath, inBase } from './base-path.ts';

/** The state of a history entry, so that going back restores the list. */
interface HistoryEntry {
  /** The scroll position of the page. */
  readonly scroll?: number;
  /** The task whose view was opened from here. */
  readonly opened?: string;
  /** Whether the previous entry also belongs to this page. */
  readonly inPage?: boolean;
}

const listeners = new Set<() => void>();
const tellAll = (): void => {
  for (const listener of listeners) listener();
};

/** The present URL; the component renders again when it changes. */
export function useAddress(): Address {
  const text = useSyncExternalStore(subscribe, () => location.pathname + location.search);
  const [path = '', search = ''] = text.split(/\?(.*)/s);
  return path.startsWith(basePath) ? parseAddress(`/${path.slice(basePath.length)}`, search) : { view: 'nowhere' };
}

/** Navigates to a path of the page, as a new history entry. */
export function goTo(path: string, note: HistoryEntry = {}): void {
  if (inBase(path) === location.pathname + location.search) return;
  history.replaceState({ ...historyEntry(), ...note, scroll: scrollY }, '');
  history.pushState({ inPage: true } satisfies HistoryEntry, '', inBase(path));
  tellAll();
  if (!path.startsWith('/?') && path !== '/') scrollTo(0, 0);
}

/** Goes to another path in the place of the present one, as for the next task of a list. */
export function replaceWith(path: string): void {
  history.replaceState(historyEntry(), '', inBase(path));
  tellAll();
  scrollTo(0, 0);
}

/** Goes back; to the list if the user came by a link from elsewhere. */
export function goBack(): void {
  if (historyEntry().inPage === true) history.back();
  else goTo('/');
}

/** The state of the present history entry. */
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

/** A link within the page. With Ctrl, Shift or the middle button it behaves like any link. */
export function Link(props: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; note?: HistoryEntry }): JSX.Element {
  const { note, ...attributes } = props;
  const onClick = (event: MouseEvent<HTMLAnchorElement>): void => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    goTo(props.href, note);
  };
  return <a {...attributes} href={inBase(props.href)} onClick={onClick} />;
}
