import { setTimeout as sleep } from 'node:timers/promises';
import type { Knex } from 'knex';
import type { Database } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { Dice } from './dice.ts';
import { insertSource, now, type SourceValues } from './source-writer.ts';
import { newId } from './tasks.ts';
import { runWriters, type Writers } from './writers.ts';

/**
 * Writers that change the source tables at random, all at the same time, as the platform's programs and worse would. They tell how
 * many operations were committed, and were not: rolled back on purpose, or refused by the server.
 */
export type RandomWriters = Writers<'committed' | 'rolledBack' | 'refused'>;

/** How the writers write. */
export interface WriterOptions {
  /** How many write at once, each on a connection of its own. */
  readonly writers: number;
  /** Makes the choices repeatable; what happens at the same time is not. */
  readonly seed: number;
  /** Milliseconds that a writer rests between two operations. */
  readonly pauseMs?: number;
  /** Who owns the workspaces, and whom they are shared with; somebody unknown if nothing is said. */
  readonly owners?: readonly Buffer[];
  /** Where the workspaces are; nowhere that is known if nothing is said. */
  readonly organizations?: readonly Buffer[];
  /** Whether an error of a transaction is one that the writer goes on after, besides those of {@link allowed}. */
  readonly tolerates?: (error: unknown) => boolean;
}

/** What two writers may do to each other: a duplicate, a lock wait, a deadlock, a row that changed under a snapshot. */
const allowed = new Set<unknown>([1020, 1062, 1205, 1213]);

type Ids = Record<'workspace' | 'build' | 'job' | 'resource' | 'agent' | 'app' | 'status', Buffer[]>;

/**
 * Starts the writers. They begin with an empty database and make their own workspaces, at most some 150 at a time. Of a cluster they
 * write to all nodes that are given, each transaction to one of them.
 */
