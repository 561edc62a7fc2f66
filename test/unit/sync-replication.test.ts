import { describe, expect, test } from 'vitest';
import { formatLsn, parseLsn } from '../../src/sync/lsn.ts';
import { MessageQueue } from '../../src/sync/message-queue.ts';
import { grantStatements, replicationNames } from '../../src/sync/publication.ts';
import { whyCopyAgain } from '../../src/sync/replicate.ts';
import { describeSlot, type SlotStatus } from '../../src/sync/replication-standing.ts';
import { nearest, parseSnapshot } from '../../src/sync/snapshot-visibility.ts';
import type { SyncState } from '../../src/sync/sync-state.ts';
import { syncedTables } from '../../src/sync/synced-tables.ts';

describe('a position in the log', () => {
  test.each([
    ['0/0', 0n],
    ['0/16B3748', 0x16b3748n],
    ['16/B374D848', 0x16b374d848n],
    ['FFFFFFFF/FFFFFFFF', 2n ** 64n - 1n],
  ])('%s is a number, and a text again', (text, lsn) => {
    expect(parseLsn(text)).toBe(lsn);
    expect(formatLsn(lsn)).toBe(text);
  });
  test('has no zeros in front as the protocol has them', () => expect(formatLsn(parseLsn('00000016/0000D848'))).toBe('16/D848'));
  test.each(['', '0', '0/', '0/G', '100000000/0'])('%j is not a position', (text) =>
    expect(() => parseLsn(text)).toThrow(TypeError),
  );
});

describe('a snapshot', () => {
  test.each([
    ['739:742:739,741', { 700: true, 738: true, 739: false, 740: true, 741: false, 742: false, 900: false }],
    ['739:739:', { 738: true, 739: false }],
    // In the third epoch, just after the 32 bits began again; and just before they do.
    ['8589934590:8589934595:8589934591', { 4294967294: true, 4294967295: false, 0: true, 2: true, 3: false, 4294967000: true }],
    ['4294967290:4294967290:', { 4294967289: true, 4294967290: false, 5: false }],
  ])('%s sees the transactions that had been committed', (text, seen) => {
    const snapshot = parseSnapshot(text);
    for (const [xid, isSeen] of Object.entries(seen)) expect(snapshot.sees(Number(xid)), xid).toBe(isSeen);
  });
  test.each(['', '1:2', '1:2:3,', 'a:b:'])('%j is not a snapshot', (text) =>
    expect(() => parseSnapshot(text)).toThrow(TypeError),
  );
  test.each([
    [100n, 50, 50n],
    [(1n << 32n) + 5n, 0xffff_fff0, 0xffff_fff0n],
    [(1n << 32n) - 5n, 3, (1n << 32n) + 3n],
    [10n, 0xffff_ffff, 0xffff_ffffn],
  ])('next to %d, the transaction %d is %d', (other, xid, full) => expect(nearest(other, xid)).toBe(full));
});

describe('the queue of messages', () => {
  test('holds the writer back while too much waits', async () => {
    const queue = new MessageQueue<number>(10);
    expect(queue.push(1, 6)).toBe(undefined);
    let hasRoom = false;
    void queue.push(2, 6)?.then(() => {
      hasRoom = true;
    });
    expect(queue.length).toBe(2);
    expect(await queue.next()).toBe(1);
    expect(hasRoom).toBe(false);
    expect(await queue.next()).toBe(2);
    await Promise.resolve();
    expect(hasRoom).toBe(true);
  });

  test('lets all go on that were held back', async () => {
    const queue = new MessageQueue<number>(10);
    const writes = [queue.push(1, 11), queue.push(2), queue.push(3)].map((room) => Promise.resolve(room));
    expect(await queue.next()).toBe(1);
    expect(await Promise.all(writes)).toHaveLength(3);
    const others = [queue.push(4, 11), queue.push(5)].map((room) => Promise.resolve(room));
    queue.fail(new Error('lost'));
    expect(await Promise.all(others)).toHaveLength(2);
  });

  test('waits for a message, or for so long', async () => {
    const queue = new MessageQueue<number>(10);
    expect(await queue.next(0)).toBe(undefined);
    expect(await queue.next(1)).toBe(undefined);
    const waiting = queue.next();
    void queue.push(3);
    expect(await waiting).toBe(3);
  });

  test('keeps the order of any number, and fails at once', async () => {
    const queue = new MessageQueue<number>(10);
    const waiting: number[] = [];
    for (let n = 0; n < 5000; n++) void queue.push(n);
    for (let n = 0; n < 3000; n++) waiting.push((await queue.next()) ?? -1);
    expect(waiting).toEqual(Array.from({ length: 3000 }, (_, n) => n));
    queue.fail(new Error('lost'));
    queue.fail(new Error('another one'));
    await expect(queue.next()).rejects.toThrow('lost');
    await expect(queue.next(0)).rejects.toThrow('lost');
    expect(queue.push(1, 100)).toBe(undefined);
  });
});

