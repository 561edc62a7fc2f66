import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { closeDatabase, openDatabase } from '../../src/db/connection.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { describeOnEngines } from '../support/database.ts';
import type { Engine } from '../support/engines.ts';
import { Load } from '../support/load.ts';
import { Network } from '../support/network.ts';
import { type ServedEngine, startServedEngine } from '../support/served-engine.ts';
import { type RunningService, startService } from '../support/service.ts';
import { newId } from '../support/tasks.ts';
import { Follower } from '../support/watching.ts';

/** A service must answer again so soon after what kept it from that has ended, in milliseconds. */
const recoveryMs = 5000;

/** Lets a file say what names mean, in place of the system's resolver. */
const hook = join(import.meta.dirname, '../support/scripts/names-from-file.mjs');

/** Enough to have calls in the middle of everything, and little enough for a machine with much else to do. */
const callsPerSecond = 40;

const twoEngines: readonly Engine[] = ['mariadb', 'mysql'];

describeOnEngines(
  'under load, while the database',
  (engine) => {
    let served: ServedEngine;
    let service: RunningService;
    let client: GrpcClient;
    let load: Load;
    /** Watches through all of it. */
    let follower: Follower;

    beforeAll(async () => {
      served = await startServedEngine(engine, { options: ['--max-connections=40'] });
      service = await startService(served.address, {
        DATABASE_POOL_SIZE: '4',
        STATEMENT_TIMEOUT_MS: '2000',
        AUTH_CACHE_SECONDS: '1',
      });
      client = makeGrpcClient(service.grpc);
      follower = new Follower({ who: 'owner', query: '', token: served.owner.token }, () => [service.grpc]);
    });
    beforeEach(() => {
      load = new Load([client], served.owner);
    });
    afterAll(async () => {
      client.close();
      follower.stop();
      expect(await service.stop()).toBe(0);
      await served.stop();
    });

    /**
     * Has the service answer calls while something happens to the database, and checks what became of them: every answer was right,
     * none took longer than its deadline, errors are those of a database that is away, and after its end all is well again by itself.
     */
    async function under(happens: () => Promise<void>): Promise<void> {
      load.start(callsPerSecond);
      await load.recovered();
      try {
        await happens();
        expect(await load.recovered()).toBeLessThan(recoveryMs);
      } finally {
        await load.stop();
      }
      expect(load.wrong).toEqual([]);
      expect(load.hung()).toEqual([]);
      const { OK: _, ...errors } = load.outcomes();
      expect(
        Object.keys(errors).filter(
          (reason) => !/^(DATABASE_UNAVAILABLE|OVERLOADED|DEADLINE_EXCEEDED|DeadlineExceeded)$/.test(reason),
        ),
      ).toEqual([]);
      expect(service.process.exitCode).toBeNull();
      await projects();
      expect(follower.restarted).toBe(0);
    }

    /** How many calls failed, and whether the projector goes on, which it must show by projecting a change that a watcher is told. */
    async function failures(): Promise<number> {
      await projects();
      const { OK: _, ...errors } = load.outcomes();
      return Object.values(errors).reduce((sum, count) => sum + count, 0);
    }

    async function projects(): Promise<void> {
      const { id = '', name = '' } = served.owner.tasks.at(-1) ?? {};
      const [[{ favorite }]] = (await served.database.raw('select favorite from workspaces where name = ?', [name])) as [
        [{ favorite: 0 | 1 }],
      ];
      await served.database.raw('update workspaces set favorite = ? where name = ?', [1 - favorite, name]);
      const began = performance.now();
      for (;;) {
        const { message } = await client.unary(
          TasksService.method.getTask,
          { identifier: { case: 'id', value: id } },
          { headers: { 'coder-session-token': served.owner.token } },
        );
        const isTold = follower.tasks.get(id)?.favorite === (favorite === 0);
        if (message.task?.favorite === (favorite === 0) && isTold) return;
        if (performance.now() - began > 10_000) throw new Error(`not projected in 10 s:\n${service.output().slice(-2000)}`);
        await sleep(20);
      }
    }

    test('is killed and started again', async () => {
      await under(async () => {
        await served.server.crash();
        await sleep(1000);
        await served.server.restart();
      });
      expect(await failures()).toBeGreaterThan(0);
    });

    test('is stopped for a while', async () => {
      await under(async () => {
        process.kill(served.server.pid, 'SIGSTOP');
        await sleep(5000);
        process.kill(served.server.pid, 'SIGCONT');
      });
      expect(await failures()).toBeGreaterThan(0);
    });

    test('cuts all connections, again and again', async () => {
      await under(async () => {
        for (let round = 0; round < 10; round++) {
          const [all] = (await served.database.raw('show processlist')) as [{ Id: number; User: string }[]];
          for (const { Id } of all.filter(({ User }) => User === 'service')) {
            await served.database.raw(`kill ${Id}`).catch(() => {}); // it may be gone
          }
          await sleep(100);
        }
      });
      await failures();
    });

    test('takes no writes', async () => {
      const { name = '', id = '' } = served.owner.tasks[3] ?? {};
      await under(async () => {
        await served.database.raw('set global read_only = 1');
        await served.database.raw('update workspaces set favorite = 1 where name = ?', [name]);
        await sleep(2500);
        await served.database.raw('set global read_only = 0');
      });
      expect(await failures()).toBe(0);
      const { message } = await client.unary(
        TasksService.method.getTask,
        { identifier: { case: 'id', value: id } },
        { headers: { 'coder-session-token': served.owner.token } },
      );
      expect(message.task?.favorite).toBe(true);
    });

    test('has no connection left', async () => {
      const greedy = openDatabase(served.address, { size: 60, statementTimeoutMs: 30_000 });
      await under(async () => {
        const holding: Promise<unknown>[] = [];
        const until = performance.now() + 2000;
        while (performance.now() < until) {
          const [all] = (await served.database.raw('show processlist')) as [{ Id: number; User: string; Info: string | null }[]];
          for (const { Id } of all.filter(({ User, Info }) => User === 'service' && !(Info ?? '').includes('sleep'))) {
            await served.database.raw(`kill ${Id}`).catch(() => {});
          }
          for (let i = 0; i < 45; i++) holding.push(greedy.raw('select sleep(3)').catch(() => {}));
          await sleep(300);
        }
        await Promise.all(holding);
        await closeDatabase(greedy);
      });
      expect(await failures()).toBeGreaterThan(0);
    });

    test('has a lock that lists wait for', async () => {
      await under(async () => {
        const locking = await served.database.transaction();
        await locking.raw('lock tables workspace_tasks write');
        await sleep(2500);
        await locking.raw('unlock tables');
        await locking.rollback();
      });
      expect(await failures()).toBeGreaterThan(0);
    });

    test('has an administrator who ends statements', async () => {
      await under(async () => {
        const locking = await served.database.transaction();
        await locking.raw('lock tables workspace_tasks write');
        for (let ended = 0; ended < 5; await sleep(20)) {
          const [all] = (await served.database.raw('show processlist')) as [{ Id: number; User: string; State: string | null }[]];
          for (const { Id } of all.filter(({ User, State }) => User === 'service' && /metadata lock/.test(State ?? ''))) {
            await served.database.raw(`kill query ${Id}`);
            ended += 1;
          }
        }
        await locking.raw('unlock tables');
        await locking.rollback();
      });
      expect(await failures()).toBeGreaterThan(0);
      const ended = service
        .output()
        .split('\n')
        .filter((line) => /"msg":"call failed"/.test(line) && line.includes('"errno":1317'));
      expect(ended.length).toBeGreaterThan(0);
      for (const line of ended) expect(JSON.parse(line)).toMatchObject({ level: 'warn', reason: 'DATABASE_UNAVAILABLE' });
    });

    test('has rows that the projector waits for, longer than it waits', async () => {
      await under(async () => {
        const locking = await served.database.transaction();
        await locking.raw('select * from projector_state for update');
        await locking.raw('update workspace_tasks set favorite = favorite');
        await sleep(3500);
        await locking.rollback();
      });
      expect(await failures()).toBe(0);
    });

    test('ends one of two transactions that wait for each other, the projector among them', async () => {
      await under(async () => {
        for (let round = 0; round < 3; round++) {
          const other = await served.database.transaction();
          // It has what the projector wants next, and then wants what the projector has.
          await other.raw('update workspace_tasks set favorite = favorite');
          await served.database.raw('update workspaces set favorite = 1 - favorite');
          await sleep(300);
          await other.raw('select * from projector_state for update').catch((error: { errno?: number }) => {
            expect(error.errno).toBe(1213); // the other one was chosen
          });
          await other.rollback();
          await projects();
        }
        const [[{ deadlocks }]] = (await served.database.raw(
          "select count as deadlocks from information_schema.innodb_metrics where name = 'lock_deadlocks'",
        )) as [[{ deadlocks: number }]];
        expect(deadlocks).toBeGreaterThan(0);
      });
      expect(await failures()).toBe(0);
    });
  },
  twoEngines,
);

