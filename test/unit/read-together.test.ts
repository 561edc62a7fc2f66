import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Scope } from '../../src/tasks/scope.ts';
import { mostTogether, type ReadByIds, readTogether } from '../../src/tasks/store/read-together.ts';
import type { TaskRow } from '../../src/tasks/store/tables.ts';

const scopeOf = (name: string) => ({ userId: Buffer.from(name) }) as Scope;
const idOf = (number: number) => Buffer.from([number]);
const taskOf = (id: Buffer) => ({ id }) as TaskRow;

/** Notes what is read, and finds every id but those above 200. */
function reader() {
  const statements: { scope: Scope; ids: number[]; signal: AbortSignal | undefined }[] = [];
  const read: ReadByIds = async (scope, ids, signal) => {
    statements.push({ scope, ids: ids.map(([number = 0]) => number), signal });
    await sleep(1);
    signal?.throwIfAborted();
    return ids.filter(([number = 0]) => number <= 200).map(taskOf);
  };
  return { statements, getById: readTogether(read) };
}

describe('tasks that are read together', () => {
  const alice = scopeOf('alice');
  const bob = scopeOf('bob');

  test('what is asked for in one turn of the event loop is one statement, and each gets its own task or none', async () => {
    const { statements, getById } = reader();
    const asked = [3, 1, 201, 3, 2];
    const rows = await Promise.all(asked.map((number) => getById(alice, idOf(number))));
    expect(rows.map((row) => row?.id[0])).toEqual([3, 1, undefined, 3, 2]);
    expect(statements.map(({ ids }) => ids)).toEqual([[3, 1, 201, 2]]);
  });

  test('no statement reads for two callers', async () => {
    const { statements, getById } = reader();
    await Promise.all([getById(alice, idOf(1)), getById(bob, idOf(2)), getById(alice, idOf(3))]);
    expect(statements.map(({ scope, ids }) => [scope, ids])).toEqual([
      [alice, [1, 3]],
      [bob, [2]],
    ]);
  });

  test('who comes after a statement was sent gets another one, and so sees what was committed meanwhile', async () => {
    const { statements, getById } = reader();
    const first = getById(alice, idOf(1));
    await nextTurn();
    const second = getById(alice, idOf(1));
    await Promise.all([first, second]);
    expect(statements).toHaveLength(2);
  });

  test('any number of calls in any turns: each has its own answer, and no statement more ids than the limit', async () => {
    const call = fc.record({ caller: fc.constantFrom(alice, bob), number: fc.nat(255), turn: fc.nat(2) });
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 60 }), async (calls) => {
        const { statements, getById } = reader();
        const rows = await Promise.all(
          calls.map(async ({ caller, number, turn }) => {
            for (let passed = 0; passed < turn; passed++) await nextTurn();
            return getById(caller, idOf(number));
          }),
        );
        expect(rows.map((row) => row?.id[0])).toEqual(calls.map(({ number }) => (number <= 200 ? number : undefined)));
        for (const { scope, ids } of statements) {
          expect(ids.length).toBeLessThanOrEqual(mostTogether);
          for (const id of ids) expect(calls.some(({ caller, number }) => caller === scope && number === id)).toBe(true);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('what a statement fails with, all of its calls fail with', async () => {
    const getById = readTogether(() => Promise.reject(new Error('gone')));
    const outcomes = await Promise.allSettled([1, 2].map((number) => getById(alice, idOf(number))));
    expect(outcomes.map((outcome) => String((outcome as PromiseRejectedResult).reason))).toEqual(['Error: gone', 'Error: gone']);
  });

  test('a statement ends when all of its calls are aborted, and not before', async () => {
    const { statements, getById } = reader();
    const calls = [1, 2, 3].map((number) => {
      const controller = new AbortController();
      return { controller, row: getById(alice, idOf(number), controller.signal).catch(String) };
    });
    calls[0]?.controller.abort(new Error('left early'));
    await nextTurn();
    const [{ signal } = { signal: undefined }] = statements;
    calls[1]?.controller.abort(new Error('left'));
    expect(signal?.aborted).toBe(false);
    calls[2]?.controller.abort(new Error('left last'));
    expect(signal?.aborted).toBe(true);
    expect(await Promise.all(calls.map(({ row }) => row))).toEqual(Array(3).fill('Error: left last'));
  });

  test('a call that nothing can abort keeps the statement of the others', async () => {
    const { getById } = reader();
    const controller = new AbortController();
    const stays = getById(alice, idOf(1));
    const leaves = getById(alice, idOf(2), controller.signal);
    await nextTurn();
    controller.abort();
    expect((await stays)?.id[0]).toBe(1);
    await leaves;
  });

  test('nothing is left behind on the signals of calls that have been answered', async () => {
    const { statements, getById } = reader();
    const controllers = [new AbortController(), new AbortController()];
    await Promise.all(controllers.map(({ signal }, number) => getById(alice, idOf(number), signal)));
    await nextTurn();
    for (const controller of controllers) controller.abort();
    expect(statements[0]?.signal?.aborted).toBe(false);
  });

  test('a call alone has its own signal', async () => {
    const { statements, getById } = reader();
    const { signal } = new AbortController();
    await getById(alice, idOf(1), signal);
    expect(statements[0]?.signal).toBe(signal);
  });
});