describe('the statements that an operator runs', () => {
  const names = replicationNames('tasks_service');
  test('publish each table once: updates and deletes of those with a primary key alone', () => {
    const statements = grantStatements({ role: 'tasks_reader', database: 'coder', names });
    const [all = '', inserts = ''] = statements.filter((statement) => statement.startsWith('create publication'));
    const published = (statement: string): string[] => [...statement.matchAll(/public\."(\w+)"/g)].map(([, table = '']) => table);
    const without = ['group_members', 'custom_roles', 'workspace_build_parameters'];
    const later = statements.flatMap((statement) =>
      [...statement.matchAll(/alter publication "tasks_service" add table public\."(\w+)"/g)].map(([, table = '']) => table),
    );
    expect(later).toEqual(['task_workspace_apps', 'tasks']);
    expect([...published(all), ...later].toSorted()).toEqual(
      syncedTables
        .map(({ name }) => name)
        .filter((name) => !without.includes(name))
        .toSorted(),
    );
    expect(inserts).toBe(
      `create publication "tasks_service_inserts" for table public."workspace_build_parameters" with (publish = 'insert, truncate');`,
    );
    expect(statements.at(-1)).toBe("select pg_create_logical_replication_slot('tasks_service', 'pgoutput');");
  });

  test('ask for nothing but SELECT where changes are polled, and leave tokens out if told', () => {
    const statements = grantStatements({ role: 'the "reader"', database: 'coder', names: undefined, withoutSessions: true });
    expect(statements).toHaveLength(6);
    expect(statements[5]).toBe(
      `do $$ begin if to_regclass('public.tasks') is not null then grant select on public."tasks" to "the ""reader"""; end if; end $$;`,
    );
    expect(statements[0]).toBe('create role "the ""reader""" login;');
    expect(statements.join('\n')).not.toMatch(/api_keys|publication|slot|replication/);
  });
});

describe('what was copied', () => {
  const names = replicationNames('tasks_service');
  const slot: SlotStatus = {
    confirmed: 100n,
    behindBytes: 12_345_678,
    retainedBytes: 20_000_000,
    walStatus: 'reserved',
    safeBytes: 5_000_000_000,
    keepSize: '5GB',
    activePid: undefined,
  };
  const state: SyncState = {
    epoch: 1,
    phase: 'live',
    mode: 'replication',
    source: '7713980939536447912 coder',
    coderVersion: 'Coder of June 2026 or later',
    slot: 'tasks_service',
    position: 100n,
    timeline: 1,
    shape: 'columns',
    hasTasks: true,
    publications: '16385:16390',
    unreplicated: '{}',
    snapshot: null,
    copiedAt: '2026-11-30 12:00:00.000000',
    changedAt: '2026-11-30 12:00:00.000000',
    error: null,
  };
  const standing = { source: '7713980939536447912 coder', timeline: 1, publications: '16385:16390', slot, shape: 'columns' };

  test('is followed on, also where the log of the slot was not all read', () => {
    expect(whyCopyAgain(state, standing, names)).toBe(undefined);
    expect(whyCopyAgain(state, { ...standing, slot: { ...slot, confirmed: 40n } }, names)).toBe(undefined);
  });

  test.each<[why: string, state: Partial<SyncState>, standing: Partial<typeof standing>]>([
    ['nothing has been copied yet', { phase: 'none' }, {}],
    ['the last copy is not complete: PostgreSQL was away', { phase: 'copying', error: 'PostgreSQL was away' }, {}],
    ['what is there was copied without the slot tasks_service', { mode: 'polling' }, {}],
    ['what is there was copied without the slot tasks_service', { slot: 'another' }, {}],
    ["Coder's database is another one", {}, { source: '7713980939536447913 coder' }],
    ['PostgreSQL has gone on in timeline 2, after a failover or from a backup', {}, { timeline: 2 }],
    ['the slot tasks_service has gone on without us, or is a new one', {}, { slot: { ...slot, confirmed: 101n } }],
    ['the publications of tasks_service were changed', {}, { publications: '16385:16391' }],
    ['other columns are copied than before', {}, { shape: 'others' }],
  ])('is copied again: %s', (why, otherState, otherStanding) => {
    expect(whyCopyAgain({ ...state, ...otherState }, { ...standing, ...otherStanding }, names)).toBe(why);
  });

  test('the slot is described for who has a disk to look after', () => {
    expect(describeSlot('tasks_service', slot)).toEqual([
      'slot: tasks_service is 12.3 MB behind; nobody reads it',
      "slot: it keeps 20.0 MB of the log on PostgreSQL's disk (reserved), and is lost after 5000.0 MB more",
      'slot: max_slot_wal_keep_size is 5GB',
    ]);
    expect(describeSlot('tasks_service', { ...slot, safeBytes: undefined, keepSize: '-1', activePid: '42' })).toEqual([
      'slot: tasks_service is 12.3 MB behind; process 42 of PostgreSQL serves its reader',
      "slot: it keeps 20.0 MB of the log on PostgreSQL's disk (reserved)",
      "slot: max_slot_wal_keep_size is -1: if nobody reads the slot, it fills PostgreSQL's disk",
    ]);
    expect(describeSlot('tasks_service', undefined)).toEqual([
      "slot: there is no tasks_service in Coder's PostgreSQL, and nothing of its log is kept for it",
    ]);
    expect(describeSlot('tasks_service', { ...slot, confirmed: undefined, walStatus: 'lost' })).toEqual([
      'slot: tasks_service is lost, and made anew when it is followed; nobody reads it',
    ]);
  });
});
