import { describe, expect, test } from 'vitest';
import { FailedBatches } from '../../src/projection/failed-batches.ts';
import type { OutboxChange } from '../../src/schema/outbox.ts';

const changeOf = (seq: number): OutboxChange => ({ seq, kind: 1, ref: Buffer.alloc(16, seq % 256) });
const upTo = (count: number) => Array.from({ length: count }, (_, i) => changeOf(i));

type Kind = 'slow' | 'unclear';

interface World {
  readonly outbox: Map<number, OutboxChange>;
  readonly bad: ReadonlyMap<number, Kind>;
}

/** Runs batches until nothing is left, as the projector would; each failure is an error that says which one it is. */
function run({ outbox, bad }: World, arriving: readonly OutboxChange[] = []) {
  const failed = new FailedBatches();
  const found: { seq: number; error: string }[] = [];
  const later = [...arriving];
  let failures = 0;
  /** How many batches failed from the arrival of a change until it was done. */
  const waited = new Map<number, number>();
  const arrivedAt = new Map<number, number>();
  for (let turn = 0; outbox.size > 0; turn++) {
    expect(turn).toBeLessThan(1000);
    const next = later.shift();
    if (next !== undefined) {
      outbox.set(next.seq, next);
      arrivedAt.set(next.seq, failures);
    }
    const changes = [...outbox.values()].toSorted((a, b) => a.seq - b.seq);
    for (const { change, error } of failed.takeFound(changes)) {
      found.push({ seq: change.seq, error: String(error) });
      outbox.delete(change.seq);
    }
    const some = failed.next(changes.filter(({ seq }) => outbox.has(seq)));
    const culprit = some.find(({ seq }) => bad.has(seq));
    if (culprit === undefined) {
      failed.succeeded();
      for (const { seq } of some) {
        outbox.delete(seq);
        waited.set(seq, failures - (arrivedAt.get(seq) ?? 0));
      }
    } else {
      failures += 1;
      failed.add(some, `failure ${failures}`, bad.get(culprit.seq) ?? 'unclear');
    }
  }
  return { found, failures, waited };
}

const worldOf = (count: number, bad: readonly number[], kind: Kind = 'unclear'): World => ({
  outbox: new Map(upTo(count).map((change) => [change.seq, change])),
  bad: new Map(bad.map((seq) => [seq, kind])),
});

describe('batches that failed', () => {
  test.each([[[0]], [[499]], [[250]], [[0, 1, 2]], [[3, 77, 200, 499]]])('%j of 500 are found, and no other', (bad) => {
    const { found, failures } = run(worldOf(500, bad));
    expect(found.map(({ seq }) => seq).toSorted((a, b) => a - b)).toEqual(bad);
    expect(failures).toBeLessThanOrEqual(bad.length * 9 + 15);
  });

  test('one that takes too long is found by four failures', () => {
    for (const seq of [0, 63, 64, 321, 499]) expect(run(worldOf(500, [seq], 'slow')).failures).toBeLessThanOrEqual(4);
  });

  test('what arrives meanwhile is let through after one failure more at most', () => {
    const arriving = Array.from({ length: 8 }, (_, i) => changeOf(1000 + i));
    const { waited, found } = run(worldOf(500, [7], 'slow'), arriving);
    expect(found.map(({ seq }) => seq)).toEqual([7]);
    const [, ...afterTheFirstFailure] = arriving;
    for (const { seq } of afterTheFirstFailure) expect(waited.get(seq)).toBeLessThanOrEqual(1);
  });

  test('one is told by the first error that it had by itself', () => {
    const { found } = run(worldOf(1, [0]));
    expect(found).toEqual([{ seq: 0, error: 'failure 1' }]);
  });

  test('one that is alone is tried more often than one beside which others are projected', () => {
    expect(run(worldOf(1, [0])).failures).toBe(15);
    const beside = run(worldOf(1, [0]), [changeOf(1), changeOf(2), changeOf(3), changeOf(4), changeOf(5), changeOf(6)]);
    expect(beside.failures).toBeLessThanOrEqual(6);
  });

  test('what no row can cause is held against no change, however often it comes, and whatever is projected meanwhile', () => {
    const failed = new FailedBatches();
    let left = upTo(500);
    const [bad] = left as [OutboxChange];
    for (let turn = 0; turn < 200; turn++) {
      const some = failed.next(left);
      if (some.includes(bad)) failed.add(some, 'lock wait timeout', 'transient');
      else {
        left = left.filter((change) => !some.includes(change));
        failed.succeeded();
      }
      if (left.length === 1) left = [bad, changeOf(1000 + turn)];
      expect(failed.takeFound(left)).toEqual([]);
    }
    expect(left).toContain(bad);
  });

  test('nor does it count beside errors that a change may cause', () => {
    const failed = new FailedBatches();
    const change = changeOf(1);
    failed.add([change], 'lost', 'unclear');
    for (let i = 0; i < 20; i++) failed.add(failed.next([change]), 'lock wait timeout', 'transient');
    failed.succeeded();
    for (let i = 0; i < 3; i++) failed.add(failed.next([change]), 'lost again', 'unclear');
    expect(failed.takeFound([change])).toEqual([]);
    failed.add(failed.next([change]), 'lost again', 'unclear');
    expect(failed.takeFound([change])).toEqual([expect.objectContaining({ change, error: 'lost' })]);
  });

  test('a failure that does not come again leaves nothing behind', () => {
    const failed = new FailedBatches();
    const changes = upTo(20);
    failed.add(failed.next(changes), 'a restart', 'unclear');
    const done = new Set<number>();
    for (let turn = 0; done.size < 20; turn++) {
      expect(turn).toBeLessThan(30);
      const left = changes.filter(({ seq }) => !done.has(seq));
      expect(failed.takeFound(left)).toEqual([]);
      for (const { seq } of failed.next(left)) done.add(seq);
      failed.succeeded();
    }
    const next = [changeOf(100), changeOf(101)];
    expect(failed.next(next)).toEqual(next);
  });

  test('says what had been read when a change failed for the last time', () => {
    const failed = new FailedBatches();
    const [one] = upTo(1) as [OutboxChange];
    failed.next([one, changeOf(2)]);
    failed.add([one], 'no', 'slow');
    const [found] = failed.takeFound([one, changeOf(2), changeOf(3)]);
    expect([found?.wasRead(changeOf(2)), found?.wasRead(changeOf(3))]).toEqual([true, false]);
  });
});
