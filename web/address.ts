/** The view that the page's URL names. */
export type Address =
  | { readonly view: 'list'; readonly query: string; readonly orderBy: string }
  | { readonly view: 'task'; readonly id: string }
  | { readonly view: 'nowhere' };

/** Parses a path and a query string. */
export function parseAddress(path: string, search: string): Address {
  const parameters = new URLSearchParams(search);
  if (path === '/') return { view: 'list', query: parameters.get('q') ?? '', orderBy: parameters.get('order') ?? '' };
  const [, id] = /^\/tasks\/([^/]+)\/?$/.exec(path) ?? [];
  return id === undefined ? { view: 'nowhere' } : { view: 'task', id: decode(id) };
}

/** The path of the list with a query and an order. Empty ones are omitted. */
export function listPath(query: string, orderBy: string): string {
  const parameters = new URLSearchParams();
  if (query !== '') parameters.set('q', query);
  if (orderBy !== '') parameters.set('order', orderBy);
  // These characters of a query need no escaping in a URL, which people read.
  const text = parameters.toString().replaceAll('%3A', ':').replaceAll('%2C', ',').replaceAll('%2F', '/').replaceAll('%22', '"');
  return text === '' ? '/' : `/?${text}`;
}

/** The path of a task's own view. */
export function taskPath(id: string): string {
  return `/tasks/${encodeURIComponent(id)}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
