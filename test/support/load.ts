import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorInfoSchema, RetryInfoSchema } from '../../src/gen/google/rpc/error_details_pb.ts';
import { TasksService } from '../../src/gen/tasks/v1/tasks_pb.ts';
import type { GrpcClient } from './clients.ts';
import type { OwnerWithTasks } from './owner-with-tasks.ts';

/** What became of a call. */
export interface CallRecord {
  readonly startedAt: number;
  readonly milliseconds: number;
  /** `OK`, the reason of the error, or its code where it has none. */
  readonly outcome: string;
  /** Whether an error said when to try again. */
  readonly mayRetry: boolean;
}

/** Calls whose answers are known, made over and over, each answer compared. */
export class Load {
  /** What was wrong about answers: empty, or the service is broken. */
  readonly wrong: string[] = [];
  readonly calls: CallRecord[] = [];
  readonly #clients: readonly GrpcClient[];
  readonly #owner: OwnerWithTasks;
  readonly #deadlineMs: number;
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #made = 0;

  constructor(clients: readonly GrpcClient[], owner: OwnerWithTasks, { deadlineMs = 5000 } = {}) {
    this.#clients = clients;
    this.#owner = owner;
    this.#deadlineMs = deadlineMs;
  }

  /** From now on starts so many calls a second, whatever becomes of them. */
  start(perSecond: number): void {
    const began = performance.now();
    let started = 0;
    this.#timer = setInterval(() => {
      for (const due = ((performance.now() - began) / 1000) * perSecond; started < due; started++) void this.call();
    }, 2);
  }

  /** Makes calls one after the other, so many at once, until the time is over. Returns how many a second were answered. */
  async saturate(atOnce: number, milliseconds: number): Promise<number> {
    const began = performance.now();
    const before = this.calls.length;
    const until = began + milliseconds;
    const one = async (): Promise<void> => {
      while (performance.now() < until) await this.call();
    };
    await Promise.all(Array.from({ length: atOnce }, one));
    const answered = this.calls.slice(before).filter(({ outcome }) => outcome === 'OK').length;
    return (1000 * answered) / (performance.now() - began);
  }

  /** Starts no more calls, and resolves when all have ended. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }

  /** Makes one call. */
  call(): Promise<void> {
    const call = this.#call().finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
    return call;
  }

  /** Resolves with the time it took until this many calls in a row, started from now on, were answered. */
  async recovered(inARow = 20, withinMs = 15_000): Promise<number> {
    const began = performance.now();
    for (;;) {
      const since = this.calls.filter(({ startedAt }) => startedAt >= began);
      const last = since.slice(-inARow);
      const [first] = last;
      if (first !== undefined && last.length === inARow && last.every(({ outcome }) => outcome === 'OK')) {
        const lastFailure = since.findLast(({ outcome }) => outcome !== 'OK');
        return lastFailure === undefined ? 0 : lastFailure.startedAt + lastFailure.milliseconds - began;
      }
      if (performance.now() - began > withinMs) throw new Error(`no recovery in ${withinMs} ms: ${this.summary(began)}`);
      await new Promise((resolve) => {
        setTimeout(resolve, 20);
      });
    }
  }

  /** How many calls had each outcome, from a time on. */
  outcomes(from = 0, to = Number.POSITIVE_INFINITY): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { startedAt, outcome } of this.calls) {
      if (startedAt >= from && startedAt < to) counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
    return counts;
  }

  /** The calls that ended so long after their deadline that the service cannot have minded it, in milliseconds. */
  hung(slackMs = 1500): CallRecord[] {
    return this.calls.filter(({ milliseconds }) => milliseconds > this.#deadlineMs + slackMs);
  }

  summary(from = 0): string {
    return JSON.stringify({ outcomes: this.outcomes(from), wrong: this.wrong.slice(0, 5) });
  }

  async #call(): Promise<void> {
    const startedAt = performance.now();
    const record = (outcome: string, mayRetry = false): void => {
      this.calls.push({ startedAt, milliseconds: performance.now() - startedAt, outcome, mayRetry });
    };
    this.#made += 1;
    const { tasks, token } = this.#owner;
    const at = (this.#made * 7919) % tasks.length;
    const task = tasks[at];
    const client = this.#clients[this.#made % this.#clients.length];
    if (task === undefined || client === undefined) throw new Error('there is nothing to call');
    const options = { headers: { 'coder-session-token': token }, timeoutMs: this.#deadlineMs };
    try {
      if (this.#made % 2 === 0) {
        const identifier = { case: 'id', value: task.id } as const;
        const { message } = await client.unary(TasksService.method.getTask, { identifier }, options);
        this.#compare([message.task?.name], [task.name]);
      } else {
        const query = `name:${task.name}`;
        const { message } = await client.unary(TasksService.method.listTasks, { query, pageSize: 5 }, options);
        this.#compare(
          message.tasks.map(({ id }) => id),
          [task.id],
        );
      }
      record('OK');
    } catch (error) {
      const failure = ConnectError.from(error);
      const reason = failure.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[failure.code];
      record(reason, failure.findDetails(RetryInfoSchema).length > 0);
    }
  }

  #compare(found: readonly unknown[], expected: readonly unknown[]): void {
    if (JSON.stringify(found) !== JSON.stringify(expected))
      this.wrong.push(`${JSON.stringify(found)}, not ${JSON.stringify(expected)}`);
  }
}

/** The value that so many of the calls stayed below, in milliseconds. */
export function quantileMs(calls: readonly CallRecord[], share: number): number {
  const sorted = calls.map(({ milliseconds }) => milliseconds).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
