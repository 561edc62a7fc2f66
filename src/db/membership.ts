import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../platform/log.ts';
import { type ClusterKind, clusterKind } from './cluster.ts';
import type { Database } from './connection.ts';
import { errnoOf } from './database-errors.ts';

/** Thrown when a server is no sound member of its cluster. */
export class NotMemberError extends Error {
  override readonly name = 'NotMemberError';
}

/** How often a member of a cluster is asked, and how often any other server whether it has become one, in milliseconds. */
const askEveryMs = { member: 1000, other: 60_000 };

/** MySQL's error numbers for a missing right on a table or on all of a database. */
const noRights: ReadonlySet<unknown> = new Set([1142, 1044]);

/**
 * Whether a server is a sound member of its cluster. One that has left it answers as before, from what it had then. A server that
 * is in no cluster is sound, and is asked once a minute.
 */
export class Membership {
  #kind: ClusterKind | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #why: string | undefined;
  readonly #log: Pick<Logger, 'warn'>;
  #hasWarned = false;

  constructor(log: Pick<Logger, 'warn'>) {
    this.#log = log;
  }

  /** Asks the server, if that is due, and returns why it is not to be served from; undefined when it is. */
  async look(database: Database): Promise<string | undefined> {
    const everyMs = this.#kind === undefined ? askEveryMs.other : askEveryMs.member;
    if (performance.now() - this.#askedAt < everyMs) return this.#why;
    this.#kind ??= await clusterKind(database);
    this.#why = await this.#ask(database);
    this.#askedAt = performance.now();
    return this.#why;
  }

  /**
   * Asks the server, if that is due.
   *
   * @throws {NotMemberError} when it is not sound.
   */
  async require(database: Database): Promise<void> {
    const why = await this.look(database);
    if (why !== undefined) throw new NotMemberError(why);
  }

  async #ask(database: Database): Promise<string | undefined> {
    if (this.#kind === 'galera') return whyNotInGalera(await galeraStatus(database));
    if (this.#kind !== 'group-replication') return undefined;
    try {
      return whyNotInGroup(await groupStatus(database));
    } catch (error) {
      if (!noRights.has(errnoOf(error))) throw error;
      this.#kind = undefined; // asked again in a minute
      if (!this.#hasWarned)
        this.#log.warn('the account may not read performance_schema.replication_group_members: see migrate grants');
      this.#hasWarned = true;
      return undefined;
    }
  }
}

/**
 * Asks again and again until the signal is given, and hands each answer of {@link Membership.look} over. While the server cannot be
 * asked, what was known last remains.
 */
export async function keepLooking(
  membership: Membership,
  database: Database,
  signal: AbortSignal,
  onAnswer: (whyNot: string | undefined) => void,
): Promise<void> {
  while (!signal.aborted) {
    await membership.look(database).then(onAnswer, () => {});
    await sleep(askEveryMs.member, undefined, { signal, ref: false }).catch(() => {});
  }
}

/** What a node of Galera says of itself. */
export interface GaleraStatus {
  readonly wsrep_ready?: string | undefined;
  readonly wsrep_cluster_status?: string | undefined;
  readonly wsrep_local_state_comment?: string | undefined;
}

/**
 *   show global status where variable_name in ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state_comment')
 */
async function galeraStatus(database: Database): Promise<GaleraStatus> {
  const [rows] = (await database.raw(
    "show global status where variable_name in ('wsrep_ready', 'wsrep_cluster_status', 'wsrep_local_state_comment')",
  )) as [{ Variable_name: string; Value: string }[]];
  return Object.fromEntries(rows.map(({ Variable_name: name, Value: value }) => [name.toLowerCase(), value]));
}

/** Why a node of Galera is not to be served from. A donor lags without a limit while it sends its data. */
export function whyNotInGalera(status: GaleraStatus): string | undefined {
  const { wsrep_ready: ready, wsrep_cluster_status: cluster, wsrep_local_state_comment: state } = status;
  if (ready === 'ON' && cluster === 'Primary' && state === 'Synced') return undefined;
  return `the server is no sound node of its cluster: wsrep_ready is ${ready}, wsrep_cluster_status ${cluster}, wsrep_local_state_comment ${state}`;
}

/** What a member of Group Replication sees of its group. */
export interface GroupStatus {
  /** Its own state; NULL when it is not in the list of members, as after a start without the group. */
  readonly state: string | null;
  readonly members: number | string;
  readonly unreachable: number | string;
}

/**
 *   select max(case when m.member_id = @@global.server_uuid then m.member_state end) as state, count(*) as members,
 *     coalesce(sum(m.member_state = 'UNREACHABLE'), 0) as unreachable from performance_schema.replication_group_members as m
 */
async function groupStatus(database: Database): Promise<GroupStatus> {
  const [[status]] = (await database.raw(
    'select max(case when `m`.`member_id` = @@global.server_uuid then `m`.`member_state` end) as `state`, count(*) as `members`, ' +
      "coalesce(sum(`m`.`member_state` = 'UNREACHABLE'), 0) as `unreachable` from `performance_schema`.`replication_group_members` as `m`",
  )) as [[GroupStatus]];
  return status;
}

/** Why a member of Group Replication is not to be served from. One that sees no majority keeps its state, and shows old rows. */
export function whyNotInGroup({ state, members, unreachable }: GroupStatus): string | undefined {
  if (state !== 'ONLINE') return `the server is no sound member of its group: it is ${state ?? 'OFFLINE'}`;
  if (2 * Number(unreachable) < Number(members)) return undefined;
  return `the server has lost the majority of its group: ${unreachable} of ${members} members cannot be reached`;
}
