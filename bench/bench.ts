import type { DataSet } from './data.ts';
import type { Load, LoadClient, LoadResult } from './load.ts';
import type { Program } from './program.ts';

/** What the parts of the benchmark share. */
export interface Bench {
  /** Small data and few rounds: for a check of ratios, not for figures. */
  readonly quick: boolean;
  /** Numbers of tasks, from the smallest. */
  readonly sizes: readonly number[];
  readonly load: LoadClient;
  /** Opens a data set, once. */
  dataSet(tasks: number): Promise<DataSet>;
  /** Our service on a data set, started once. */
  ours(tasks: number): Promise<Program>;
}

/** A part of the benchmark. */
export type Part = (bench: Bench) => Promise<readonly Table[]>;

/** What a part has found. */
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
   * How much of the target is enough in a quick run, on a small and busy machine: 0.5 lets a ratio of 0.40 pass for one of 0.80.
   * Absent where only a complete run can tell.
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
  /** Of each answer, where all have the same. */
  readonly bytes?: number;
}

/** A round of one contestant. */
export interface Round extends LoadResult {
  readonly cpuMsPerCall: number;
  readonly rssMiB: number;
}

/**
 * Lets contestants take turns, A B C A B C …, so that what else happens on the machine meets all of them. Every answer is held to
 * its status and its size, or to what it should contain. What comes first is for warming up, until the compiler of the engine has done its work, and decides how
 * many requests fill the time of a round.
 *
 * @param seconds how long a round takes, about.
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

/** The rounds for warming up, by how many of the usual ones each takes. */
const warmUps = [1, 2];

/** How often a round is played again in which calls were refused: on a machine that is busy with other things that happens. */
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
