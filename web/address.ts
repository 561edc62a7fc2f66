/** The view that the page's URL names. */
export type Address =
  | { readonly view: 'list'; readonly query: string; readonly orderBy: string }
  | { readonly view: 'task'; readonly id: string }
  | { readonly view: 'task'; readonly owner: string; readonly name: string }
  | { readonly view: 'nowhere' };

const uuid = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** Parses a path and a query string. */
export function parseAddress(path: string, search: string): Address {
  const parameters = new URLSearchParams(search);
  if (path === '/') return { view: 'list', query: parameters.get('q') ?? '', orderBy: parameters.get('order') ?? '' };
  const [, first, second] = /^\/tasks\/([^/]+)(?:\/([^/]+))?\/?$/.exec(path) ?? [];
  if (first === undefined) return { view: 'nowhere' };
  if (second === undefined) return { view: 'task', id: decode(first) };
  // Coder's own links have the owner before either.
  const name = decode(second);
  return uuid.test(name) ? { view: 'task', id: name } : { view: 'task', owner: decode(first), name };
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
