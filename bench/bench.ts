import type { DataSet } from './data.ts';
import type { Load, LoadClient, LoadResult } from './load.ts';
import type { Program } from './program.ts';

/** What the parts of the benchmark share. */
export interface Bench {
  /** Whether data are small and rounds few. That is enough to check ratios, and not for figures. */
  readonly quick: boolean;
  /** The numbers of tasks to measure at, in ascending order. */
  readonly sizes: readonly number[];
  readonly load: LoadClient;
  /** Opens the data set of a size. Later calls return the same one. */
  dataSet(tasks: number): Promise<DataSet>;
  /** Starts our service on the data set of a size. Later calls return the same one. */
  ours(tasks: number): Promise<Program>;
}

/** A part of the benchmark. */
export type Part = (bench: Bench) => Promise<readonly Table[]>;

/** The figures of a part. */
export interface Table {
  readonly title: string;
  readonly rows: readonly Readonly<Record<string, string | number>>[];
  readonly checks?: readonly Check[];
}

/** A figure with a target. */
export interface Check {
  readonly what: string;
  readonly value: number;
  readonly least?: number;
  readonly most?: number;
  /**
   * The share of the target that is enough in a quick run: with 0.5, a ratio of 0.40 passes where 0.80 is the target. Absent where
   * only a complete run can decide.
   */
  readonly quickSlack?: number;
}

/** Whether a figure meets its target, with slack in a quick run. */
export function isMet({ value, least, most, quickSlack }: Check, quick: boolean): boolean {
  if (quick && quickSlack === undefined) return true;
  const slack = quick ? (quickSlack ?? 1) : 1;
  return (least === undefined || value >= least * slack) && (most === undefined || value <= most / slack);
}

/** A server in a comparison, and the request it gets. */
export interface Contestant {
  readonly name: string;
  readonly program: Program;
  readonly load: Omit<Load, 'requests'>;
  readonly status: number;
  /** The size of each answer, where all have the same size. */
  readonly bytes?: number;
}

/** A round of one contestant. */
export interface Round extends LoadResult {
  readonly cpuMsPerCall: number;
  readonly rssMiB: number;
}

/**
 * Measures contestants in turns, A B C A B C …, so that other work on the machine slows all of them alike. The status of every answer
 * is checked, and its size or a part of its contents. Rounds before the first one warm up the JIT compiler and find out how many
 * requests fill a round.
 *
 * @param seconds the approximate time of a round.
 * @returns the rounds of each contestant, in the contestants' order.
 */
export async function takeTurns(
  bench: Bench,
  contestants: readonly Contestant[],
  rounds: number,
  seconds: number,
): Promise<readonly (readonly Round[])[]> {
  const requests: number[] = [];
  for (const contestant of contestants) {
    let { callsPerSecond } = await playRound(bench, contestant, 400);
    const filling = (rounds: number): number => Math.max(200, Math.ceil(callsPerSecond * seconds * rounds));
    for (const rounds of bench.quick ? warmUps.slice(0, 1) : warmUps)
      ({ callsPerSecond } = await playRound(bench, contestant, filling(rounds)));
    requests.push(filling(1));
  }
  const results = contestants.map((): Round[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      results[index]?.push(await playRound(bench, contestant, requests[index] ?? 0));
    }
  }
  return results;
}

/** The lengths of the rounds that warm up, in usual rounds. */
const warmUps = [1, 2];

/** How often a round is repeated in which calls were refused, as happens on a busy machine. */
const mostReplays = 3;

async function playRound(bench: Bench, contestant: Contestant, requests: number, replays = 0): Promise<Round> {
  const { name, program, load, status, bytes } = contestant;
  const before = program.usage();
  const result = await bench.load({ ...load, requests });
  const after = program.usage();
  program.forgetLog();
  const isSized = bytes === undefined || result.bodyBytes === requests * bytes;
  if (result.statuses[status] !== requests || result.wrong > 0 || !isSized) {
    const seen = `${JSON.stringify(result.statuses)} and ${result.bodyBytes / requests} bytes a call, ${result.wrong} of them wrong`;
    const message = `${name} has not answered ${requests} calls with ${status} and ${bytes ?? 'the right'} bytes each, but with ${seen}`;
    if (replays === mostReplays) throw new Error(message);
    console.error(`${message}; once more`);
    return playRound(bench, contestant, requests, replays + 1);
  }
  return { ...result, cpuMsPerCall: (after.cpuMs - before.cpuMs) / requests, rssMiB: after.rssMiB };
}
