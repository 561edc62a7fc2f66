import { setTimeout as sleep } from 'node:timers/promises';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { databaseErrorKind } from '../../src/db/database-errors.ts';
import { describeInconsistency, verify } from '../../src/projection/verify.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { outboxLagMs } from '../../src/schema/outbox.ts';
import { makeGrpcClient } from './clients.ts';
import type { Cluster, ClusterNode } from './cluster.ts';
import type { Blow } from './cluster-blows.ts';
import { Probes } from './cluster-probes.ts';
import { NodeService } from './cluster-services.ts';
import { insertOrganization, insertUser } from './people.ts';
import { type RandomWriters, startRandomWriters } from './random-writer.ts';
import { insertRunningTask } from './source-writer.ts';
import { staleFollowers } from './stale-followers.ts';
import { Follower } from './watching.ts';

/** How a run goes. */
export interface RoundsOptions {
  readonly blows: readonly Blow[];
  /** How many writers write to all nodes, and how long each rests between two transactions, in milliseconds. */
  readonly writers: number;
  readonly pauseMs: number;
  /** How long nothing is done between two blows, in milliseconds. */
  readonly restMs: number;
  readonly log?: (line: string) => void;
}

/** What came of one blow; times are in milliseconds from it. */
export interface BlowResult {
  readonly name: string;
  /** Until the other nodes knew that they are two. */
  readonly noticedMs: number | undefined;
  /** Until a write on one of them was committed. */
  readonly writtenMs: number | undefined;
  /** Until what was written then showed at the services of both. */
  readonly shownMs: number | undefined;
  /** Until all clients that watch had it, wherever they watched before. */
  readonly followedMs: number | undefined;
  /** Until the service beside a node that had left said so by its readiness. */
  readonly unreadyMs: number | undefined;
  /** From the repair until its service showed what was written after it. */
  readonly backMs: number | undefined;
  /** How often another process became the one that projects. */
  readonly takeovers: number;
}

/** What came of a run. */
export interface RoundsReport {
  readonly seconds: number;
  readonly writes: RandomWriters['done'];
  /** What transactions failed with, and how often. */
  readonly refusals: Readonly<Record<string, number>>;
  readonly blows: readonly BlowResult[];
  readonly takeovers: number;
  readonly events: number;
  readonly tasks: number;
  /** How long changes took from COMMIT to a watcher, outside of what the blows caused, in milliseconds. */
  readonly lag: { readonly probes: number; readonly p50: number; readonly p99: number; readonly most: number };
  /** What went wrong that must not; empty when all is well. */
  readonly faults: readonly string[];
}

/** A node with its service and a pool for writers. */
interface Place {
  readonly node: ClusterNode;
  readonly service: NodeService;
  readonly database: Database;
}

const everything = 'owner:*';
const queries = ['owner:* status:running', 'owner:* state:idle', ''];

/** How long anything may take that has to come, in milliseconds. */
const patienceMs = 60_000;

/** How long the epoch of the projection is watched when nothing is broken, in milliseconds. */
const quietMs = 5000;

const databaseName = 'tasks';

/**
 * Lets writers write to all nodes of a cluster at random, with a service on each and clients that watch, and does the blows to it,
 * one after another. Reports how long things took, and whatever is wrong in the end: a change that is lost, a watcher that is not
 * told, a read model or a feed that does not agree with its sources, projectors that take over without a cause.
 */
export async function runRounds(cluster: Cluster, options: RoundsOptions): Promise<RoundsReport> {
  const run = new Rounds(cluster, options);
  try {
    await run.begin();
    for (const blow of options.blows) await run.strike(blow);
    await run.end();
    return run.report();
  } finally {
    await run.close();
  }
}

class Rounds {
  readonly #options: RoundsOptions;
  readonly #places: readonly Place[];
  readonly #began = performance.now();
  readonly #refusals: Record<string, number> = {};
  readonly #results: BlowResult[] = [];
  readonly #faults: string[] = [];
  readonly #followers: Follower[] = [];
  /** Those of them that have the probes. */
  readonly #roaming: Follower[] = [];
  readonly #people: { readonly name: string; readonly id: Buffer; readonly token: string }[] = [];
  #writers: RandomWriters | undefined;
  #probes: Probes | undefined;
  #probe: Buffer = Buffer.alloc(16);
  #takeovers = 0;
  #watching: Promise<void> | undefined;
  #isOver = false;
  /** The node that is away, or shows old data. */
  #broken: ClusterNode | undefined;
  #counts = { events: 0, tasks: 0, seconds: 0 };

