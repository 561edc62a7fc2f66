import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Database } from '../../src/db/connection.ts';
import { createLog } from '../../src/platform/log.ts';
import { createProjector } from '../../src/projection/projector.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { type ChildScript, startScript } from '../support/child-script.ts';
import { createTestDatabase, describeOnEngines, type TestDatabase } from '../support/database.ts';
import { outboxIsEmpty, readModelDifferences } from '../support/projected-tables.ts';
import { startRandomWriters } from '../support/random-writer.ts';

/** How much is written before the projectors are left in peace: so many commits and takeovers, or so many milliseconds. */
const commits = Number(process.env['CHAOS_COMMITS'] ?? 2000);
const takeovers = 8;
const mostMs = Math.max(30_000, commits * 12);

/** So short that there is a takeover in each round; on a busy machine some come while the holder lives, which must do no harm. */
const lease = { expiresMs: 500, renewMs: 100, lookMs: 50 } as const;

interface Event {
  readonly seq: number;
  readonly task_id: Buffer;
  readonly kind: number;
  readonly owner_id: Buffer | null;
  readonly organization_id: Buffer | null;
}

/** The last epoch in which a projector became active, by what it printed; 0 if it never was. */
function epochOf({ lines }: ChildScript): number {
  const last = lines.findLast((line) => line.includes('is active"'));
  return last === undefined ? 0 : (JSON.parse(last) as { epoch: number }).epoch;
}

describeOnEngines('under random writes', (engine) => {
  let test_: TestDatabase;
  let database: Database;

  beforeEach(async () => {
    test_ = await createTestDatabase(engine);
    database = test_.database;
  });
  afterEach(() => test_.drop());

  /** Follows the feed as a watcher does: by number, each read from where the last one ended. */
  function watchFeed() {
    const events: Event[] = [];
    let stopped = false;
    let holes = 0;
    const watching = (async () => {
      for (let last = 0; ; ) {
        const isLast = stopped;
        const rows = (await database('task_events').where('seq', '>', last).orderBy('seq')) as Event[];
        for (const row of rows) {
          if (row.seq !== last + 1) holes += 1;
          last = row.seq;
          events.push(row);
        }
        if (isLast) return { events, holes };
        await sleep(20);
      }
    })();
    return {
      stop: () => {
        stopped = true;
        return watching;
      },
    };
  }

  test('and with projectors killed, stopped and resumed, nothing is lost and nothing comes twice', async () => {
    const start = (): ChildScript => startScript('project', { ...test_.address, lease });
    const projectors: ChildScript[] = [1, 2, 3].map(start);
    const lines: string[] = [];
    const feed = watchFeed();
    const writers = startRandomWriters(database, { writers: 6, seed: 20_261_123 });
    let kills = 0;
    let stops = 0;
    try {
      const deadline = performance.now() + mostMs;
      for (let round = 0; performance.now() < deadline; round++) {
        if (writers.done.committed >= commits && round >= takeovers) break;
        // Whoever became active last is in the middle of its work; now and then it is a standby's turn.
        const epochs = projectors.map(epochOf);
        const active = epochs.indexOf(Math.max(...epochs));
        const index = round % 5 === 4 ? (active + 1) % projectors.length : active;
        const victim = projectors[index];
        if (victim === undefined) throw new Error('no projector');
        if (round % 4 === 3) {
          stops += 1;
          victim.process.kill('SIGSTOP');
          // Shorter and longer than the server waits for it.
          setTimeout(() => victim.process.kill('SIGCONT'), stops % 2 === 1 ? 300 : 6500);
        } else {
          kills += 1;
          lines.push(...victim.lines);
          await victim.kill();
          projectors[index] = start();
        }
        await sleep(300 + Math.random() * 900);
      }
      await writers.stop();
      for (const projector of projectors) projector.process.kill('SIGCONT');
      await outboxIsEmpty(database);
      const { events, holes } = await feed.stop();
      lines.push(...projectors.flatMap((projector) => projector.lines));

      const [[state]] = (await database.raw('select `epoch`, `seq` from `projector_state`')) as [
        { epoch: number; seq: number }[],
      ];
      const [{ tasks }] = (await database('workspace_tasks').count({ tasks: '*' })) as [{ tasks: number }];
      console.log(
        `${engine}: ${JSON.stringify(writers.done)}, ${events.length} events, ${tasks} tasks, ${kills} kills, ${stops} stops, epoch ${state?.epoch}`,
      );
      expect(await readModelDifferences(database)).toEqual([]);
      expect(await database('workspace_changes_failed')).toEqual([]);
      expect(lines.filter((line) => /cannot be projected|"level":"error"/.test(line))).toEqual([]);
      expect(writers.done.committed).toBeGreaterThan(500);
      expect(kills).toBeGreaterThan(3);
      expect(state?.epoch).toBeGreaterThan(3);

      // The feed, folded by who watched it, is the read model.
      expect(holes).toBe(0);
      expect(events.length).toBe(state?.seq);
      const place = (row: Pick<Event, 'owner_id' | 'organization_id'>) =>
        `${row.owner_id?.toString('hex')} ${row.organization_id?.toString('hex')}`;
      const folded = new Map<string, string>();
      for (const event of events) {
        const id = event.task_id.toString('hex');
        if (event.kind === 2) folded.delete(id);
        else folded.set(id, place(event));
      }
      const rows = (await database('workspace_tasks').select('id', 'owner_id', 'organization_id')) as (Event & { id: Buffer })[];
      expect(folded).toEqual(new Map(rows.map((row) => [row.id.toString('hex'), place(row)])));

      // And so it is after all of it was made anew.
      await projectAll(database);
      expect(await readModelDifferences(database)).toEqual([]);
    } finally {
      await writers.stop().catch(() => {});
      await feed.stop();
      for (const projector of projectors) {
        projector.process.kill('SIGCONT');
        await projector.kill();
      }
    }
  }, 120_000);

  test('the sweep finds nothing to repair', async () => {
    const projector = createProjector({ address: test_.address, log: createLog('warn'), sweepPassMs: 0 });
    projector.start();
    const writers = startRandomWriters(database, { writers: 4, seed: 7, pauseMs: 5 });
    const deadline = performance.now() + 45_000;
    while (projector.status().swept < 250 && performance.now() < deadline) await sleep(50);
    await writers.stop();
    await outboxIsEmpty(database);
    const status = projector.status();
    await projector.stop();
    expect(status.swept).toBeGreaterThanOrEqual(250);
    expect(status).toMatchObject({ repairs: 0, deadLetters: 0 });
    expect(await readModelDifferences(database)).toEqual([]);
  }, 60_000);
});
