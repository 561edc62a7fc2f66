import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../src/platform/log.ts';
import type { Scope } from '../../src/tasks/scope.ts';
import type { WatchedRow } from '../../src/tasks/store/tables.ts';
import { FeedGapError, readFeedBatch, TaskUpdate } from '../../src/watch/feed-batch.ts';
import type { FeedEvent, FeedRepository } from '../../src/watch/feed-repository.ts';
import { maxPendingTasks, Subscription } from '../../src/watch/subscription.ts';
import { TaskFeed } from '../../src/watch/task-feed.ts';
import { createWatchScope, type WatchScope } from '../../src/watch/watch-scope.ts';

const me = Buffer.alloc(16, 1);
const other = Buffer.alloc(16, 2);
const organization = Buffer.alloc(16, 9);
const idOf = (n: number): Buffer => {
  const id = Buffer.alloc(16);
  id.writeUInt32BE(n);
  return id;
};
const place = (ownerId: Buffer) => ({ workspaceId: null, ownerId, organizationId: organization, readers: [] });

function shown(scope: Partial<Scope>): WatchScope {
  return createWatchScope(
    { userId: me, everything: false, organizations: [], ownIn: [], sharedWith: [], memberOf: [], ...scope },
    {},
  );
}

/** A row with the columns that a scope reads. */
function rowOf(n: number, init: Partial<WatchedRow> = {}): WatchedRow {
  const row: Partial<WatchedRow> = {
    id: idOf(n),
    workspace_id: null,
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

const change = (n: number, seq: number, row: WatchedRow | undefined, ...owners: Buffer[]): TaskUpdate =>
  new TaskUpdate(idOf(n), seq, row, owners.map(place));

/** Takes all pending events, each with the sequence that its resume token would have. */
function all(subscription: Subscription): [id: number, removed: boolean, seq: number][] {
  const events: [number, boolean, number][] = [];
  for (let pending = subscription.take(); pending !== undefined; pending = subscription.take()) {
    events.push([pending.update.id.readUInt32BE(), pending.removed, pending.seq]);
  }
  return events;
}

describe('a subscription', () => {
  test('sends the newest state of each task, oldest change first, and its sequence never runs ahead', () => {
    const subscription = new Subscription(shown({ ownIn: [organization] }), 0, 'empty');
    subscription.deliver({ to: 3, tasks: [change(1, 1, rowOf(1)), change(2, 3, rowOf(2))] });
    subscription.deliver({ to: 7, tasks: [change(1, 5, rowOf(1), me), change(3, 6, rowOf(3, { owner_id: other }), other)] });
    expect([subscription.seq, subscription.sentSeq]).toEqual([7, 2]);
    expect(all(subscription)).toEqual([
      [2, false, 4],
      [1, false, 7],
    ]);
    expect(subscription.sentSeq).toBe(7);
    subscription.deliver({ to: 7, tasks: [change(1, 5, rowOf(1), me)] });
    expect(subscription.hasPending).toBe(false);
  });

  test('keeps a pending removal when its scope changes', () => {
    const subscription = new Subscription(shown({ ownIn: [organization] }), 0, 'empty');
    subscription.clientTasks.set(idOf(1).toString('latin1'), true);
    subscription.deliver({ to: 2, tasks: [change(1, 1, rowOf(1, { live: 0 }), me), change(2, 2, rowOf(2))] });
    subscription.changeScope(shown({ ownIn: [organization, Buffer.alloc(16, 8)] }));
    expect(all(subscription)).toEqual([
      [1, true, 1],
      [2, false, 2],
    ]);
  });

  test('removes a pending task that may no longer be read', () => {
    const subscription = new Subscription(shown({ ownIn: [organization] }), 0, 'empty');
    subscription.deliver({ to: 1, tasks: [change(1, 1, rowOf(1))] });
    subscription.changeScope(shown({}));
    expect(all(subscription)).toEqual([[1, true, 1]]);
  });

  test('applies the former scope up to its last event, and no longer', () => {
    const subscription = new Subscription(shown({ everything: true }), 0, 'unknown');
    subscription.changeScope(shown({}));
    const theirs = rowOf(1, { owner_id: other });
    subscription.deliver({ to: 1, tasks: [change(1, 1, theirs, other)] });
    subscription.endFormerScope(1);
    subscription.deliver({ to: 3, tasks: [change(2, 3, theirs, other)] });
    expect(all(subscription)).toEqual([[1, true, 3]]);
  });

  test('of one owner sends no removal of other tasks', () => {
    const filter = { ownerId: me };
    const scope: Scope = { ...shown({}).scope, everything: true };
    const subscription = new Subscription(createWatchScope(scope, filter), 0, 'unknown');
    subscription.deliver({ to: 2, tasks: [change(1, 1, rowOf(1, { owner_id: other }), other), change(2, 2, undefined, me)] });
    expect(all(subscription)).toEqual([[2, true, 2]]);
  });

  test('of a token for some workspaces is told of their tasks alone, also of what it may have no more', () => {
    const [mine, theirs] = [Buffer.alloc(16, 7), Buffer.alloc(16, 8)];
    const scope: Scope = { ...shown({}).scope, everything: true, onlyWorkspaces: [mine] };
    const subscription = new Subscription(createWatchScope(scope, { status: 10 }), 0, 'unknown');
    const before = (workspaceId: Buffer | null) => ({ ...place(me), workspaceId });
    const changeIn = (n: number, workspaceId: Buffer | null) =>
      new TaskUpdate(idOf(n), n, rowOf(n, { workspace_id: workspaceId, status: 3 }), [before(workspaceId)]);
    const deleted = new TaskUpdate(idOf(4), 4, rowOf(4, { workspace_id: mine, status: 10, live: 0 }), []);
    const deletedElsewhere = new TaskUpdate(idOf(5), 5, rowOf(5, { workspace_id: theirs, status: 10, live: 0 }), []);
    subscription.deliver({
      to: 5,
      tasks: [changeIn(1, mine), changeIn(2, theirs), changeIn(3, null), deleted, deletedElsewhere],
    });
    expect(all(subscription).map(([n, removed]) => [n, removed])).toEqual([
      [1, true],
      [4, false],
    ]);
  });

  test('is lost when the client is too far behind, and not while it catches up', () => {
    const tasks = Array.from({ length: maxPendingTasks + 1 }, (_, i) => change(i, i + 1, rowOf(i)));
    const behind = new Subscription(shown({ everything: true }), 0, 'unknown');
    behind.deliver({ to: tasks.length, tasks });
    expect([behind.lost, behind.hasPending]).toEqual([true, false]);
    const reading = new Subscription(shown({ everything: true }), 0, 'unknown');
    reading.apply({ to: tasks.length, tasks });
    expect([reading.lost, all(reading).length]).toEqual([false, tasks.length]);
  });

  test('leaves no listeners behind after waiting', async () => {
    const subscription = new Subscription(shown({}), 0, 'unknown');
    const [one, two] = [new AbortController(), new AbortController()];
    for (let i = 0; i < 10; i++) await subscription.wait(0, one.signal, two.signal);
    expect([one, two].map(({ signal }) => getEventListeners(signal, 'abort').length)).toEqual([0, 0]);
    const waiting = subscription.wait(60_000, one.signal, two.signal);
    two.abort();
    await waiting;
    expect(getEventListeners(one.signal, 'abort')).toEqual([]);
  });
});

describe('reading a batch of the feed', () => {
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
    const { to, tasks } = await readFeedBatch(feedOf(events, bytes), 0, events.length, []);
    return { to, tasks: tasks.map(({ id, seq }) => [id.readUInt32BE(), seq]) };
  };

  test('each task once, in the order of its newest event', async () => {
    const events = [event(1, 1), event(2, 2, me), event(3, 1, me), event(4, 1, me)];
    expect(await seqs(events)).toEqual({ to: 4, tasks: [[2, 2], [1, 4]] }); // biome-ignore format: a table
  });

  test('ends before a task gets other readers', async () => {
    const events = [event(1, 1, me), event(2, 2, me), event(3, 1, other), event(4, 3)];
    expect(await seqs(events)).toEqual({ to: 2, tasks: [[1, 1], [2, 2]] }); // biome-ignore format: a table
  });

  test('ends when the texts are long', async () => {
    const events = [event(1, 1), event(2, 2), event(3, 1, me), event(4, 3)];
    expect(await seqs(events, 1024 * 1024)).toEqual({ to: 4, tasks: [[2, 2], [1, 3], [3, 4]] }); // biome-ignore format: a table
    expect(await seqs(events, 2 * 1024 * 1024)).toEqual({ to: 1, tasks: [[1, 1]] });
    expect(await seqs(events, 9 * 1024 * 1024)).toEqual({ to: 1, tasks: [[1, 1]] });
  });

  test.each([
    ['at the beginning', [event(2, 1)]],
    ['in the middle', [event(1, 1), event(3, 1)]],
    ['everywhere', []],
  ])('a gap %s is an error', async (_, events) => {
    await expect(readFeedBatch(feedOf(events), 0, 3, [])).rejects.toThrow(FeedGapError);
  });
});

describe('the reader of the feed', () => {
  test('passes an event over that cannot be read: the others are delivered, and watchers begin anew', async () => {
    const bad = 250;
    let newest = 300;
    const repository: FeedRepository = {
      state: () => Promise.resolve({ generation: 'one', seq: newest, floorSeq: 0 }),
      events: (after, limit) =>
        Promise.resolve(
          Array.from({ length: Math.min(limit, newest - after) }, (_, i) => ({
            seq: after + 1 + i,
            taskId: idOf(after + 1 + i),
            before: undefined,
          })),
        ),
      tasks: (ids) =>
        ids.some((id) => id.equals(idOf(bad)))
          ? Promise.reject(new SyntaxError('Unexpected end of JSON input'))
          : Promise.resolve({ rows: [], covered: ids.length }),
    };
    const feed = new TaskFeed(repository, createLog('silent'));
    const delivered: number[] = [];
    let lost = 0;
    const listener = {
      parameterNames: [],
      deliver: ({ tasks }: { readonly tasks: readonly TaskUpdate[] }) => void delivered.push(...tasks.map(({ seq }) => seq)),
      lose: () => {
        lost += 1;
      },
    };
    const hurry = setInterval(() => feed.wake(), 1);
    try {
      expect(feed.join(listener, { generation: 'one', seq: 0, floorSeq: 0 })).toBe(true);
      await expect.poll(() => lost, { timeout: 15_000 }).toBe(1);
      expect(delivered).toEqual(Array.from({ length: bad - 1 }, (_, i) => i + 1));

      newest = 310;
      expect(feed.join(listener, { generation: 'one', seq: 300, floorSeq: 0 })).toBe(true);
      await expect.poll(() => delivered.at(-1), { timeout: 15_000 }).toBe(310);
      expect(lost).toBe(1);
    } finally {
      clearInterval(hurry);
      await feed.stop();
    }
  });

  /** How a reader at event 5 fares whose feed has these newest events, one after the other, the last for ever. */
  async function readOf(newest: readonly number[], mayLagMs: number): Promise<{ readonly to: number; readonly lost: number }> {
    let looks = 0;
    const seq = (): number => newest[Math.min(looks, newest.length - 1)] ?? 0;
    const repository: FeedRepository = {
      state() {
        const at = { generation: 'one', seq: seq(), floorSeq: 0 };
        looks += 1;
        return Promise.resolve(at);
      },
      events: (after, limit) =>
        Promise.resolve(
          Array.from({ length: limit }, (_, i) => ({ seq: after + 1 + i, taskId: idOf(after + 1 + i), before: undefined })),
        ),
      tasks: (ids) => Promise.resolve({ rows: [], covered: ids.length }),
    };
    const feed = new TaskFeed(repository, createLog('silent'), { mayLagMs });
    const seen = { to: 5, lost: 0 };
    const listener = {
      parameterNames: [],
      deliver({ to }: { readonly to: number }) {
        seen.to = to;
      },
      lose() {
        seen.lost += 1;
      },
    };
    const hurry = setInterval(() => feed.wake(), 1);
    try {
      feed.join(listener, { generation: 'one', seq: 5, floorSeq: 0 });
      await expect.poll(() => seen.lost + seen.to).toBeGreaterThan(5);
      return seen;
    } finally {
      clearInterval(hurry);
      await feed.stop();
    }
  }

  test('waits for a feed that is behind, as on another node of a cluster, and no longer than it may be', async () => {
    expect(await readOf([3, 4, 5, 3, 7], 60_000)).toEqual({ to: 7, lost: 0 });
    expect(await readOf([3, 4, 5, 3, 7], 0)).toEqual({ to: 5, lost: 1 });
    expect(await readOf([3], 100)).toEqual({ to: 5, lost: 1 });
  });
});