describeOnEngines(
  'under load, while the disk of the database',
  (engine) => {
    test('is full', async (context) => {
      const folder = mkdtempSync(join(tmpdir(), 'tasks-disk-'));
      const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=220m', 'tmpfs', folder]);
      if (mount.status !== 0) {
        rmSync(folder, { recursive: true });
        console.log('NOT RUN: a full disk, which needs the right to mount a small one');
        context.skip();
      }
      const served = await startServedEngine(engine, { folder });
      const service = await startService(served.address, { DATABASE_POOL_SIZE: '4' });
      const client = makeGrpcClient(service.grpc);
      const load = new Load([client], served.owner);
      try {
        load.start(callsPerSecond);
        await load.recovered();
        const filler = join(folder, 'filler');
        const filling = spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=1M']);
        expect(filling.stderr.toString()).toContain('No space left');
        // What is written now needs new pages, for which there is no room.
        const write = served.database
          .raw(
            "insert into workspace_build_parameters (workspace_build_id, name, value) values (?, 'large', repeat('x', 12000000))",
            [newId()],
          )
          .then(
            () => 'written',
            () => 'refused',
          );
        await sleep(1500);
        rmSync(filler);
        expect(await load.recovered()).toBeLessThan(recoveryMs);
        await write;
        await served.database.raw('select 1');
        await load.stop();
        expect(load.wrong).toEqual([]);
        expect(load.outcomes()).toEqual({ OK: load.calls.length });
      } finally {
        await load.stop();
        client.close();
        await service.stop();
        await served.stop();
        spawnSync('umount', [folder]);
        rmSync(folder, { recursive: true, force: true });
      }
    });
  },
  ['mariadb'],
);

