import { describe, expect, test } from 'vitest';
import { errorForLog, processOrDeadLetter } from '../../src/projection/dead-letters.ts';

const poison = Object.assign(new Error('Data too long'), { sqlState: '22001', errno: 1406 });

/** Works on numbers; fails when a bad one is among them. */
async function run(items: readonly number[], bad: ReadonlyMap<number, unknown>, options: { patient?: boolean } = {}) {
  const done: number[] = [];
  const deadLetters: number[] = [];
  let attempts = 0;
  await processOrDeadLetter(
    items,
    async (some, begin) => {
      attempts += 1;
      begin();
      for (const item of some) if (bad.has(item)) throw bad.get(item);
      done.push(...some);
    },
    async (item) => {
      deadLetters.push(item);
    },
    options,
  );
  return { done, deadLetters, attempts };
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

describe('processing with dead letters', () => {
  test('all at once when nothing is wrong', async () => {
    expect(await run(upTo(500), new Map())).toEqual({ done: upTo(500), deadLetters: [], attempts: 1 });
  });

  test('nothing to do is one attempt', async () => {
    expect(await run([], new Map())).toEqual({ done: [], deadLetters: [], attempts: 1 });
  });

  test.each([[[0]], [[499]], [[250]], [[0, 1, 2]], [[3, 77, 200, 499]]])(
    'dead-letters exactly %j and does the rest',
    async (bad) => {
      const { done, deadLetters, attempts } = await run(upTo(500), new Map(bad.map((item) => [item, poison])));
      expect(deadLetters).toEqual(bad);
      expect(done).toEqual(upTo(500).filter((item) => !bad.includes(item)));
      expect(attempts).toBeLessThan(bad.length * 20);
    },
  );

  test.each<[what: string, error: unknown]>([
    ['a statement over its limit on MariaDB', { sqlState: '70100', errno: 1969 }],
    ['a statement over its limit on MySQL', { sqlState: 'HY000', errno: 3024 }],
    ['a constraint', { sqlState: '23000', errno: 4025 }],
    ['a check of MySQL', { sqlState: 'HY000', errno: 3819 }],
    ['an error that SQL raises', { sqlState: '45000', errno: 1644 }],
  ])('%s is the fault of one', async (_what, error) => {
    const { deadLetters } = await run([1, 2, 3], new Map([[2, Object.assign(new Error('no'), error)]]));
    expect(deadLetters).toEqual([2]);
  });

  test('so is a bug of ours', async () => {
    const { deadLetters } = await run([1, 2, 3], new Map([[2, new TypeError('x is undefined')]]));
    expect(deadLetters).toEqual([2]);
  });

  test.each<[what: string, error: unknown]>([
    ['a lost connection', { code: 'PROTOCOL_CONNECTION_LOST' }],
    ['a refused connection', { code: 'ECONNREFUSED', errno: -111 }],
    ['a deadlock', { sqlState: '40001', errno: 1213 }],
    ['a transaction of another member of the group that was first', { sqlState: '40000', errno: 3101 }],
    ['an error at COMMIT in Galera', { sqlState: 'HY000', errno: 1180 }],
    ['a lock wait', { sqlState: 'HY000', errno: 1205 }],
    ['a missing table', { sqlState: '42S02', errno: 1146 }],
    ['a missing right', { sqlState: '42000', errno: 1142 }],
    ['a full disk', { sqlState: 'HY000', errno: 1114 }],
    ['a read-only server', { sqlState: 'HY000', errno: 1290 }],
    ['being fenced off', { name: 'FencedError' }],
  ])('%s is nobody’s fault, and is thrown', async (_what, error) => {
    const thrown = Object.assign(new Error('no'), error);
    await expect(run([1, 2, 3], new Map([[2, thrown]]))).rejects.toBe(thrown);
  });

  test('where it is patient, a connection that is lost at the same one again and again is the fault of that one', async () => {
    const lost = { code: 'PROTOCOL_CONNECTION_LOST' };
    const { done, deadLetters } = await run([1, 2, 3, 4], new Map([[2, lost]]), { patient: true });
    expect(deadLetters).toEqual([2]);
    expect(done).toEqual([1, 3, 4]);
  });

  test('also then, a transaction of another server that was first is waited for', async () => {
    const done: number[] = [];
    let conflicts = 0;
    const error = Object.assign(new Error('Deadlock found'), { sqlState: '40001', errno: 1213 });
    const process = async (some: readonly number[], begin: () => void): Promise<void> => {
      begin();
      conflicts += 1;
      if (conflicts <= 4) throw error;
      done.push(...some);
    };
    const deadLetter = () => Promise.reject(new Error('nothing is to blame'));
    await processOrDeadLetter([1, 2], process, deadLetter, { patient: true });
    expect(done).toEqual([1, 2]);
    conflicts = 0;
    await expect(processOrDeadLetter([1, 2], process, deadLetter)).rejects.toBe(error);
  });

  test('also then, what is refused at COMMIT is tried in smaller parts, and what is refused by itself is nobody’s fault', async () => {
    const refused = Object.assign(new Error('Got error 90 "Message too long" during COMMIT'), { sqlState: 'HY000', errno: 1180 });
    const done: number[] = [];
    const deadLetter = () => Promise.reject(new Error('nothing is to blame'));
    const atMost = (most: number) => async (some: readonly number[], begin: () => void) => {
      begin();
      if (some.length > most) throw refused;
      done.push(...some);
    };
    await processOrDeadLetter(upTo(500), atMost(63), deadLetter, { patient: true });
    expect(done).toEqual(upTo(500));
    await expect(processOrDeadLetter([1, 2], atMost(0), deadLetter, { patient: true })).rejects.toBe(refused);
  });

  test('also then, what fails before it has begun is nobody’s fault', async () => {
    const error = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' });
    const refused = processOrDeadLetter(
      [1, 2],
      () => Promise.reject(error),
      async () => {},
      { patient: true },
    );
    await expect(refused).rejects.toBe(error);
  });
});

describe('an error in the log', () => {
  test.each<[what: string, error: Error, fields: object]>([
    [
      'of the server, without the statement',
      Object.assign(new Error('insert into … - Data too long'), { code: 'ER_DATA_TOO_LONG', sqlMessage: 'Data too long' }),
      { code: 'ER_DATA_TOO_LONG', reason: 'Data too long' },
    ],
    [
      'of the connection, without the statement',
      Object.assign(new Error('insert into `a - b` … - write EPIPE'), { code: 'EPIPE' }),
      { code: 'EPIPE', reason: 'write EPIPE' },
    ],
  ])('%s', (_what, error, fields) => {
    expect(errorForLog(error)).toEqual(fields);
  });

  test('of this program, with its stack', () => {
    const error = new TypeError('x - y');
    expect(errorForLog(error)).toEqual({ err: error });
  });
});
