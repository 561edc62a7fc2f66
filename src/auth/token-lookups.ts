import { timingSafeEqual } from 'node:crypto';
import { overloaded } from '../call/errors.ts';

/** Tells tokens that are in the database from those that somebody has made up, many by one statement. */
interface TokenLookups {
  /**
   * Whether there is a key with this id and this hash of its secret.
   *
   * @param address whose token it is: addresses take turns, so that one that sends many tokens waits behind itself.
   * @throws {ConnectError} UNAVAILABLE, to be tried again, when too many wait already.
   */
  exists(address: string, id: string, hashedSecret: Buffer): Promise<boolean>;
}

/** How many look-ups may run, and wait, at once. */
export interface TokenLookupLimits {
  /** Statements at once. Each takes a connection of the pool for about a millisecond. */
  readonly statements: number;
  /** Tokens in one statement. */
  readonly batch: number;
  /** Tokens that wait, of all addresses. Each holds the headers of its call, and at most 64 KiB that its client sends meanwhile. */
  readonly waiting: number;
  /** Tokens that wait, of one address. */
  readonly waitingPerAddress: number;
}

/** Answers tens of thousands of tokens a second by one connection of the pool: 16 MiB of requests wait at most. */
const tokenLookupLimits: TokenLookupLimits = { statements: 1, batch: 100, waiting: 256, waitingPerAddress: 192 };

interface Waiting {
  readonly id: string;
  readonly hashedSecret: Buffer;
  resolve(exists: boolean): void;
  reject(reason: unknown): void;
}

/**
 * Makes the limit of work that callers nobody knows yet can cause. Tokens are free to make up, so that counting bad ones would
 * refuse somebody's good one behind the same proxy; what is limited is how many are looked up at once.
 *
 * @param findSecrets reads the hashed secrets of the keys with some ids.
 */
export function createTokenLookups(
  findSecrets: (ids: readonly string[]) => Promise<ReadonlyMap<string, Buffer>>,
  limits: TokenLookupLimits = tokenLookupLimits,
): TokenLookups {
  const queues = new Map<string, Waiting[]>();
  let waiting = 0;
  let statements = 0;

  /** The next tokens, one of each address in turns. */
  const takeBatch = (): Waiting[] => {
    const batch: Waiting[] = [];
    while (batch.length < limits.batch) {
      const [next] = queues;
      if (next === undefined) break;
      const [address, queue] = next;
      const first = queue.shift();
      queues.delete(address);
      if (queue.length > 0) queues.set(address, queue); // behind the other addresses
      if (first !== undefined) batch.push(first);
    }
    waiting -= batch.length;
    return batch;
  };

  const look = async (): Promise<void> => {
    const batch = takeBatch();
    try {
      const secrets = await findSecrets(batch.map(({ id }) => id));
      for (const { id, hashedSecret, resolve } of batch) resolve(isSame(secrets.get(id), hashedSecret));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };

  const lookAll = async (): Promise<void> => {
    while (waiting > 0) await look();
    statements -= 1;
  };

  return {
    async exists(address, id, hashedSecret) {
      const queue = queues.get(address) ?? [];
      if (waiting >= limits.waiting || queue.length >= limits.waitingPerAddress) throw overloaded();
      const answer = new Promise<boolean>((resolve, reject) => queue.push({ id, hashedSecret, resolve, reject }));
      queues.set(address, queue);
      waiting += 1;
      if (statements < limits.statements) {
        statements += 1;
        void lookAll();
      }
      return answer;
    },
  };
}

function isSame(a: Buffer | undefined, b: Buffer): boolean {
  return a !== undefined && a.length === b.length && timingSafeEqual(a, b);
}
