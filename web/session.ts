import { useSyncExternalStore } from 'react';
import { basePath } from './base-path.ts';

/** Whether a user is signed in, and with which session token. */
type Session =
  | { readonly status: 'looking' }
  | { readonly status: 'signed-out'; readonly message?: string }
  | { readonly status: 'signed-in'; readonly token: string };

/** Messages between the tabs of a browser, which pass the session on to new tabs: session storage belongs to one tab. */
type TabMessage =
  | { readonly kind: 'ask' }
  | { readonly kind: 'answer'; readonly token: string }
  | { readonly kind: 'signed-out'; readonly token: string };

// Another service may be on the same host, under another path.
const storageKey = `tasks-service.token${basePath}`;

/** How long a new tab waits for an answer of another tab, in milliseconds. */
const answerMs = 150;

const channel = new BroadcastChannel(`tasks-service.session${basePath}`);
const listeners = new Set<() => void>();
/** Whether an answer of another tab is welcome: until the user has signed in or out here. */
let isAsking = false;
let session: Session = start();

channel.addEventListener('message', ({ data }: MessageEvent<TabMessage>) => {
  if (data.kind === 'ask' && session.status === 'signed-in') tell({ kind: 'answer', token: session.token });
  // An answer may come late, when the sign-in is shown already.
  if (data.kind === 'answer' && isAsking) signIn(data.token);
  if (data.kind === 'signed-out' && session.status === 'signed-in' && session.token === data.token) forget();
});

/** The present session; the component renders again when it changes. */
export function useSession(): Session {
  return useSyncExternalStore(subscribe, () => session);
}

/** Signs in with a token that the service has accepted. */
export function signIn(token: string): void {
  isAsking = false;
  sessionStorage.setItem(storageKey, token);
  change({ status: 'signed-in', token });
}

/** Signs out, here and in the other tabs that use the token. */
export function signOut(): void {
  if (session.status === 'signed-in') tell({ kind: 'signed-out', token: session.token });
  forget();
}

/** Signs out because the service rejects the token. The URL stays, so that the same view returns after the next sign-in. */
export function expire(token: string): void {
  if (session.status === 'signed-in' && session.token === token) {
    forget('Your session has ended: its token has expired or was revoked. Sign in to go on where you were.');
  }
}

function start(): Session {
  const token = sessionStorage.getItem(storageKey);
  if (token !== null) return { status: 'signed-in', token };
  isAsking = true;
  tell({ kind: 'ask' });
  setTimeout(() => {
    if (session.status === 'looking') change({ status: 'signed-out' });
  }, answerMs);
  return { status: 'looking' };
}

function forget(message?: string): void {
  isAsking = false;
  sessionStorage.removeItem(storageKey);
  change({ status: 'signed-out', ...(message === undefined ? {} : { message }) });
}

function change(next: Session): void {
  session = next;
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(message: TabMessage): void {
  channel.postMessage(message);
}
