/** What the address of the page says to show. */
export type Address =
  | { readonly view: 'list'; readonly query: string; readonly orderBy: string }
  | { readonly view: 'task'; readonly id: string }
  | { readonly view: 'nowhere' };

/** Reads an address from a path and what follows its `?`. */
export function parseAddress(path: string, search: string): Address {
  const parameters = new URLSearchParams(search);
  if (path === '/') return { view: 'list', query: parameters.get('q') ?? '', orderBy: parameters.get('order') ?? '' };
  const [, id] = /^\/tasks\/([^/]+)\/?$/.exec(path) ?? [];
  return id === undefined ? { view: 'nowhere' } : { view: 'task', id: decode(id) };
}

/** The path of the list that a query and an order ask for. Both are left out where they are empty. */
export function listPath(query: string, orderBy: string): string {
  const parameters = new URLSearchParams();
  if (query !== '') parameters.set('q', query);
  if (orderBy !== '') parameters.set('order', orderBy);
  // What a query is made of may stand in an address as it is, where people read it.
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