  constructor({ nodes }: Cluster, options: RoundsOptions) {
    this.#options = options;
    this.#places = nodes.map((node) => ({
      node,
      service: new NodeService(node, databaseName),
      // Longer than a cluster takes to notice that a node is gone.
      database: openDatabase(
        { ...node.address, database: databaseName },
        { size: 4, statementTimeoutMs: 10_000, acquireTimeoutMs: 2000 },
      ),
    }));
  }

  async begin(): Promise<void> {
    const [first] = this.#places as [Place];
    const { database } = first;
    await first.node.run(`create database ${databaseName} character set utf8mb4 collate utf8mb4_bin`);
    await migrateUp(database, { triggers: true });
    const organization = await insertOrganization(database, 'home');
    const keys = createApiKeyRepository(database);
    for (const [name, roles] of [
      ['admin', ['owner']],
      ['one', []],
    ] as const) {
      const id = await insertUser(database, { username: name, roles, memberships: [[organization]] });
      this.#people.push({ name, id, token: (await keys.create(name, { lifetimeSeconds: 86_400, name: 'test' })) ?? '' });
    }
    const [admin] = this.#people;
    if (admin === undefined) throw new Error('nobody is there');
    const ids = await insertRunningTask(database, { name: 'probe-0', owner_id: admin.id, organization_id: organization });
    this.#probe = ids.workspace;
    for (const { node } of this.#places) await node.untilMember();
    await Promise.all(this.#places.map(({ service }) => service.start()));
    for (const [index, { name, token }] of this.#people.entries()) {
      for (const query of queries) this.#followers.push(new Follower({ who: name, query, token }, () => this.#addresses(index)));
    }
    // One that begins at each node, and goes on at the next when it has to.
    for (const from of this.#places.keys()) {
      const follower = new Follower({ who: 'admin', query: everything, token: admin.token }, () => this.#addresses(from));
      this.#followers.push(follower);
      this.#roaming.push(follower);
    }
    this.#probes = new Probes(this.#probe, this.#places, admin.token);
    this.#writers = startRandomWriters(
      this.#places.map((place) => place.database),
      {
        writers: this.#options.writers,
        seed: 20_261_130,
        pauseMs: this.#options.pauseMs,
        owners: this.#people.map(({ id }) => id),
        organizations: [organization],
        tolerates: (error) => this.#tolerates(error),
      },
    );
    await this.#untilAll('what is written is projected', async () => (this.#probes?.last ?? 0) > 10 && (await this.#active()));
    this.#watching = this.#watchLease();
    await sleep(this.#options.restMs);
  }

  async strike(blow: Blow): Promise<void> {
    const probes = this.#theProbes();
    const active = (await this.#active()) ?? this.#places[0];
    const victim = blow.meets === 'active' ? active : this.#places.find((place) => place !== active);
    if (victim === undefined) throw new Error('no victim');
    const others = this.#places.filter((place) => place !== victim);
    const [witness] = others as [Place];
    const takeovers = this.#takeovers;
    await this.#readMetrics(victim);
    this.#say(`${blow.name}: ${victim.node.name}`);

    const began = performance.now();
    const since = (time: number | undefined): number | undefined => (time === undefined ? undefined : time - began);
    probes.breakNow();
    if (blow.takesNode) {
      probes.leaveOut(victim);
      this.#broken = victim.node;
    }
    const struck = blow.strike(victim);
    for (const other of others) probes.mendNow(other);
    await struck;
    const noticed = blow.takesNode
      ? await this.#until(async () => (await witness.node.viewSize()) === 2, `two nodes after "${blow.name}"`)
      : undefined;
    const writtenMs = await probes.untilWritten(began, patienceMs);
    const shown = await Promise.all(others.map((other) => probes.untilShown(other, patienceMs)));
    if (shown.includes(undefined)) this.#faults.push(`after "${blow.name}" nothing new shows for ${patienceMs / 1000} s`);
    const shownAt = performance.now();
    const followed = await this.#until(
      () => this.#roaming.every((follower) => probes.hasSince(follower, began)),
      `watchers that go on elsewhere after "${blow.name}"`,
    );
    const unready = blow.leavesOldData
      ? await this.#until(async () => (await victim.service.readiness()) !== 200, `readiness that fails after "${blow.name}"`)
      : undefined;
    if (blow.leavesOldData && (await victim.service.isActive())) this.#faults.push('a node that left has the projector');
    this.#say(`  shows again after ${(shownAt - began).toFixed(0)} ms`);

    const repaired = performance.now();
    await blow.repair(victim);
    this.#broken = undefined;
    probes.comeBack(victim);
    probes.mendNow(victim);
    const back = await probes.untilShown(victim, patienceMs);
    if (back === undefined) this.#faults.push(`after the repair of "${blow.name}" its service shows nothing new`);
    await sleep(this.#options.restMs);
    const taken = this.#takeovers - takeovers;
    if (taken > 1) this.#faults.push(`"${blow.name}" made ${taken} takeovers`);
    const shownMs = shown.reduce<number | undefined>(
      (a, b) => (a === undefined || b === undefined ? undefined : Math.max(a, b)),
      0,
    );
    this.#results.push({
      name: blow.name,
      noticedMs: since(noticed),
      writtenMs,
      shownMs,
      followedMs: since(followed),
      unreadyMs: since(unready),
      backMs: back === undefined ? undefined : began + back - repaired,
      takeovers: taken,
    });
  }

  async end(): Promise<void> {
    const probes = this.#theProbes();
    await probes.stop();
    await this.#writers?.stop();
    this.#counts.seconds = (performance.now() - this.#began) / 1000;
    for (const { node } of this.#places) await node.untilMember();
    const [first] = this.#places as [Place];
    const { database } = first;
    await this.#untilAll('the outbox is empty', async () => (await outboxLagMs(database)) === undefined);
    const epoch = await this.#epoch(first);
    await sleep(quietMs);
    if ((await this.#epoch(first)) !== epoch) this.#faults.push('projectors take over from each other while nothing is broken');
    const active = await Promise.all(this.#places.map(({ service }) => service.isActive()));
    if (active.filter(Boolean).length !== 1) this.#faults.push(`${active.filter(Boolean).length} processes project`);
    for (const place of this.#places) await this.#look(place);
    await this.#lookAtFollowers();
  }

  report(): RoundsReport {
    const lags = this.#theProbes().lags();
    const at = (share: number): number => lags[Math.min(lags.length - 1, Math.floor(share * lags.length))] ?? Number.NaN;
    const { seconds, events, tasks } = this.#counts;
    return {
      seconds,
      writes: this.#writers?.done ?? { committed: 0, rolledBack: 0, refused: 0 },
      refusals: this.#refusals,
      blows: this.#results,
      takeovers: this.#takeovers,
      events,
      tasks,
      lag: { probes: lags.length, p50: at(0.5), p99: at(0.99), most: at(1) },
      faults: this.#faults,
    };
  }

  async close(): Promise<void> {
    this.#isOver = true;
    await this.#watching;
    await this.#writers?.stop().catch(() => {});
    await this.#probes?.stop().catch(() => {});
    this.#probes?.close();
    for (const follower of this.#followers) follower.stop();
    await Promise.all(this.#places.map(({ service }) => service.kill()));
    await Promise.all(this.#places.map(({ database }) => closeDatabase(database, 1000)));
  }

  /** What is in the database of a node, after all writing has ended. */
  async #look({ node, database, service }: Place): Promise<void> {
    const wrong: string[] = [];
    await verify(database, (difference) => wrong.push(describeInconsistency(difference)));
    const [[state]] = (await database.raw(
      'select `p`.`seq` - `p`.`floor_seq` as `kept`, (select count(*) from `task_events`) as `events`, ' +
        '(select count(*) from `workspace_tasks`) as `tasks`, (select count(*) from `workspace_changes_failed`) as `dead`, ' +
        '(select `w`.`name` from `workspaces` as `w` where `w`.`id` = ?) as `name` from `projector_state` as `p`',
      [this.#probe],
    )) as [[Record<'kept' | 'events' | 'tasks' | 'dead' | 'name', string | number>]];
    this.#counts = { ...this.#counts, events: Number(state.events), tasks: Number(state.tasks) };
    const lost = Number(String(state.name).replace('probe-', '')) < this.#theProbes().last;
    if (lost) wrong.push(`the last name that was committed is lost: probe-${this.#theProbes().last}, there is ${state.name}`);
    if (Number(state.events) !== Number(state.kept)) wrong.push(`the feed has ${state.events} events of ${state.kept}`);
    if (Number(state.dead) > 0) wrong.push(`${state.dead} dead letters`);
    this.#faults.push(...wrong.map((what) => `on ${node.name}: ${what}`));
    await this.#readMetrics({ node, service });
    if ((await service.readiness()) !== 200) this.#faults.push(`the service of ${node.name} is not ready in the end`);
    this.#faults.push(...service.errors().map((line) => `${node.name} logged ${line.slice(0, 300)}`));
  }

  /** The sweep repairs what was lost, so it must have had nothing to do. */
  async #readMetrics({ node, service }: Pick<Place, 'node' | 'service'>): Promise<void> {
    const repairs = (await service.metric('tasks_projector_repairs_total')) ?? 0;
    if (repairs > 0) this.#faults.push(`the sweep of ${node.name} repaired ${repairs} tasks`);
  }

  /** What clients have that watch must be what each service lists. */
  async #lookAtFollowers(): Promise<void> {
    for (const { node, service } of this.#places) {
      const client = makeGrpcClient(service.grpc);
      let wrong: string[] = [];
      try {
        for (const deadline = performance.now() + patienceMs / 2; ; await sleep(200)) {
          wrong = await staleFollowers(client, this.#followers);
          if (wrong.length === 0 || performance.now() > deadline) break;
        }
      } finally {
        client.close();
      }
      this.#faults.push(...wrong.map((what) => `compared with ${node.name}, a watcher is stale: ${what}`));
    }
  }

  #tolerates(error: unknown): boolean {
    // knex says so of a transaction whose connection was lost while it rested.
    const isLost = error instanceof Error && error.message.startsWith('Transaction query already complete');
    if (databaseErrorKind(error) === undefined && !isLost) return false;
    const { errno, code, name } = Object(error) as { errno?: unknown; code?: unknown; name?: unknown };
    const numbered = typeof errno === 'number' && errno > 0 ? `${String(code)} (${errno})` : String(code ?? name);
    const what = isLost ? 'connection lost in a transaction' : numbered;
    this.#refusals[what] = (this.#refusals[what] ?? 0) + 1;
    return true;
  }

  #addresses(from: number): string[] {
    const all = this.#places.map(({ service }) => service.grpc);
    return [...all.slice(from), ...all.slice(0, from)];
  }

  async #active(): Promise<Place | undefined> {
    for (const place of this.#places) if (await place.service.isActive()) return place;
    return undefined;
  }

  /** Counts how often another process becomes the one that projects. */
  async #watchLease(): Promise<void> {
    let last: string | undefined;
    while (!this.#isOver) {
      // Not on one after another, of which one may be behind.
      const place = this.#places.find(({ node }) => node !== this.#broken);
      const rows = ((await place
        ?.database('leases')
        .where('name', 'project')
        .select('holder')
        .catch(() => [])) ?? []) as { holder: string | null }[];
      const holder = rows[0]?.holder ?? last;
      if (last !== undefined && holder !== last) this.#takeovers += 1;
      last = holder;
      await sleep(200);
    }
  }

  async #epoch({ database }: Place): Promise<number> {
    const [row] = (await database('projector_state').select('epoch')) as [{ epoch: number | string }];
    return Number(row.epoch);
  }

  /** The time when something held; a fault when it does not hold in time. */
  async #until(holds: () => boolean | Promise<boolean>, what: string): Promise<number | undefined> {
    for (const deadline = performance.now() + patienceMs; ; await sleep(20)) {
      if (await holds()) return performance.now();
      if (performance.now() > deadline) break;
    }
    this.#faults.push(`in ${patienceMs / 1000} s there are no ${what}`);
    return undefined;
  }

  async #untilAll(what: string, holds: () => Promise<unknown>): Promise<void> {
    for (const deadline = performance.now() + patienceMs; !(await holds()); await sleep(50)) {
      if (performance.now() > deadline) throw new Error(`not in ${patienceMs / 1000} s: ${what}`);
    }
  }

  #theProbes(): Probes {
    if (this.#probes === undefined) throw new Error('the run has not begun');
    return this.#probes;
  }

  #say(line: string): void {
    this.#options.log?.(line);
  }
}
