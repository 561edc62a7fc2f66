import { parseUuid } from '../db/uuid.ts';

/** The objects of one type that a token is good for: all, or those with some ids. */
export type AllowedIds = 'all' | readonly Buffer[];

/**
 * The objects of a type that an allow list gives. Its entries are `type:id`, each of the two may be `*`; blanks around an entry and
 * the case of its letters do not matter (coderd/rbac/allowlist.go). An entry in any other form gives nothing.
 */
export function allowedIds(allowList: readonly string[], type: string): AllowedIds {
  const ids: Buffer[] = [];
  for (const entry of allowList) {
    const [, ofType, id = ''] = /^([^:]+):(.+)$/.exec(entry.trim().toLowerCase()) ?? [];
    if (ofType !== type && ofType !== '*') continue;
    if (id === '*') return 'all';
    const parsed = parseUuid(id);
    if (parsed !== undefined && !has(ids, parsed)) ids.push(parsed);
  }
  return ids;
}

/** The ids that are in both. */
export function inBoth(one: AllowedIds, other: AllowedIds): AllowedIds {
  if (one === 'all') return other;
  return other === 'all' ? one : one.filter((id) => has(other, id));
}

function has(ids: readonly Buffer[], wanted: Buffer): boolean {
  return ids.some((id) => id.equals(wanted));
}
