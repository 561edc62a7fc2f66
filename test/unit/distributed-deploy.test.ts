import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { readConfig } from '../../src/config.ts';

const read = (name: string): string => readFileSync(name, 'utf8');
const byText = (a = '', b = ''): number => (a < b ? -1 : 1);

/** What the tests read of a VSchema. */
interface Keyspace {
  readonly sharded: boolean;
  readonly vindexes?: Readonly<Record<string, { readonly type: string; readonly owner?: string }>>;
  readonly tables: Readonly<
    Record<string, { readonly column_vindexes?: readonly { readonly column: string; readonly name: string }[] }>
  >;
}

test("each table is in one of Vitess' keyspaces, and the sharded ones have their columns", () => {
  const keyspaces = ['tasks', 'read-model'].map((name) => JSON.parse(read(`deploy/vitess/vschema-${name}.json`)) as Keyspace);
  const sql = [
    ...readdirSync('migrations').map((name) => read(`migrations/${name}`)),
    read('src/schema/migrations.ts'),
    read('deploy/vitess/lookup.sql'),
  ];
  const created = sql.flatMap((text) => [...text.matchAll(/create table (?:if not exists )?\\?`(\w+)/g)].map(([, name]) => name));
  const placed = keyspaces.flatMap(({ tables }) => Object.keys(tables));
  expect(placed.toSorted(byText)).toEqual([...new Set(created)].toSorted(byText));
  expect(keyspaces.map(({ sharded }) => sharded)).toEqual([false, true]);
  const { vindexes = {}, tables } = keyspaces[1] as Keyspace;
  for (const [table, { column_vindexes: columns = [] }] of Object.entries(tables)) {
    expect(columns[0], table).toEqual({ column: 'owner_id', name: 'owner' });
    for (const { name } of columns) expect(vindexes, table).toHaveProperty(name);
  }
  expect(vindexes['task_owner']?.owner).toBe('workspace_tasks');
});

test('the cluster of TiDB is one, and the chart reaches it', () => {
  const [cluster, ...groups] = parseAllDocuments(read('deploy/tidb/cluster.yaml')).map(
    (document) => document.toJS() as { kind: string; metadata: { name: string }; spec: { cluster?: { name: string } } },
  );
  expect(groups.map(({ kind }) => kind)).toEqual(['PDGroup', 'TiKVGroup', 'TiDBGroup']);
  for (const { spec } of groups) expect(spec.cluster).toEqual({ name: cluster?.metadata.name });
  const text = read('deploy/tidb/values.yaml');
  const values = parse(text) as { env: Record<string, string>; networkPolicy: { egressPorts: number[] } };
  const { DATABASE_URL: address, MIGRATE_TRIGGERS: triggers } = readConfig({
    ...values.env,
    DATABASE_URL: /DATABASE_URL=(\S+)/.exec(text)?.[1],
  });
  expect(triggers).toBe(false);
  expect(address?.host).toBe(`${groups[2]?.metadata.name}-tidb`);
  expect(values.networkPolicy.egressPorts).toContain(address?.port);
});
