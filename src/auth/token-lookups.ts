import { timingSafeEqual } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { networkOf } from '../call/network.ts';

/** Tells tokens that are in the database from made-up ones, many by one statement. */
interface TokenLookups {
  /**
   * Whether there is a key with this id and this hash of its secret.
   *
   * @param address where the call comes from: networks take turns, so that one that sends many tokens waits behind itself.
   */
  matches(address: string, id: string, hashedSecret: Buffer): Promise<boolean>;
}

/** How many look-ups may run at once. How many may wait is limited by admission. */
export interface TokenLookupLimits {
  /** Statements at once. Each takes a connection of the pool for about a millisecond. */
  readonly statements: number;
  /** Tokens in one statement. */
  readonly batch: number;
  /**
   * After so many milliseconds a token that was not found is looked up once more: another node may have it a moment earlier. 0
   * means that it is not.
   */
  readonly lookAgainMs: number;
}

/** Answers tens of thousands of tokens a second by one connection of the pool. */
const tokenLookupLimits: TokenLookupLimits = { statements: 1, batch: 100, lookAgainMs: 0 };

/**
 * Most tokens of one network, and in all, that wait to be looked up once more. Others are refused at once, so that made-up tokens
 * cost a few statements a second more, however many come.
 */
const mostWaiting = { perNetwork: 10, total: 100 } as const;

interface Waiting {
  readonly id: string;
  readonly hashedSecret: Buffer;
  resolve(matches: boolean): void;
  reject(reason: unknown): void;
}

/**
 * Limits the look-ups of tokens that are not cached. Failures are not counted: made-up tokens are free, and a limit of failures
 * would refuse valid tokens behind the same proxy.
 *
 * @param findSecrets reads the hashed secrets of the keys with some ids.
 */
export function createTokenLookups(
  findSecrets: (ids: readonly string[]) => Promise<ReadonlyMap<string, Buffer>>,
  some: Partial<TokenLookupLimits> = {},
): TokenLookups {
  const limits = { ...tokenLookupLimits, ...some };
  const queues = new Map<string, Waiting[]>();
  /** The networks of the tokens that wait to be looked up once more. */
  const again: string[] = [];
  let statements = 0;

  /** The next tokens, one of each network in turns. */
  const takeBatch = (): Waiting[] => {
    const batch: Waiting[] = [];
    while (batch.length < limits.batch) {
      const [next] = queues;
      if (next === undefined) break;
      const [network, queue] = next;
      const first = queue.shift();
      queues.delete(network);
      if (queue.length > 0) queues.set(network, queue); // behind the other networks
      if (first !== undefined) batch.push(first);
    }
    return batch;
  };

  const runBatch = async (): Promise<void> => {
    const batch = takeBatch();
    try {
      const secrets = await findSecrets(batch.map(({ id }) => id));
      for (const { id, hashedSecret, resolve } of batch) resolve(isSame(secrets.get(id), hashedSecret));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };

  const runAll = async (): Promise<void> => {
    while (queues.size > 0) await runBatch();
    statements -= 1;
  };

  const lookUp = (network: string, id: string, hashedSecret: Buffer): Promise<boolean> => {
    const queue = queues.get(network) ?? [];
    const answer = new Promise<boolean>((resolve, reject) => queue.push({ id, hashedSecret, resolve, reject }));
    queues.set(network, queue);
    if (statements < limits.statements) {
      statements += 1;
      void runAll();
    }
    return answer;
  };

  const mayWait = (network: string): boolean =>
    again.length < mostWaiting.total && again.filter((one) => one === network).length < mostWaiting.perNetwork;

  return {
    async matches(address, id, hashedSecret) {
      const network = networkOf(address);
      if (await lookUp(network, id, hashedSecret)) return true;
      if (limits.lookAgainMs === 0 || !mayWait(network)) return false;
      again.push(network);
      try {
        await sleep(limits.lookAgainMs);
        return await lookUp(network, id, hashedSecret);
      } finally {
        again.splice(again.indexOf(network), 1);
      }
    },
  };
}

function isSame(a: Buffer | undefined, b: Buffer): boolean {
  return a !== undefined && a.length === b.length && timingSafeEqual(a, b);
}
