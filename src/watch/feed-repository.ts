import type { Database } from '../db/connection.ts';
import { readJsonKeys } from '../db/json-array.ts';
import { anyCaseText, equalsInAnyCase } from '../db/letter-case.ts';
import type { Subject, TaskAccess } from '../tasks/scope.ts';
import { aclKinds, namedOnlyOffset, type WatchedRow } from '../tasks/store/tables.ts';
import { joinNames, longTextBytes, taskRowColumns } from '../tasks/store/task-row.ts';

/** Characters of an ACL that are read, more than the projection takes. */
const maxAclLength = 4 * 1024 * 1024 + 1;

/** The position of the feed of changes. */
export interface FeedState {
  /** A feed of another generation does not continue this one. */
  readonly generation: string;
  /** The newest event. */
  readonly seq: number;
  /** Events up to this one are deleted. */
  readonly floorSeq: number;
}

/** One event of the feed: a task changed. Its present state is in the read model. */
export interface FeedEvent {
  readonly seq: number;
  readonly taskId: Buffer;
  /**
   * Who could read it before the change. Absent when it was new; without `readers` when they did not change. Which workspace it had is
   * not known.
   */
  readonly before: (Pick<TaskAccess, 'ownerId' | 'organizationId'> & Partial<Pick<TaskAccess, 'readers'>>) | undefined;
}

/**
 * Reads the feed of changes and the tasks that changed. Each method is one statement, and one more each for readers, build
 * parameters and long texts.
 */
export interface FeedRepository {
  state(): Promise<FeedState>;
  /** The events after one, in order. */
  events(after: number, limit: number): Promise<FeedEvent[]>;
  /**
   * The present rows of tasks, whoever may read them: the caller must check that for each watcher. It reads tasks, at least one,
   * until their texts exceed `maxBytes`; `covered` is the number of ids that were read, including those without a task.
   *
   * @param options `parameterNames` are the lower-cased names of the parameters that the query of any watcher names.
   */
  tasks(
    ids: readonly Buffer[],
    options: { readonly parameterNames: readonly string[]; readonly maxBytes: number },
  ): Promise<{ readonly rows: readonly WatchedRow[]; readonly covered: number }>;
}

