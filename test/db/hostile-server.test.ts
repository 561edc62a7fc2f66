import { spawnSync } from 'node:child_process';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid, parseUuid } from '../../src/db/uuid.ts';
import { type Task, TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import { createProjector } from '../../src/projection/projector.ts';
import { migrateDown, migrateUp, migrationStatus } from '../../src/schema/migrations.ts';
import { type GrpcClient, makeGrpcClient } from '../support/clients.ts';
import { describeOnEngines } from '../support/database.ts';
import { hostileOptions, leastBuffers } from '../support/hostile-settings.ts';
import { insertUser } from '../support/people.ts';
import { type ServedEngine, startServedEngine } from '../support/served-engine.ts';
import { databaseUrl, type RunningService, startService } from '../support/service.ts';
import { insertRunningTask } from '../support/source-writer.ts';
import { Watching, watchOverGrpcJs } from '../support/watching.ts';

/** Letters that every character set of a server has its own bytes for, or none. */
const text = 'Café 🦕 日本語 “quotes” \\ \' "';

describeOnEngines(
  'a server that is set up for other programs',
  (engine) => {
    let served: ServedEngine;
    /** For the program: an account that may do everything in its database, and is no administrator. */
    let address: DatabaseAddress;
    let database: Database;
    let service: RunningService;
    let client: GrpcClient;
    let token: string;
    const kind = engine === 'mysql' ? 'mysql' : 'mariadb';

    beforeAll(async () => {
      served = await startServedEngine(engine, {
        tasks: 8,
        options: [
          ...hostileOptions(kind),
          ...leastBuffers,
          '--log-bin=log',
          '--server-id=1',
          '--log-bin-trust-function-creators=ON',
        ],
      });
      await served.database.raw("create user program@localhost identified by 'secret'");
      await served.database.raw('grant all on tasks.* to program@localhost');
      address = { ...served.address, user: 'program', password: 'secret' };
      database = openDatabase(address, { size: 2, statementTimeoutMs: 30_000, acquireTimeoutMs: 30_000 });
    });
    afterAll(async () => {
      client?.close();
      await service?.stop();
      await closeDatabase(database);
      await served?.stop();
    });

    function command(...args: string[]): { readonly code: number | null; readonly stdout: string; readonly stderr: string } {
      const { status, stdout, stderr } = spawnSync(process.execPath, ['src/main.ts', ...args], {
        env: {
          PATH: process.env['PATH'] ?? '',
          DATABASE_URL: databaseUrl(address),
          GRPC_PORT: '0',
          WEB_PORT: '0',
          OPS_PORT: '0',
        },
        encoding: 'utf8',
        timeout: 30_000, // one that is not refused serves
      });
      return { code: status, stdout, stderr };
    }
    const headers = () => ({ headers: { 'coder-session-token': token } });
    async function taskCalled(name: string): Promise<Task | undefined> {
      const { message } = await client.unary(TasksService.method.listTasks, { query: `owner:someone name:${name}` }, headers());
      return message.tasks[0];
    }
    async function metric(name: string): Promise<number> {
      const metrics = await (await fetch(`http://${service.ops}/metrics`)).text();
      return Number(new RegExp(`^${name} (.*)$`, 'm').exec(metrics)?.[1]);
    }

    test('has its own idea of a session, and this program another', async () => {
      const read = async (from: Database): Promise<Map<string, string>> => {
        const [rows] = (await from.raw('show session variables')) as [{ Variable_name: string; Value: string }[]];
        return new Map(rows.map((row) => [row.Variable_name, row.Value]));
      };
      const [[global]] = (await served.database.raw(
        'select @@global.autocommit as autocommit, @@global.max_join_size as joins, @@global.time_zone as zone',
      )) as [[unknown]];
      expect(global).toEqual({ autocommit: 0, joins: 50, zone: '+05:45' });
      const variables = await read(database);
      const is = (names: Readonly<Record<string, string>>) => {
        expect(Object.fromEntries(Object.keys(names).map((name) => [name, variables.get(name)]))).toEqual(names);
      };
      is({
        character_set_client: 'utf8mb4',
        character_set_connection: 'utf8mb4',
        character_set_results: 'utf8mb4',
        collation_connection: 'utf8mb4_bin',
        autocommit: 'ON',
        completion_type: 'NO_CHAIN',
        time_zone: '+00:00',
        sql_safe_updates: 'OFF',
        sql_select_limit: '18446744073709551615',
        max_join_size: '18446744073709551615',
        sql_big_selects: 'ON',
        group_concat_max_len: '16777216',
        unique_checks: 'ON',
        foreign_key_checks: 'ON',
        sql_auto_is_null: 'OFF',
        max_sort_length: '1024',
        div_precision_increment: '4',
        innodb_lock_wait_timeout: '50',
        lock_wait_timeout: '86400',
        wait_timeout: '28800',
        net_read_timeout: '30',
        net_write_timeout: '60',
        sql_mode:
          'ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
      });
      if (kind === 'mysql') {
        is({ transaction_isolation: 'READ-COMMITTED', transaction_read_only: 'OFF', max_execution_time: '30000' });
      } else {
        is({ tx_isolation: 'READ-COMMITTED', tx_read_only: 'OFF', max_statement_time: '30.000000' });
        is({ default_regex_flags: '', check_constraint_checks: 'ON', old_mode: 'UTF8_IS_UTF8MB3' });
      }
    });

    test('is migrated down and up again', async () => {
      const names = (await migrationStatus(database)).map(({ name }) => name);
      expect(names.length).toBeGreaterThan(3);
      expect(await migrateDown(database)).toEqual(names.slice(-1));
      expect((await migrationStatus(database)).at(-1)?.appliedAt).toBeUndefined();
      expect(await migrateUp(database, { triggers: true })).toEqual(names.slice(-1));
      expect((await migrationStatus(database)).every(({ appliedAt }) => appliedAt !== undefined)).toBe(true);
    });

    test('keeps the token that `keys create` prints', async () => {
      const { code, stdout, stderr } = command('keys', 'create', '--user', 'someone', '--name', text);
      expect(stderr).toBe('');
      expect(code).toBe(0);
      token = stdout.trim();
      service = await startService(address);
      client = makeGrpcClient(service.grpc);
      const { message } = await client.unary(TasksService.method.listTasks, {}, headers());
      expect(message.tasks).toHaveLength(8);
      const [[key]] = (await served.database.raw('select hex(token_name) as name from api_keys where id = ?', [
        token.split('-')[0] ?? '',
      ])) as [[{ name: string }]];
      expect(Buffer.from(key.name, 'hex').toString()).toBe(text);
    });

    test('answers text byte for byte, by GetTask, ListTasks and WatchTasks', async () => {
      const [, task] = served.owner.tasks;
      if (task === undefined) throw new Error('there is no task');
      const watching = await new Watching(
        watchOverGrpcJs(service.grpc),
        { query: `name:${task.name}`, includeInitial: true },
        token,
      ).synced();
      // No character set has a part in what is written here.
      await served.database.raw(
        'update workspace_build_parameters as p inner join workspace_builds as b on b.id = p.workspace_build_id ' +
          'set p.value = convert(? using utf8mb4) where b.workspace_id = ?',
        [Buffer.from(text), parseUuid(task.id) as Buffer],
      );
      await expect.poll(() => watching.tasks.get(task.id)?.initialPrompt).toBe(text);
      watching.stop();
      const { message } = await client.unary(
        TasksService.method.getTask,
        { identifier: { case: 'id', value: task.id } },
        headers(),
      );
      expect(message.task?.initialPrompt).toBe(text);
      expect((await taskCalled(task.name))?.initialPrompt).toBe(text);
      const [[row]] = (await served.database.raw('select hex(prompt) as prompt from workspace_tasks where id = ?', [
        parseUuid(task.id) as Buffer,
      ])) as [[{ prompt: string }]];
      expect(Buffer.from(row.prompt, 'hex').toString()).toBe(text);
    });

    test('is followed: what is new, changed, shared and deleted', async () => {
      const { ownerId, organizationId } = served.owner;
      const { workspace } = await insertRunningTask(served.database, {
        owner_id: ownerId,
        organization_id: organizationId,
        name: 'task-new',
      });
      await expect.poll(async () => (await taskCalled('task-new'))?.favorite).toBe(false);
      await served.database.raw('update workspaces set favorite = 1 where id = ?', [workspace]);
      await expect.poll(async () => (await taskCalled('task-new'))?.favorite).toBe(true);

      const guestId = await insertUser(served.database, { username: 'guest', memberships: [[organizationId]] });
      const guest = await createApiKeyRepository(database).create('guest', { lifetimeSeconds: 86_400, name: 'test' });
      const seenByGuest = async () => {
        const { message } = await client.unary(
          TasksService.method.listTasks,
          { query: 'owner:someone' },
          { headers: { 'coder-session-token': guest ?? '' } },
        );
        return message.tasks.map(({ name }) => name);
      };
      expect(await seenByGuest()).toEqual([]);
      await served.database.raw('update workspaces set user_acl = ? where id = ?', [
        JSON.stringify({ [formatUuid(guestId)]: { permissions: ['read'] } }),
        workspace,
      ]);
      await expect.poll(seenByGuest).toEqual(['task-new']);
      await served.database.raw('update workspaces set deleted = 1 where id = ?', [workspace]);
      await expect.poll(async () => (await taskCalled('task-new'))?.name).toBeUndefined();
    });

    test('is not kept from changing tables by transactions that stay open', async () => {
      await client.unary(TasksService.method.listTasks, { includeTotalSize: true }, headers());
      const elsewhere = openDatabase(
        { ...served.server.address, database: 'tasks' },
        { size: 1, statementTimeoutMs: 30_000, session: { lock_wait_timeout: 5 } },
      );
      for (const table of ['api_keys', 'workspace_tasks', 'projector_state', 'workspaces', 'knex_migrations']) {
        await elsewhere.raw(`alter table ${table} comment 'changed by somebody else'`);
      }
      await closeDatabase(elsewhere);
    });

    test('has a read model without differences, and nothing is a dead letter or was repaired', async () => {
      expect(await metric('tasks_projector_repairs_total')).toBe(0);
      expect(await metric('tasks_projector_dead_letters')).toBe(0);
      expect(await service.stop()).toBe(0);
      const projector = createProjector({ address, log: pino({ level: 'silent' }), sweepPassMs: 0 });
      projector.start();
      await expect.poll(() => projector.status().swept).toBeGreaterThan(served.owner.tasks.length);
      await projector.stop();
      expect(projector.status()).toMatchObject({ repairs: 0, deadLetters: 0 });
      expect(command('project', '--verify')).toEqual({ code: 0, stdout: 'no differences\n', stderr: '' });
    });

    test.each(['migrate up', 'serve'])('is refused by `%s` in one line where it logs statements as such', async (words) => {
      await served.database.raw("set global binlog_format = 'STATEMENT'");
      const { code, stdout, stderr } = command(...words.split(' '));
      expect(stderr).toMatch(/^the database cannot be used: [^\n]*binlog_format=ROW[^\n]*\n$/);
      expect([code, stdout]).toEqual([1, '']);
    });
  },
  ['mariadb', 'mysql'],
);
