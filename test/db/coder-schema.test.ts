import pg, { type Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { coderRows, loadCoderRows } from '../support/coder-rows.ts';
import { type CoderVersion, coderColumns, createCoderSchema } from '../support/coder-schema.ts';
import { postgresVersions } from '../support/find-postgres.ts';
import { describeOnPostgres, type PostgresServer, startPostgres } from '../support/postgres.ts';

const versions: readonly CoderVersion[] = ['seed', 'newest'];

for (const postgres of postgresVersions) {
  await describeOnPostgres("Coder's tables of the tests", postgres, () => {
    let server: PostgresServer;
    const clients: Partial<Record<CoderVersion, Client>> = {};
    beforeAll(async () => {
      server = await startPostgres({ version: postgres });
      const root = await server.connect('postgres');
      for (const version of versions) {
        await root.query(`create database ${version}`);
        clients[version] = await server.connect(version);
      }
    });
    afterAll(() => server.stop());

    test.each(versions)('%s: they have the recorded columns, and take the rows that Coder wrote', async (version) => {
      const client = clients[version] as Client;
      await createCoderSchema(client, version);
      const { rows } = await client.query<{
        table: string;
        name: string;
        type: string;
        nullable: string;
        default: string | null;
      }>(
        `select c.table_name as table, c.column_name as name, c.udt_name as type, c.is_nullable as nullable, c.column_default as default
         from information_schema.columns c where c.table_schema = 'public' order by c.table_name, c.ordinal_position`,
      );
      const found = rows.map(({ table, name, type, nullable, default: byDefault }) => ({
        ...{ table, name, type, isNullable: nullable === 'YES' },
        ...(byDefault === null ? {} : { byDefault }),
      }));
      expect(found).toEqual(coderColumns(version));

      await loadCoderRows(client, version);
      for (const table of new Set(coderColumns(version).map((column) => column.table))) {
        const { rows: counted } = await client.query<{ count: string }>(`select count(*) from ${table}`);
        expect(Number(counted[0]?.count), table).toBe(coderRows(version, table).length);
      }
      // The column that PostgreSQL makes is the one that Coder's database made.
      const { rows: jobs } = await client.query('select id, job_status from provisioner_jobs order by id');
      expect(jobs).toEqual(
        coderRows(version, 'provisioner_jobs')
          .map(({ id, job_status }) => ({ id, job_status }))
          .sort(byId),
      );
    });

    test('what is deleted takes along what belongs to it', async () => {
      const client = clients.newest as Client;
      const rowsOf = async (sql: string, ...values: unknown[]): Promise<unknown[]> => (await client.query(sql, values)).rows;
      const [member] = coderRows('newest', 'group_members');
      await client.query('delete from organization_members where user_id = $1', [member?.['user_id']]);
      expect(await rowsOf('select 1 from group_members where user_id = $1', member?.['user_id'])).toEqual([]);

      const user = coderRows('newest', 'api_keys')[0]?.['user_id'];
      expect(await rowsOf('select 1 from api_keys where user_id = $1', user)).not.toEqual([]);
      await client.query('update users set deleted = true where id = $1', [user]);
      expect(await rowsOf('select 1 from api_keys where user_id = $1', user)).toEqual([]);
      expect(await rowsOf('select 1 from organization_members where user_id = $1', user)).toEqual([]);
    });

    test('it is killed and comes back with what was committed', async () => {
      await server.crash();
      await server.restart();
      const client = await server.connect('seed');
      expect((await client.query('select 1 from workspaces')).rows).toHaveLength(coderRows('seed', 'workspaces').length);
      const overTcp = new pg.Client(server.url('seed'));
      await overTcp.connect();
      expect((await overTcp.query<{ timezone: string }>('show timezone')).rows).toEqual([{ TimeZone: 'Asia/Kathmandu' }]);
      await overTcp.end();
    });
  });
}

function byId(a: { id: string | null | undefined }, b: { id: string | null | undefined }): number {
  return (a.id ?? '') < (b.id ?? '') ? -1 : 1;
}
