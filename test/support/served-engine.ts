import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApiKeyRepository } from '../../src/auth/api-key-repository.ts';
import type { DatabaseAddress } from '../../src/config.ts';
import { closeDatabase, type Database, openDatabase } from '../../src/db/connection.ts';
import { formatUuid } from '../../src/db/uuid.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { type Engine, type PrivateServer, startEngineServer } from './engines.ts';
import type { OwnerWithTasks } from './owner-with-tasks.ts';
import { insertOrganization, insertUser } from './people.ts';
import { insertRunningTask } from './source-writer.ts';

/** A database on a server of its own, with an owner and tasks in all tables, for a service and for what a test does to it. */
export interface ServedEngine {
  readonly server: PrivateServer;
  /** For the service: an ordinary account, without a way around `read_only` and the limit of connections. */
  readonly address: DatabaseAddress;
  /** For the test: root. */
  readonly database: Database;
  readonly owner: OwnerWithTasks;
  stop(): Promise<void>;
}

/** Starts one, with so many tasks. */
export async function startServedEngine(
  engine: Engine,
  { tasks: count = 40, folder: under = tmpdir(), options = [] as readonly string[] } = {},
): Promise<ServedEngine> {
  const folder = mkdtempSync(join(under, 'tasks-fault-'));
  // What is committed survives the end of the process.
  const settings = ['--innodb-flush-log-at-trx-commit=2', ...options];
  const server = await startEngineServer(engine, folder, settings);
  const database = openDatabase(
    { ...server.address, database: 'tasks' },
    { size: 5, statementTimeoutMs: 30_000, acquireTimeoutMs: 30_000 },
  );
  const root = openDatabase({ ...server.address, database: '' }, { size: 1, statementTimeoutMs: 30_000 });
  await root.raw('create database tasks character set utf8mb4 collate utf8mb4_bin');
  await root.raw("create user service@localhost identified by 'service'");
  await root.raw('grant select, insert, update, delete, trigger on tasks.* to service@localhost');
  await closeDatabase(root);
  await migrateUp(database, { triggers: true });

  const organizationId = await insertOrganization(database, 'acme');
  const ownerId = await insertUser(database, { username: 'someone', memberships: [[organizationId]] });
  const token = await createApiKeyRepository(database).create('someone', { lifetimeSeconds: 86_400, name: 'test' });
  if (token === undefined) throw new Error('there is no token');
  const tasks: { id: string; name: string }[] = [];
  for (let i = 0; i < count; i++) {
    const name = `task-${String(i).padStart(4, '0')}`;
    const { workspace } = await insertRunningTask(database, { owner_id: ownerId, organization_id: organizationId, name });
    tasks.push({ id: formatUuid(workspace), name });
  }
  await projectAll(database);
  return {
    server,
    address: { ...server.address, user: 'service', password: 'service', database: 'tasks' },
    database,
    owner: { token, ownerId, organizationId, tasks },
    async stop() {
      await closeDatabase(database);
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
