import { hasId, parseUuid } from '../db/uuid.ts';

/** The objects of one type that a token is restricted to: all, or those with some ids. */
export type AllowedIds = 'all' | readonly Buffer[];

/**
 * The objects of a type that an allow list allows. Its entries are `type:id`, where either may be `*`; spaces around an entry and
 * the case of its letters do not matter (coderd/rbac/allowlist.go). An entry in any other form allows nothing.
 */
export function allowedIds(allowList: readonly string[], type: string): AllowedIds {
  const ids: Buffer[] = [];
  for (const entry of allowList) {
    const [, ofType, id = ''] = /^([^:]+):(.+)$/.exec(entry.trim().toLowerCase()) ?? [];
    if (ofType !== type && ofType !== '*') continue;
    if (id === '*') return 'all';
    const parsed = parseUuid(id);
    if (parsed !== undefined && !hasId(ids, parsed)) ids.push(parsed);
  }
  return ids;
}