describeOnEngines(
  'under load, while the name of the database',
  (engine) => {
    // Elsewhere a machine has only one address of its own.
    test.skipIf(process.platform !== 'linux')('comes to mean another host', async () => {
      const served = await startServedEngine(engine);
      const before = new Network(served.address);
      const after = new Network(served.address);
      const names = join(mkdtempSync(join(tmpdir(), 'tasks-names-')), 'names.json');
      const { port } = await before.open('127.0.0.2');
      writeFileSync(names, JSON.stringify({ 'database.test': '127.0.0.2' }));
      const service = await startService(
        { user: 'service', password: 'service', database: 'tasks', host: 'database.test', port: port ?? 0 },
        { DATABASE_POOL_SIZE: '4', NODE_OPTIONS: `--import=${hook}`, NAMES_FILE: names },
      );
      const client = makeGrpcClient(service.grpc);
      const load = new Load([client], served.owner);
      try {
        load.start(callsPerSecond);
        await load.recovered();
        await after.open('127.0.0.3', port);
        writeFileSync(names, JSON.stringify({ 'database.test': '127.0.0.3' }));
        before.close(); // and nobody listens there any more
        expect(await load.recovered()).toBeLessThan(recoveryMs);
        await load.stop();
        expect(load.wrong).toEqual([]);
        expect(load.hung()).toEqual([]);
        expect(after.connections).toBeGreaterThan(0);
      } finally {
        await load.stop();
        client.close();
        await service.stop();
        after.close();
        await served.stop();
        rmSync(dirname(names), { recursive: true });
      }
    });
  },
  ['mariadb'],
);
