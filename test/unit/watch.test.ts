import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { Scope } from '../../src/tasks/scope.ts';
import type { WatchedRow } from '../../src/tasks/store/tables.ts';
import { ChangedTask, LostEventsError, readChanges } from '../../src/watch/changes.ts';
import type { FeedEvent, FeedRepository } from '../../src/watch/feed-repository.ts';
import { maxBacklogTasks, Watch } from '../../src/watch/watch.ts';
import { createWatchScope, type WatchScope } from '../../src/watch/watch-scope.ts';

const me = Buffer.alloc(16, 1);
const other = Buffer.alloc(16, 2);
const organization = Buffer.alloc(16, 9);
const idOf = (n: number): Buffer => {
  const id = Buffer.alloc(16);
  id.writeUInt32BE(n);
  return id;
};
const place = (ownerId: Buffer) => ({ ownerId, organizationId: organization, readers: [] });

function shown(scope: Partial<Scope>): WatchScope {
  return createWatchScope(
    { userId: me, everything: false, organizations: [], ownIn: [], sharedWith: [], memberOf: [], ...scope },
    {},
  );
}

/** A task as a watcher's rules see it. */
function rowOf(n: number, init: Partial<WatchedRow> = {}): WatchedRow {
  const row: Partial<WatchedRow> = {
    id: idOf(n),
    owner_id: me,
    organization_id: organization,
    live: 1,
    readers: [],
    prompt: '',
    state_message: '',
    state_uri: '',
    ...init,
  };
  return row as WatchedRow;
}

const change = (n: number, seq: number, row: WatchedRow | undefined, ...owners: Buffer[]): ChangedTask =>
  new ChangedTask(idOf(n), seq, row, owners.map(place));

/** Everything that a watch has to tell, with the event up to which it is told then. */
function all(watch: Watch): [id: number, removed: boolean, seq: number][] {
  const told: [number, boolean, number][] = [];
  for (let news = watch.take(); news !== undefined; news = watch.take()) {
    told.push([news.change.id.readUInt32BE(), news.removed, news.seq]);
  }
  return told;
}

describe('a watch', () => {
  test('tells the newest state of each task, oldest change first, and never says more than it has told', () => {
    const watch = new Watch(shown({ ownIn: [organization] }), 0, 'with the initial state');
    watch.offer({ to: 3, tasks: [change(1, 1, rowOf(1)), change(2, 3, rowOf(2))] });
    watch.offer({ to: 7, tasks: [change(1, 5, rowOf(1), me), change(3, 6, rowOf(3, { owner_id: other }), other)] });
    expect([watch.seq, watch.toldSeq]).toEqual([7, 2]);
    expect(all(watch)).toEqual([
      [2, false, 4],
      [1, false, 7],
    ]);
    expect(watch.toldSeq).toBe(7);
    watch.offer({ to: 7, tasks: [change(1, 5, rowOf(1), me)] });
    expect(watch.waiting).toBe(false);
  });

  test('keeps the end of a task that waits when it comes to show something else', () => {
    const watch = new Watch(shown({ ownIn: [organization] }), 0, 'with the initial state');
    watch.told.set(idOf(1).toString('latin1'), true);
    watch.offer({ to: 2, tasks: [change(1, 1, rowOf(1, { live: 0 }), me), change(2, 2, rowOf(2))] });
    watch.turnTo(shown({ ownIn: [organization, Buffer.alloc(16, 8)] }));
    expect(all(watch)).toEqual([
      [1, true, 1],
      [2, false, 2],
    ]);
  });

  test('takes back what waits and may no longer be read', () => {
    const watch = new Watch(shown({ ownIn: [organization] }), 0, 'with the initial state');
    watch.offer({ to: 1, tasks: [change(1, 1, rowOf(1))] });
    watch.turnTo(shown({}));
    expect(all(watch)).toEqual([[1, true, 1]]);
  });

  test('knows what it showed before up to the event at which it turned, and no longer', () => {
    const watch = new Watch(shown({ everything: true }), 0, 'unknown');
    watch.turnTo(shown({}));
    const theirs = rowOf(1, { owner_id: other });
    watch.offer({ to: 1, tasks: [change(1, 1, theirs, other)] });
    watch.forgetFormerAfter(1);
    watch.offer({ to: 3, tasks: [change(2, 3, theirs, other)] });
    expect(all(watch)).toEqual([[1, true, 3]]);
  });

  test('of one owner says nothing of the end of other tasks', () => {
    const filter = { ownerId: me };
    const scope: Scope = { ...shown({}).scope, everything: true };
    const watch = new Watch(createWatchScope(scope, filter), 0, 'unknown');
    watch.offer({ to: 2, tasks: [change(1, 1, rowOf(1, { owner_id: other }), other), change(2, 2, undefined, me)] });
    expect(all(watch)).toEqual([[2, true, 2]]);
  });

  test('is lost when the client is too far behind, and not when it reads what it missed', () => {
    const tasks = Array.from({ length: maxBacklogTasks + 1 }, (_, i) => change(i, i + 1, rowOf(i)));
    const behind = new Watch(shown({ everything: true }), 0, 'unknown');
    behind.offer({ to: tasks.length, tasks });
    expect([behind.lost, behind.waiting]).toEqual([true, false]);
    const reading = new Watch(shown({ everything: true }), 0, 'unknown');
    reading.judge({ to: tasks.length, tasks });
    expect([reading.lost, all(reading).length]).toEqual([false, tasks.length]);
  });

  test('leaves nothing behind when it has waited', async () => {
    const watch = new Watch(shown({}), 0, 'unknown');
    const [one, two] = [new AbortController(), new AbortController()];
    for (let i = 0; i < 10; i++) await watch.wait(0, one.signal, two.signal);
    expect([one, two].map(({ signal }) => getEventListeners(signal, 'abort').length)).toEqual([0, 0]);
    const waiting = watch.wait(60_000, one.signal, two.signal);
    two.abort();
    await waiting;
    expect(getEventListeners(one.signal, 'abort')).toEqual([]);
  });
});