export function startRandomWriters(to: Database | readonly Database[], options: WriterOptions): RandomWriters {
  const nodes = 'raw' in to ? [to] : to;
  const ids: Ids = { workspace: [], build: [], job: [], resource: [], agent: [], app: [], status: [] };
  const { writers, seed, pauseMs = 0, owners = Array.from({ length: 12 }, newId), tolerates } = options;
  const organizations = options.organizations ?? owners;
  const dice = new Dice(seed);
  const done = { committed: 0, rolledBack: 0, refused: 0 };
  const builds = new Map<string, number>();

  const chance = (share: number) => dice.chance(share);
  const below = (limit: number) => dice.below(limit);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  const some = (kind: keyof Ids): Buffer => (ids[kind].length === 0 ? newId() : pick(ids[kind]));
  const remember = (kind: keyof Ids, id = newId()): Buffer => {
    ids[kind].push(id);
    if (ids[kind].length > 600) ids[kind].shift();
    return id;
  };
  const hot = (): Buffer =>
    chance(0.3) && ids.workspace.length > 0
      ? (ids.workspace[below(Math.min(5, ids.workspace.length))] as Buffer)
      : some('workspace');
  const acl = () =>
    pick(['{}', '[]', '{"x": 1}', JSON.stringify({ [formatUuid(pick(owners))]: { permissions: [pick(['read', 'ssh', '*'])] } })]);
  const word = () => `${pick(['a', 'B', 'é', 'task-', 'x ', '🙂'])}${below(50)}${pick(['', ' ', 'Z'])}`;

  async function newBuild(run: Knex, workspace: Buffer): Promise<void> {
    const key = workspace.toString('hex');
    const number = (builds.get(key) ?? 0) + 1;
    builds.set(key, number);
    const [build, job, app] = [remember('build'), remember('job'), remember('app')];
    const steps: (() => Promise<unknown>)[] = [
      () => insertSource(run, 'provisioner_jobs', { id: job, started_at: chance(0.5) ? now() : null }),
      () =>
        insertSource(run, 'workspace_builds', {
          id: build,
          workspace_id: workspace,
          build_number: number,
          transition: pick(['start', 'start', 'start', 'stop', 'delete']),
          job_id: job,
          has_ai_task: pick([1, 1, null, 0]),
          ai_task_sidebar_app_id: chance(0.5) ? app : null,
        }),
    ];
    if (chance(0.7))
      steps.push(() => insertSource(run, 'workspace_build_parameters', { workspace_build_id: build, value: pick(['', word()]) }));
    if (chance(0.7)) {
      const [resource, agent] = [remember('resource'), remember('agent')];
      steps.push(
        () => insertSource(run, 'workspace_resources', { id: resource, job_id: job }),
        () =>
          insertSource(run, 'workspace_agents', {
            id: agent,
            resource_id: resource,
            lifecycle_state: pick(['created', 'ready']),
          }),
        () => insertSource(run, 'workspace_apps', { id: app, agent_id: agent, health: pick(['healthy', 'initializing']) }),
      );
    }
    // In any order: a parent may come after its child.
    for (const step of chance(0.5) ? steps : steps.toSorted(() => dice.fraction() - 0.5)) await step();
  }

  async function newWorkspace(run: Knex): Promise<void> {
    const workspace = remember('workspace');
    await insertSource(run, 'workspaces', {
      id: workspace,
      owner_id: pick(owners),
      organization_id: pick(organizations),
      name: newId().toString('hex'),
      user_acl: acl(),
    });
    await newBuild(run, workspace);
    if (ids.workspace.length > 150) await removeWorkspace(run, ids.workspace.shift() as Buffer);
  }

  async function removeWorkspace(run: Knex, workspace: Buffer): Promise<void> {
    const own = (await run('workspace_builds').where('workspace_id', workspace).select('id', 'job_id')) as {
      id: Buffer;
      job_id: Buffer;
    }[];
    const jobs = own.map(({ job_id }) => job_id);
    const ofBuild = own.map(({ id }) => id);
    const resources = ((await run('workspace_resources').whereIn('job_id', jobs).select('id')) as { id: Buffer }[]).map(
      ({ id }) => id,
    );
    const agents = ((await run('workspace_agents').whereIn('resource_id', resources).select('id')) as { id: Buffer }[]).map(
      ({ id }) => id,
    );
    const steps = [
      () => run('workspace_app_statuses').where('workspace_id', workspace).delete(),
      () => run('workspace_apps').whereIn('agent_id', agents).delete(),
      () => run('workspace_agents').whereIn('resource_id', resources).delete(),
      () => run('workspace_resources').whereIn('job_id', jobs).delete(),
      () => run('provisioner_jobs').whereIn('id', jobs).delete(),
      () => run('workspace_build_parameters').whereIn('workspace_build_id', ofBuild).delete(),
      () => run('workspace_builds').where('workspace_id', workspace).delete(),
      () => run('workspaces').where('id', workspace).delete(),
    ];
    for (const step of steps.toSorted(() => dice.fraction() - 0.5)) await step();
  }

  const update = (table: string, kind: keyof Ids, values: () => SourceValues) => async (run: Knex) => {
    await run(table)
      .where('id', kind === 'workspace' ? hot() : some(kind))
      .update(values());
  };

  /** What a writer does, with how often. */
  const operations: readonly (readonly [weight: number, operation: (run: Knex) => Promise<unknown>])[] = [
    [6, newWorkspace],
    [8, (run) => newBuild(run, hot())],
    [
      14,
      (run) =>
        insertSource(run, 'workspace_app_statuses', {
          id: remember('status'),
          workspace_id: hot(),
          state: pick(['working', 'idle', 'complete', 'failure', 'odd']),
          message: word(),
          uri: pick([null, 'https://example.com']),
          created_at: pick([now(), '2026-01-01 00:00:00.000000']),
        }),
    ],
    [
      4,
      update('workspace_app_statuses', 'status', () =>
        pick<SourceValues>([{ message: word() }, { state: 'idle' }, { workspace_id: some('workspace') }]),
      ),
    ],
    [2, (run) => run('workspace_app_statuses').where('id', some('status')).delete()],
    [
      14,
      update('provisioner_jobs', 'job', () =>
        pick<SourceValues>([
          { started_at: now() },
          { completed_at: now() },
          { completed_at: now(), error: 'broken' },
          { canceled_at: now() },
          { error: '' },
          { error: null, completed_at: null },
        ]),
      ),
    ],
    [8, update('provisioner_jobs', 'job', () => ({ updated_at: now() }))],
    [
      8,
      update('workspace_agents', 'agent', () =>
        pick<SourceValues>([
          { lifecycle_state: pick(['created', 'starting', 'ready', 'off', 'start_error']) },
          { deleted: below(2) },
          { parent_id: pick([null, newId()]) },
        ]),
      ),
    ],
    [4, update('workspace_agents', 'agent', () => ({ last_connected_at: now() }))],
    [6, update('workspace_apps', 'app', () => ({ health: pick(['healthy', 'unhealthy', 'initializing', 'disabled']) }))],
    [
      10,
      update('workspaces', 'workspace', () =>
        pick<SourceValues>([
          { name: word() },
          { favorite: below(2) },
          { user_acl: acl() },
          { group_acl: acl() },
          { dormant_at: pick([null, now()]) },
          { updated_at: now() },
          { template_id: newId() },
        ]),
      ),
    ],
    [4, update('workspaces', 'workspace', () => ({ owner_id: pick(owners), organization_id: pick(organizations) }))],
    [3, update('workspaces', 'workspace', () => ({ deleted: below(2) }))],
    [4, update('workspaces', 'workspace', () => ({ last_used_at: now() }))],
    [
      3,
      update('workspace_builds', 'build', () =>
        pick<SourceValues>([
          { has_ai_task: pick([0, 1, null]) },
          { ai_task_sidebar_app_id: pick([null, some('app')]) },
          { transition: pick(['start', 'stop']) },
        ]),
      ),
    ],
    [
      2,
      update('workspace_builds', 'build', () =>
        pick<SourceValues>([{ workspace_id: some('workspace') }, { job_id: some('job') }, { build_number: 1 + below(9) }]),
      ),
    ],
    [2, update('workspace_resources', 'resource', () => ({ job_id: some('job') }))],
    [2, update('workspace_agents', 'agent', () => ({ resource_id: some('resource') }))],
    [2, update('workspace_apps', 'app', () => ({ agent_id: some('agent') }))],
    [3, (run) => run('workspace_build_parameters').where('workspace_build_id', some('build')).update({ value: word() })],
    [1, (run) => run('workspace_build_parameters').where('workspace_build_id', some('build')).delete()],
    [1, (run) => removeWorkspace(run, hot())],
    [
      1,
      (run) =>
        run(pick(['workspace_builds', 'provisioner_jobs', 'workspace_agents', 'workspace_resources', 'workspace_apps']))
          .where('id', some(pick(['build', 'job', 'agent', 'resource', 'app'])))
          .delete(),
    ],
  ];
  const total = operations.reduce((sum, [weight]) => sum + weight, 0);
  const choose = () => {
    let at = below(total);
    for (const [weight, operation] of operations) {
      at -= weight;
      if (at < 0) return operation;
    }
    return newWorkspace;
  };

  async function one(): Promise<void> {
    const database = pick(nodes);
    if (chance(0.6)) {
      await choose()(database);
      done.committed += 1;
      return;
    }
    // A transaction of several operations: some hold their locks for a while, some are rolled back, some have an old snapshot.
    const isolationLevel = chance(0.3) ? 'repeatable read' : 'read committed';
    const transaction = await database.transaction(undefined, { isolationLevel });
    try {
      if (chance(0.3)) await transaction('workspaces').select('id').limit(1);
      if (chance(0.15)) await sleep(20 + below(180));
      const operationsInIt = 1 + below(4);
      for (let i = 0; i < operationsInIt; i++) await choose()(transaction);
      if (chance(0.1)) await sleep(20 + below(180));
      if (chance(0.15)) {
        await transaction.rollback();
        done.rolledBack += 1;
      } else {
        await transaction.commit();
        done.committed += 1;
      }
    } catch (error) {
      await transaction.rollback().catch(() => {});
      throw error;
    }
  }

  async function write(isStopped: () => boolean): Promise<void> {
    while (!isStopped()) {
      try {
        await one();
      } catch (error) {
        const { errno } = Object(error) as { errno?: unknown };
        if (tolerates?.(error) !== true && !allowed.has(errno)) throw error;
        done.refused += 1;
      }
      if (pauseMs > 0) await sleep(pauseMs);
    }
  }

  return runWriters(writers, done, write);
}
