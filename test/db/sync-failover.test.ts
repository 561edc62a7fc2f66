import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { keepBySettings } from '../../src/sync/keep-copy.ts';
import { createSync } from '../../src/sync/sync.ts';
import { coderRows } from '../support/coder-rows.ts';
import { runOnCopy } from '../support/copied-coder.ts';
import { createTestDatabase, describeOnOneEngine } from '../support/database.ts';
import { Network } from '../support/network.ts';
import { describeOnPostgres, startPostgresReplica } from '../support/postgres.ts';
import { allowReplication, coderReader, coderSlot } from '../support/replicated-coder.ts';
import { startCoder } from '../support/started-coder.ts';

/** A busy machine may take its time. */
const within = { timeout: 60_000, interval: 100 };

await describeOnPostgres('a Coder whose primary is lost', '15', () => {
  describeOnOneEngine('with a copy in', (engine) => {
    test('is followed on its standby, after a new copy while the rows of before are served', { timeout: 150_000 }, async () => {
      await using parts = new AsyncDisposableStack();
      const { server: primary, coder } = await startCoder('seed');
      parts.defer(() => primary.stop());
      await allowReplication(coder, coderSlot, coderReader);
      const standby = parts.adopt(await startPostgresReplica(primary), (server) => server.stop());
      const target = parts.adopt(await createTestDatabase(engine), ({ drop }) => drop());

      // The address of Coder's database leads to the primary of the moment.
      const network = parts.adopt(new Network({ host: '127.0.0.1', port: primary.port, user: '', database: '' }), (one) =>
        one.close(),
      );
      const { port } = await network.open();
      const url = `postgres://${coderReader.user}:${coderReader.password}@127.0.0.1:${port}/coder`;
      const lines: string[] = [];
      const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
      const keep = keepBySettings({ CODER_SLOT: coderSlot }, log);
      const sync = parts.adopt(createSync({ address: target.address, url, log, keep }), (one) => one.stop());
      const names = async (): Promise<string[]> => {
        const [rows = []] = await target.database.raw<[{ name: string }[]]>('select `w`.`name` from `workspaces` as `w`');
        return rows.map(({ name }) => name);
      };
      sync.start();
      const first = coderRows('seed', 'workspaces').length;
      await expect.poll(async () => [sync.status().activity, (await names()).length], within).toEqual(['following', first]);

      // What the primary commits now, the standby never gets.
      const promoted = await standby.connect();
      await promoted.query("alter system set primary_conninfo = ''");
      await promoted.query('select pg_reload_conf()');
      await expect.poll(async () => (await promoted.query('select 1 from pg_stat_wal_receiver')).rowCount, within).toBe(0);
      await rename(coder, 'lost with the primary');
      await expect.poll(names, within).toContain('lost with the primary');

      let isOver = false;
      const served = (async () => {
        const counts = new Set<number>();
        while (!isOver) {
          counts.add((await names()).length);
          await sleep(5);
        }
        return [...counts];
      })();
      await primary.crash();
      await expect.poll(() => sync.status().activity, within).toBe('failed');
      await promoted.query('select pg_promote()');
      await rename(promoted, 'on the new primary');
      network.to = { ...network.to, port: standby.port };
      network.cut();
      await expect.poll(() => [sync.status().activity, sync.status().copies], within).toEqual(['following', 2]);
      isOver = true;

      expect(await served).toEqual([first]);
      expect(await names()).toContain('on the new primary');
      expect(await names()).not.toContain('lost with the primary');
      const why = lines
        .filter((line) => line.includes('"copying from Coder"'))
        .map((line) => (JSON.parse(line) as { why: string }).why);
      expect(why).toEqual([
        'nothing has been copied yet',
        'PostgreSQL has gone on in timeline 2, after a failover or from a backup',
      ]);
      await rename(promoted, 'followed again');
      await expect.poll(names, within).toContain('followed again');
      expect(await runOnCopy(url, target.address, 'sync', '--verify')).toBe('no differences\n');
    });
  });
});

async function rename(coder: Client, name: string): Promise<void> {
  await coder.query('update workspaces set name = $1 where id = (select w.id from workspaces w order by w.id limit 1)', [name]);
}
