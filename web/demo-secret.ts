import { basePath } from './base-path.ts';

// The address that `npm start` prints ends in `#demo=` and a secret, which no browser sends to a server by itself. It is taken out of
// the address, where it would be kept and shown, and stays with the tab, which so can be reloaded.

const storageKey = `tasks-service.demo${basePath}`;

const listeners = new Set<() => void>();

take();
addEventListener('hashchange', () => {
  if (take()) for (const listener of listeners) listener();
});

/** The secret for which the service gives the tokens of the demo, if this tab was opened with it. */
export function demoSecret(): string | null {
  return sessionStorage.getItem(storageKey);
}

/** Calls a function when the tab is given another secret. @returns what ends that. */
export function onDemoSecret(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function take(): boolean {
  const [, secret] = /^#demo=([\w-]+)$/.exec(location.hash) ?? [];
  if (secret === undefined) return false;
  sessionStorage.setItem(storageKey, secret);
  history.replaceState(history.state, '', location.pathname + location.search);
  return true;
}