describe('reading changes', () => {
  /** A feed with these events, of tasks with texts of so many bytes each. */
  const feedOf = (events: readonly FeedEvent[], bytes = 10): FeedRepository => ({
    state: () => Promise.resolve({ generation: 'one', seq: events.at(-1)?.seq ?? 0, floorSeq: 0 }),
    events: (after, limit) => Promise.resolve(events.filter(({ seq }) => seq > after).slice(0, limit)),
    tasks: (ids, { maxBytes }) => {
      const covered = Math.max(1, Math.min(ids.length, Math.floor(maxBytes / bytes)));
      return Promise.resolve({ rows: ids.slice(0, covered).map((id) => rowOf(id.readUInt32BE())), covered });
    },
  });
  const event = (seq: number, n: number, owner?: Buffer): FeedEvent => ({
    seq,
    taskId: idOf(n),
    before: owner && { ownerId: owner, organizationId: organization },
  });
  const seqs = async (events: readonly FeedEvent[], bytes?: number) => {
    const { to, tasks } = await readChanges(feedOf(events, bytes), 0, events.length, []);
    return { to, tasks: tasks.map(({ id, seq }) => [id.readUInt32BE(), seq]) };
  };

  test('each task once, in the order of its newest event', async () => {
    const events = [event(1, 1), event(2, 2, me), event(3, 1, me), event(4, 1, me)];
    expect(await seqs(events)).toEqual({ to: 4, tasks: [[2, 2], [1, 4]] }); // biome-ignore format: a table
  });

  test('ends before a task was in another place', async () => {
    const events = [event(1, 1, me), event(2, 2, me), event(3, 1, other), event(4, 3)];
    expect(await seqs(events)).toEqual({ to: 2, tasks: [[1, 1], [2, 2]] }); // biome-ignore format: a table
  });

  test('takes as many as have room', async () => {
    const events = [event(1, 1), event(2, 2), event(3, 1, me), event(4, 3)];
    expect(await seqs(events, 1024 * 1024)).toEqual({ to: 4, tasks: [[2, 2], [1, 3], [3, 4]] }); // biome-ignore format: a table
    expect(await seqs(events, 2 * 1024 * 1024)).toEqual({ to: 1, tasks: [[1, 1]] });
    expect(await seqs(events, 9 * 1024 * 1024)).toEqual({ to: 1, tasks: [[1, 1]] });
  });

  test.each([
    ['at the beginning', [event(2, 1)]],
    ['in the middle', [event(1, 1), event(3, 1)]],
    ['everywhere', []],
  ])('a hole %s is an error', async (_, events) => {
    await expect(readChanges(feedOf(events), 0, 3, [])).rejects.toThrow(LostEventsError);
  });
});