/** Makes a repository over Knex. The database must be the primary: replicas may lag behind the feed. */
export function createFeedRepository(database: Database, agentInactiveSeconds: number): FeedRepository {
  return {
    async state() {
      const [row] = (await database
        .from({ s: 'projector_state' })
        .where('s.id', 1)
        .select('s.generation', 's.seq', 's.floor_seq')) as { generation: string; seq: number; floor_seq: number }[];
      if (row === undefined) throw new Error('projector_state has lost its row: insert one with id 1 and a new generation');
      return { generation: row.generation, seq: row.seq, floorSeq: row.floor_seq };
    },

    async events(after, limit) {
      const rows = (await database
        .from({ e: 'task_events' })
        .where('e.seq', '>', after)
        .orderBy('e.seq')
        .limit(limit)
        .select('e.seq', 'e.task_id', 'e.old_owner_id', 'e.old_organization_id', 'e.old_readers')) as EventRow[];
      return rows.map(({ seq, task_id, old_owner_id: ownerId, old_organization_id: organizationId, old_readers }) => ({
        seq,
        taskId: task_id,
        before:
          ownerId === null || organizationId === null
            ? undefined
            : { ownerId, organizationId, ...(old_readers === null ? {} : { readers: toSubjects(old_readers) }) },
      }));
    },

    async tasks(ids, { parameterNames, maxBytes }) {
      const byId = new Map((await select(ids, false)).map((row) => [row.id.toString('hex'), row]));
      let bytes = 0;
      const end = ids.findIndex((id, index) => {
        bytes += byId.get(id.toString('hex'))?.texts_bytes ?? 0;
        return bytes > maxBytes && index > 0;
      });
      const covered = end === -1 ? ids.length : end;
      const found = ids.slice(0, covered).flatMap((id) => byId.get(id.toString('hex')) ?? []);
      const long = new Set(found.filter(({ texts_bytes }) => texts_bytes > longTextBytes));
      const rows = [
        ...found.filter((row) => !long.has(row)),
        ...(await select(
          Array.from(long, ({ id }) => id),
          true,
        )),
      ];
      const parameters = await parametersOf(rows, parameterNames);
      const readers = await readersOf(rows);
      return {
        covered,
        rows: rows.map(({ user_acl, group_acl, ...row }) => ({
          ...row,
          readers: readers.get(row.id.toString('hex')) ?? [],
          userAclIds: readJsonKeys(user_acl),
          groupAclIds: readJsonKeys(group_acl),
          parameters: parameters.get(row.build_id.toString('hex')) ?? [],
        })),
      };
    },
  };

  /** `select … from workspace_tasks as t left join … where t.id in (…)` */
  async function select(ids: readonly Buffer[], longTexts: boolean): Promise<SelectedRow[]> {
    if (ids.length === 0) return [];
    return (await joinNames(
      database
        .from({ t: 'workspace_tasks' })
        .leftJoin({ b: 'workspace_builds' }, 'b.id', 't.build_id')
        .whereIn('t.id', ids)
        .select(...taskRowColumns(database, agentInactiveSeconds, { longTexts }), ...watchedColumns(database)),
    )) as SelectedRow[];
  }

  /**
   * The subjects with whom the tasks' workspaces are shared. They are rows of their own: of many thousands, a server may cut or
   * refuse one value that holds all.
   */
  async function readersOf(rows: readonly SelectedRow[]): Promise<Map<string, Subject[]>> {
    const found = new Map<string, Subject[]>();
    if (rows.length === 0) return found;
    // select s.task_id, s.kind, s.subject_id from workspace_task_acl as s force index (task)
    // where s.task_id in (…) and s.kind < 10
    const subjects = (await database
      .from(database.raw('?? as ?? force index (??)', ['workspace_task_acl', 's', 'task']))
      .whereIn(
        's.task_id',
        rows.map(({ id }) => id),
      )
      .where('s.kind', '<', namedOnlyOffset)
      .select('s.task_id', 's.kind', 's.subject_id')) as { task_id: Buffer; kind: number; subject_id: Buffer }[];
    for (const { task_id, kind, subject_id: id } of subjects) {
      const key = task_id.toString('hex');
      const readers = found.get(key) ?? [];
      readers.push({ kind: kindOf(kind), id });
      found.set(key, readers);
    }
    return found;
  }

  /** The parameters of these names of the tasks' latest builds, cut to the length of a query. */
  async function parametersOf(rows: readonly SelectedRow[], names: readonly string[]): Promise<Map<string, [string, string][]>> {
    if (names.length === 0 || rows.length === 0) return new Map();
    // select … from workspace_build_parameters as p where p.workspace_build_id in (…) and (<p.name in any case> or …)
    const parameters = (await database
      .from({ p: 'workspace_build_parameters' })
      .whereIn(
        'p.workspace_build_id',
        rows.map(({ build_id }) => build_id),
      )
      .where((any) => {
        for (const name of names) any.orWhere(equalsInAnyCase(database, 'p.name', anyCaseText(name)));
      })
      .select('p.workspace_build_id', 'p.name', database.raw('left(??, 4096) as ??', ['p.value', 'value']))) as {
      workspace_build_id: Buffer;
      name: string;
      value: string;
    }[];
    const found = new Map<string, [string, string][]>();
    for (const { workspace_build_id, name, value } of parameters) {
      const key = workspace_build_id.toString('hex');
      found.set(key, [...(found.get(key) ?? []), [name, value]]);
    }
    return found;
  }
}

/** The columns that a filter needs in memory, beyond those that a list shows. */
function watchedColumns(database: Database): (string | ReturnType<Database['raw']>)[] {
  return [
    't.live',
    't.build_id',
    't.name_fold',
    't.prompt_fold',
    'b.has_external_agent',
    database.raw('(?? <> ??) as ??', ['m.active_version_id', 't.build_template_version_id', 'outdated']),
    // As text, from which the keys are taken here: json_keys of MariaDB takes minutes for 40,000 of them.
    database.raw('left(??, ?) as ??', ['w.user_acl', maxAclLength, 'user_acl']),
    database.raw('left(??, ?) as ??', ['w.group_acl', maxAclLength, 'group_acl']),
  ];
}

interface EventRow {
  readonly seq: number;
  readonly task_id: Buffer;
  readonly old_owner_id: Buffer | null;
  readonly old_organization_id: Buffer | null;
  readonly old_readers: Buffer | null;
}

type SelectedRow = Omit<WatchedRow, 'readers' | 'userAclIds' | 'groupAclIds' | 'parameters'> & {
  readonly user_acl: string | null;
  readonly group_acl: string | null;
};

const kindNames = new Map<number, Subject['kind']>([
  [aclKinds.user, 'user'],
  [aclKinds.group, 'group'],
]);

function kindOf(kind: number | undefined): Subject['kind'] {
  return kindNames.get(kind ?? 0) ?? 'group';
}

/** Parses subjects of 17 bytes each, kind and id. */
function toSubjects(bytes: Buffer): Subject[] {
  return Array.from({ length: bytes.length / 17 }, (_, i) => ({
    kind: kindOf(bytes[17 * i]),
    id: bytes.subarray(17 * i + 1, 17 * i + 17),
  }));
}
