import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import type { Cluster } from '../support/cluster.ts';
import { blows } from '../support/cluster-blows.ts';
import { runRounds } from '../support/cluster-rounds.ts';
import { describeOnOneEngine } from '../support/database.ts';
import { findProvider, startGalera } from '../support/galera.ts';

const provider = await findProvider().catch((error: unknown) => {
  console.log(`NOT RUN: a cluster of Galera: ${error instanceof Error ? error.message : String(error)}`);
  return undefined;
});

describeOnOneEngine('three nodes of Galera', (engine) => {
  const isPrivate = process.env[`TEST_${engine.toUpperCase()}_URL`] === undefined && inject('engines')[engine] !== undefined;

  // `npm run test:clusters` does more of this, also to Group Replication.
  describe.runIf(isPrivate && provider !== undefined)('with a service on each, under writes to all', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tasks-cluster-'));
    let cluster: Cluster | undefined;

    beforeAll(async () => {
      cluster = await startGalera(folder);
    });
    afterAll(async () => {
      await cluster?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    test('lose no change when the projector and its node are killed', { timeout: 240_000 }, async () => {
      if (cluster === undefined) throw new Error('there is no cluster');
      const report = await runRounds(cluster, {
        blows: [blows.killActiveService, blows.killActiveNode],
        writers: 2,
        pauseMs: 50,
        restMs: 1000,
      });
      expect(report.faults).toEqual([]);
      expect(report.takeovers).toBeGreaterThanOrEqual(2);
      expect(report.writes.committed).toBeGreaterThan(20);
      expect(report.lag.probes).toBeGreaterThan(20);
    });
  });
});
