import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { isOfSomeTasks, type Scope } from '../scope.ts';
import { type Branch, type Branches, branchesOf } from './branches.ts';
import type { ListQueries } from './list-query.ts';
import type { Bindings, Slot } from './statement-template.ts';

/** A key of a query whose values are listed. */
export type ValueKey = 'owner' | 'template';

/** Which values are listed, without their prefix. */
export interface ValuesStructure extends Branches {
  readonly key: ValueKey;
  /** What `like` takes. */
  readonly pattern: Slot;
  /** Whether the token reads some tasks alone, which are named one by one. */
  readonly restricted: boolean;
}

/** A row of {@link valuesQuery}. */
export type ValueCells = readonly [value: string, displayName: string, icon: string];

/** Most values in an answer. */
export const maxValues = 100;

/** Of tasks that are one's own, and of those that are shared with somebody, as many of the newest are looked at. */
const newest = 1000;

/** How the values of each key are called, and which indexes say whether there is a task with one. */
const keys = {
  owner: {
    table: 'users',
    folded: 'username_lower',
    columns: ['username', 'name', 'avatar_url'],
    nameIndex: 'users_username_lower',
    taskColumn: 'owner_id',
    allIndex: 'own_ct',
    organizationIndex: 'org_own',
  },
  template: {
    table: 'templates',
    folded: 'name_lower',
    columns: ['name', 'display_name', 'icon'],
    nameIndex: 'templates_name_lower_organization_id',
    taskColumn: 'template_id',
    allIndex: 'tpl_ct',
    organizationIndex: 'tpl_ct',
  },
} as const;

/** The ways to the values that a scope reads, and what they begin with. Undefined means that nothing can be read. */
export function valuesStructureOf(
  bindings: Bindings,
  key: ValueKey,
  scope: Scope,
  foldedPrefix: string,
): ValuesStructure | undefined {
  const branches = branchesOf(bindings, { scope, filter: {}, order: 'created_at' });
  const pattern = bindings.bind(`${foldedPrefix.replaceAll(/[|%_]/g, '|$&')}%`);
  return branches && { ...branches, key, pattern, restricted: isOfSomeTasks(scope) };
}

/**
 * Writes the statement that lists values in their order. What is read as a whole is found by name: each user, or template, is asked
 * whether there is a task, until there are enough of them. What is one's own, or shared, is the newest of it.
 *
 *     select n.username, n.name, n.avatar_url from (<ids of a way> union <ids of a way> …) as v
 *     straight_join users as n force index (primary) on n.id = v.id where n.username_lower like ? escape '|'
 *     order by n.username_lower, n.id limit 101
 */
export function valuesQuery(
  database: Database,
  queries: ListQueries,
  { key, pattern, restricted, ...all }: ValuesStructure,
): Knex.QueryBuilder {
  const { table, folded, columns, nameIndex, taskColumn, allIndex, organizationIndex } = keys[key];
  const limit = maxValues + 1;
  const ids = restricted
    ? queries.all(all).select(`t.${taskColumn} as id`)
    : database.union(
        all.branches.map((branch) => idsOf(branch)),
        true,
      );
  return database
    .from(ids.as('v'))
    .joinRaw('straight_join ?? as ?? force index (primary) on ?? = ??', [table, 'n', 'n.id', 'v.id'])
    .whereRaw("?? like ? escape '|'", [`n.${folded}`, pattern])
    .orderBy([`n.${folded}`, 'n.id'])
    .limit(limit)
    .select(columns.map((column) => `n.${column}`));

  function idsOf({ subject, ownerId, organizationId, readable }: Branch): Knex.QueryBuilder {
    if (subject !== undefined) return idsOfShared(subject, readable?.organizations);
    if (ownerId !== undefined) return idsOfOwn(ownerId, readable?.organizations ?? []);
    return idsOfWhole(organizationId);
  }

  /**
   * `select c.id from users as c force index (users_username_lower) where c.username_lower like ? escape '|' and (select 1 from
   * workspace_tasks as t force index (org_own) where t.organization_id = ? and t.live = 1 and t.owner_id = c.id limit 1) = 1
   * order by c.username_lower limit 101`: as an EXISTS, servers would read all tasks first. A template has no tasks elsewhere.
   */
  function idsOfWhole(organizationId: Slot | undefined): Knex.QueryBuilder {
    const index = organizationId === undefined ? allIndex : organizationIndex;
    const some = tasks(index)
      .select(database.raw('1'))
      .whereRaw('?? = ??', [`t.${taskColumn}`, 'c.id'])
      .limit(1);
    const query = database.queryBuilder().fromRaw(database.raw('?? as ?? force index (??)', [table, 'c', nameIndex]));
    if (organizationId !== undefined) {
      some.where('t.organization_id', organizationId);
      if (key === 'template') query.where('c.organization_id', organizationId);
    }
    return query
      .whereRaw("?? like ? escape '|'", [`c.${folded}`, pattern])
      .whereRaw('? = 1', [some])
      .orderBy(`c.${folded}`)
      .limit(limit)
      .select('c.id');
  }

  /** `select t.template_id as id … where t.owner_id = ? and t.live = 1 and t.organization_id in (…) order by t.created_at desc limit 1000` */
  function idsOfOwn(ownerId: Slot, organizations: readonly Slot[]): Knex.QueryBuilder {
    return tasks('own_ct')
      .where('t.owner_id', ownerId)
      .whereIn('t.organization_id', organizations)
      .orderBy('t.created_at', 'desc')
      .limit(key === 'owner' ? 1 : newest)
      .select(`t.${taskColumn} as id`);
  }

  /**
   * `select s.owner_id as id from workspace_task_acl as s where s.kind = ? and s.subject_id = ? and s.organization_id in (…)
   * order by s.created_at desc limit 1000`, whose tasks say the template: rows of the ACL have no task that is deleted.
   */
  function idsOfShared(subject: NonNullable<Branch['subject']>, organizations: readonly Slot[] | undefined): Knex.QueryBuilder {
    const query = database
      .from({ s: 'workspace_task_acl' })
      .where({ 's.kind': subject.kind, 's.subject_id': subject.id })
      .orderBy('s.created_at', 'desc')
      .limit(newest);
    if (organizations !== undefined) query.whereIn('s.organization_id', organizations);
    if (key === 'owner') return query.select('s.owner_id as id');
    return query
      .joinRaw('straight_join ?? as ?? force index (primary) on ?? = ?? and ?? = ??', [
        'workspace_tasks',
        't',
        't.owner_id',
        's.owner_id',
        't.id',
        's.task_id',
      ])
      .select('t.template_id as id');
  }

  function tasks(index: string): Knex.QueryBuilder {
    return database
      .queryBuilder()
      .fromRaw(database.raw('?? as ?? force index (??)', ['workspace_tasks', 't', index]))
      .where('t.live', 1);
  }
}
