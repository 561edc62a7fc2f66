import type { Knex } from 'knex';
import { LRUCache } from 'lru-cache';
import { type Database, withConnection } from '../../db/connection.ts';
import { foldCase } from '../../db/letter-case.ts';
import type { Slot } from './statement-template.ts';

/** Up to so many tasks with rare trigrams are read one by one; of more, walking a list meets enough soon. */
const fewTasks = 4000;

/** How many trigrams of a name are counted, and looked up together. */
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

/**
 * Finds trigrams of a name that few tasks have: one that is rare by itself, or all of them where they are rare together. The search
 * then starts from the tasks that have them. Undefined where they are in too many names.
 */
type FindRareTrigrams = (name: string, signal?: AbortSignal) => Promise<readonly Buffer[] | undefined>;

/** Counts trigrams in the database, those of one name in one statement and, if none is rare, together in another; remembers both. */
export function createFindRareTrigrams(database: Database): FindRareTrigrams {
  const counts = new LRUCache<string, number>(remembered);
  return async (name, signal) => {
    const run = <Result>(query: Knex.QueryBuilder | Knex.Raw): Promise<Result> =>
      withConnection(database, signal, async (connection) => (await query.connection(connection)) as Result);
    const trigrams = trigramsOf(Buffer.from(foldCase(name))).slice(0, maxCounted);
    const unknown = trigrams.filter((trigram) => counts.get(keyOf(trigram)) === undefined);
    if (unknown.length > 0) {
      const counting = database.raw(
        `${countOne}${` union all ${countOne}`.repeat(unknown.length - 1)}`,
        unknown.flatMap((trigram, place) => [place, trigram, fewTasks]),
      );
      const [rows] = await run<[{ place: number; count: number }[]]>(counting);
      for (const { place, count } of rows) counts.set(keyOf(unknown[place] as Buffer), count);
    }
    const countOf = (trigram: Buffer) => counts.get(keyOf(trigram)) ?? fewTasks;
    const [rarest, other] = trigrams.toSorted((a, b) => countOf(a) - countOf(b));
    if (rarest === undefined || countOf(rarest) < fewTasks) return rarest && [rarest];
    if (other === undefined) return undefined;
    const all = trigrams.map(keyOf).join(' ');
    if (counts.get(all) === undefined) {
      // select count(*) as count from (<tasksWith> limit ?) as n
      const counting = database.from(tasksWith(database, trigrams).limit(fewTasks).as('n')).count({ count: '*' });
      const [row] = await run<{ count: number }[]>(counting);
      counts.set(all, row?.count ?? fewTasks);
    }
    return (counts.get(all) ?? fewTasks) < fewTasks ? trigrams : undefined;
  };
}

/**
 * The tasks whose names have all of these trigrams. The optimizer begins with the rarest:
 *
 *     select s0.owner_id, s0.task_id from workspace_task_trigrams as s0
 *     join workspace_task_trigrams as s1 on s1.owner_id = s0.owner_id and s1.task_id = s0.task_id …
 *     where s0.trigram = ? and s1.trigram = ? … and s0.owner_id = ?
 */
export function tasksWith<Bound extends Buffer | Slot>(
  database: Database,
  trigrams: readonly Bound[],
  ownerId?: Bound,
): Knex.QueryBuilder {
  const query = database.queryBuilder().select('s0.owner_id', 's0.task_id');
  for (const [place, trigram] of trigrams.entries()) {
    const s = `s${place}`;
    if (place === 0) query.from({ s0: 'workspace_task_trigrams' });
    else
      query.join({ [s]: 'workspace_task_trigrams' }, (on) =>
        on.on(`${s}.owner_id`, 's0.owner_id').andOn(`${s}.task_id`, 's0.task_id'),
      );
    query.where(`${s}.trigram`, trigram);
  }
  if (ownerId !== undefined) query.where('s0.owner_id', ownerId);
  return query;
}

function keyOf(trigram: Buffer): string {
  return trigram.toString('latin1');
}
