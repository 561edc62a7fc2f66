import type { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { CoderTask } from '../../src/transport/coder/coder-task.ts';
import { coderCallers } from '../support/coder-rows.ts';
import { runOnCopy } from '../support/copied-coder.ts';
import { createTestDatabase, describeOnOneEngine, type TestDatabase } from '../support/database.ts';
import { describeOnPostgres, type PostgresServer } from '../support/postgres.ts';
import { type RunningService, startService } from '../support/service.ts';
import { startCoder } from '../support/started-coder.ts';

await describeOnPostgres('what docs/coder.md says, from zero to live', '15', () => {
  describeOnOneEngine('with', (engine) => {
    let server: PostgresServer;
    let coder: Client;
    let testDatabase: TestDatabase;
    let service: RunningService;
    let url: string;

    beforeAll(async () => {
      ({ server, coder } = await startCoder('seed'));
      testDatabase = await createTestDatabase(engine);
      // An administrator runs what is printed, and gives the role a password.
      url = server.url('coder', { user: 'tasks_reader', password: 'reader' });
      const printed = await runOnCopy(url, testDatabase.address, 'sync', 'grants');
      for (const line of printed.trim().split('\n')) if (!line.startsWith('--')) await coder.query(line);
      await coder.query("alter role tasks_reader password 'reader'");
      service = await startService(testDatabase.address, { CODER_DATABASE_URL: url, AUTH_CACHE_SECONDS: '0' });
    });
    afterAll(async () => {
      try {
        expect(await service.stop()).toBe(0);
      } finally {
        await server.stop();
        await testDatabase.drop();
      }
    });

    const list = async (caller: string, query: string): Promise<readonly CoderTask[]> => {
      const headers = { 'coder-session-token': coderCallers()[caller]?.token ?? '' };
      const response = await fetch(`http://${service.web}/api/experimental/tasks?q=${encodeURIComponent(query)}`, { headers });
      return response.ok ? ((await response.json()) as { tasks: CoderTask[] }).tasks : [];
    };
    const names = async (caller: string, query: string): Promise<string[]> => (await list(caller, query)).map(({ name }) => name);

    test("Coder's users list their tasks with the tokens that they have", async () => {
      await expect.poll(() => names('mixed', 'owner:me')).toHaveLength(70);
      expect(await names('groupie', 'owner:mixed')).toHaveLength(3);
      expect(await names('orla', 'owner:me')).toHaveLength(4);
    });

    test('they see what Coder changes', async () => {
      await coder.query("update workspaces set name = 'renamed' where name = 'working-01'");
      await expect.poll(() => names('mixed', 'name:renamed')).toEqual(['renamed']);
      await coder.query(
        `insert into workspace_app_statuses (id, created_at, agent_id, app_id, workspace_id, state, message)
         select gen_random_uuid(), now(), s.agent_id, s.app_id, s.workspace_id, 'idle', 'What next?'
         from workspace_app_statuses s join workspaces w on w.id = s.workspace_id where w.name = 'renamed' limit 1`,
      );
      const state = async () => (await list('mixed', 'name:renamed'))[0]?.current_state?.message;
      await expect.poll(state).toBe('What next?');
    });

    test('Coder takes rights away, also in the tables without a primary key, and they are gone here', async () => {
      await coder.query('delete from group_members');
      await expect.poll(() => names('groupie', 'owner:mixed')).toEqual([]);
      await coder.query('delete from api_keys where user_id = $1', [coderCallers()['orla']?.id]);
      await expect.poll(() => names('orla', 'owner:me')).toEqual([]);
    });

    test('what was copied is what Coder has, and the status says so', async () => {
      expect(await runOnCopy(url, testDatabase.address, 'sync', '--verify')).toContain('no differences');
      expect(await runOnCopy(url, testDatabase.address, 'sync', '--status')).toContain('August 2025');
    });
  });
});
