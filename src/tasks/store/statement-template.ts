import type { Knex } from 'knex';
import { LRUCache } from 'lru-cache';
import type { Statement, Value } from '../../db/read-rows.ts';

/** Templates that are kept of each kind of statement: many more than are in use at a time. A text has 2 to 20 KiB. */
const maxTemplates = 500;

/** The place of a value in a statement template: it stands where the value will be bound, and knows its place among the values. */
export class Slot {
  readonly index: number;
  /** Makes it one of the types that Knex binds. */
  readonly [key: string]: unknown;

  constructor(index: number) {
    this.index = index;
  }

  toJSON(): string {
    return `?${this.index}`;
  }
}

/** Every slot that was ever needed: they differ in nothing but their index. */
const allSlots: Slot[] = [];

/** The values of one selection, each behind the slot that stands for it in the structure of the selection. */
export class Bindings {
  readonly values: Value[] = [];

  /** The slot of a value. */
  bind(value: Value): Slot {
    const index = this.values.push(value) - 1;
    const slot = allSlots[index] ?? new Slot(index);
    allSlots[index] = slot;
    return slot;
  }

  /** The slots of a list, in which the last one is repeated until there are as many as a power of two: IN and OR are the same then. */
  bindList(values: readonly Value[]): readonly Slot[] {
    return repeatLast(values.map((value) => this.bind(value)));
  }
}

/** Repeats the last element until there are as many as a power of two, so that lists have few lengths. */
export function repeatLast<T>(list: readonly T[]): readonly T[] {
  const last = list.at(-1);
  const missing = last === undefined ? 0 : 2 ** Math.ceil(Math.log2(list.length)) - list.length;
  return missing === 0 ? list : [...list, ...Array<T>(missing).fill(last as T)];
}

/**
 * Returns what makes statements of one kind out of the structure of a selection and its values. Knex writes the statement once for each
 * structure, which takes longer than running it; afterwards its values are put into their places.
 *
 * @param build writes the statement. It is given the structure alone, in which a `Slot` stands for each value: a value cannot get into
 *   the text or decide what is written. The structure is JSON but for the slots, and all of it is the template's key.
 */
export function createStatementTemplate<Structure extends object>(
  build: (structure: Structure) => Knex.QueryBuilder,
): (structure: Structure, bindings: Bindings) => Statement {
  const templates = new LRUCache<string, Template>({ max: maxTemplates });
  return (structure, { values }) => {
    const key = JSON.stringify(structure);
    let template = templates.get(key);
    if (template === undefined) {
      template = compile(build(structure));
      templates.set(key, template);
    }
    const bound = template.bound.map((each) => (each instanceof Slot ? (values[each.index] as Value) : each));
    return { sql: template.sql, values: bound };
  };
}

/** A statement with a slot, or a word that is always the same, for each `?` of its text. */
interface Template {
  readonly sql: string;
  readonly bound: readonly (Slot | string)[];
}

/** Has Knex write the statement, and puts numbers into its text: the driver would send them as floating-point ones. */
function compile(query: Knex.QueryBuilder): Template {
  const { sql, bindings } = query.toSQL();
  const parts = sql.split('?');
  if (parts.length !== bindings.length + 1) throw new Error('a ? in the statement stands for no value');
  const bound: (Slot | string)[] = [];
  let text = parts[0] ?? '';
  for (const [index, value] of (bindings as readonly unknown[]).entries()) {
    if (value instanceof Slot || typeof value === 'string') {
      bound.push(value);
      text += '?';
    } else if (Number.isSafeInteger(value) || typeof value === 'boolean') text += String(value);
    else throw new TypeError(`a statement template cannot have a value of the type ${typeof value}`);
    text += parts[index + 1] ?? '';
  }
  return { sql: text, bound };
}
