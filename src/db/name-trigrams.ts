import { LRUCache } from 'lru-cache';
import { type Database, withConnection } from './connection.ts';
import { foldCase } from './letter-case.ts';

/** Up to so many tasks with a part of a name are looked at one by one; above, walking a list meets enough of them soon. */
const fewTasks = 4000;

/** How many trigrams of a name are counted: one of these is rare, or none is. */
const maxCounted = 16;

/** How often a trigram occurs is remembered for so many at once, and so long, in milliseconds: it only decides how to search. */
const remembered = { max: 20_000, ttl: 60_000 };

/** All three characters in a row of a folded name, each once, in UTF-8; none of a shorter name. */
export function trigramsOf(fold: Buffer): Buffer[] {
  const characters = [...fold.toString()];
  const found = new Set<string>();
  for (let at = 0; at + 3 <= characters.length; at++) found.add(characters.slice(at, at + 3).join(''));
  return Array.from(found, (trigram) => Buffer.from(trigram));
}

/** How many tasks have a trigram, up to a limit. */
const countOne =
  'select ? as `place`, count(*) as `count` from (select 1 from `workspace_task_trigrams` as `s` where `s`.`trigram` = ? limit ?) as `n`';

/** Finds the part of a name that the fewest tasks have, if those are few: the search then starts from these. */
export type FindRareTrigram = (name: string, signal?: AbortSignal) => Promise<Buffer | undefined>;

/** Counts trigrams in the database, those of one name in one statement, and remembers them. */
export function createFindRareTrigram(database: Database): FindRareTrigram {
  const counts = new LRUCache<string, number>(remembered);
  return async (name, signal) => {
    const trigrams = trigramsOf(Buffer.from(foldCase(name))).slice(0, maxCounted);
    const unknown = trigrams.filter((trigram) => counts.get(keyOf(trigram)) === undefined);
    if (unknown.length > 0) {
      const counting = database.raw(
        `${countOne}${` union all ${countOne}`.repeat(unknown.length - 1)}`,
        unknown.flatMap((trigram, place) => [place, trigram, fewTasks]),
      );
      const [rows] = await withConnection(
        database,
        signal,
        (connection) => counting.connection(connection) as unknown as Promise<[{ place: number; count: number }[]]>,
      );
      for (const { place, count } of rows) counts.set(keyOf(unknown[place] as Buffer), count);
    }
    const countOf = (trigram: Buffer) => counts.get(keyOf(trigram)) ?? fewTasks;
    const [rarest] = trigrams.toSorted((a, b) => countOf(a) - countOf(b));
    return rarest !== undefined && countOf(rarest) < fewTasks ? rarest : undefined;
  };
}

function keyOf(trigram: Buffer): string {
  return trigram.toString('latin1');
}
