import type { Knex } from 'knex';
import type { Database } from '../../db/connection.ts';
import { type AgentStatus, agentStatusSql } from './agent-status.ts';
import { canWait, type TaskRow } from './tables.ts';

/**
 * What changes for many tasks at once is joined by primary key for the rows of the page. LEFT, because a task whose template or
 * owner is gone is still a task, and because it keeps the page's own order and limit in front.
 */
export function joinNames(query: Knex.QueryBuilder): Knex.QueryBuilder {
  return query
    .leftJoin({ u: 'users' }, 'u.id', 't.owner_id')
    .leftJoin({ o: 'organizations' }, 'o.id', 't.organization_id')
    .leftJoin({ m: 'templates' }, 'm.id', 't.template_id')
    .leftJoin({ w: 'workspaces' }, 'w.id', 't.workspace_id')
    .leftJoin({ a: 'workspace_agents' }, 'a.id', 't.agent_id');
}

/**
 * Texts of a task that are longer together are read for the tasks of the page alone: a page may have room for three of a hundred
 * prompts of 1 MiB. Few tasks have such texts.
 */
export const longTextBytes = 32 * 1024;

/** The columns of a row, in the order of `TaskCells`; without long texts these are empty. */
export function taskRowColumns(
  database: Database,
  agentInactiveSeconds: number,
  { sortKey, longTexts = true }: { readonly sortKey?: string | undefined; readonly longTexts?: boolean } = {},
): (string | Knex.Raw)[] {
  // The driver puts a time together from its parts, which takes longer than all else of the row; a text it takes as it is.
  const time = (column: string) => database.raw('cast(?? as char) as ??', [column, column.slice(2)]);
  const text = (column: string) =>
    longTexts ? column : database.raw('if(?? > ?, null, ??) as ??', ['t.texts_bytes', longTextBytes, column, column.slice(2)]);
  return [
    't.id',
    't.owner_id',
    't.organization_id',
    't.template_id',
    't.template_version_id',
    't.build_number',
    't.agent_id',
    't.agent_lifecycle',
    't.app_id',
    't.name',
    't.display_name',
    text('t.prompt'),
    't.status',
    't.phase',
    't.state',
    time('t.state_at'),
    text('t.state_message'),
    text('t.state_uri'),
    't.texts_bytes',
    't.favorite',
    time('t.dormant_at'),
    time('t.created_at'),
    time('t.updated_at'),
    'u.username as owner_name',
    'u.avatar_url as owner_avatar_url',
    'o.name as organization_name',
    'm.name as template_name',
    'm.display_name as template_display_name',
    'm.icon as template_icon',
    time('w.last_used_at'),
    database.raw('? as agent_status', [agentStatusSql(database, agentInactiveSeconds)]),
    sortKey === undefined ? database.raw('null as sort_key') : `${sortKey} as sort_key`,
    't.workspace_id',
    'w.name as workspace_name',
  ];
}

/** A row as the driver gives it: the values of a `TaskRow` in the order of the columns. */
export type TaskCells = readonly [
  id: Buffer,
  owner_id: Buffer,
  organization_id: Buffer,
  template_id: Buffer,
  template_version_id: Buffer,
  build_number: number,
  agent_id: Buffer | null,
  agent_lifecycle: number,
  app_id: Buffer | null,
  name: string,
  display_name: string,
  prompt: string | null,
  status: number,
  phase: number,
  state: number,
  state_at: string | null,
  state_message: string | null,
  state_uri: string | null,
  texts_bytes: number,
  favorite: 0 | 1,
  dormant_at: string | null,
  created_at: string,
  updated_at: string,
  owner_name: string | null,
  owner_avatar_url: string | null,
  organization_name: string | null,
  template_name: string | null,
  template_display_name: string | null,
  template_icon: string | null,
  last_used_at: string | null,
  agent_status: AgentStatus | null,
  sort_key: Buffer | null,
  workspace_id: Buffer | null,
  workspace_name: string | null,
];

/**
 * Gives the values of a row their names. An object with all of its properties in one literal is read and made several times
 * faster than what a driver puts together name by name.
 */
export function taskRow(cells: TaskCells): TaskRow {
  return {
    id: cells[0],
    owner_id: cells[1],
    organization_id: cells[2],
    template_id: cells[3],
    template_version_id: cells[4],
    build_number: cells[5],
    agent_id: cells[6],
    agent_lifecycle: cells[7],
    app_id: cells[8],
    name: cells[9],
    display_name: cells[10],
    prompt: cells[11] ?? '',
    status: cells[12],
    phase: cells[13],
    state: cells[14],
    state_at: cells[15],
    state_message: cells[16] ?? '',
    state_uri: cells[17] ?? '',
    texts_bytes: cells[18],
    favorite: cells[19],
    dormant_at: cells[20],
    created_at: cells[21],
    updated_at: cells[22],
    owner_name: cells[23],
    owner_avatar_url: cells[24],
    organization_name: cells[25],
    template_name: cells[26],
    template_display_name: cells[27],
    template_icon: cells[28],
    last_used_at: cells[29],
    agent_status: cells[30],
    sort_key: cells[31],
    workspace_id: cells[32],
    workspace_name: cells[33],
  };
}

/**
 * Whether a task waits for input: its phase is active (3), its state idle (2), and its status starting or running, as `list_status`
 * and `waiting:` have it.
 */
export function isWaiting({ phase, state, status }: Pick<TaskRow, 'phase' | 'state' | 'status'>): boolean {
  return phase === 3 && state === 2 && canWait.has(status);
}
