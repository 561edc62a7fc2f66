import type { Knex } from 'knex';
import { LRUCache } from 'lru-cache';
import type { Statement, Value } from '../../db/read-rows.ts';

/** Shapes that are kept at once: many more than people ask for in a day. A text is 2 to 20 KiB. */
const maxShapes = 500;

/**
 * Returns what `build` makes of an input, as a statement or nothing, and builds each shape of inputs once: Knex takes longer to
 * build and to compile a list than the driver to run it.
 *
 * The shape of an input is all that it holds but its values, of which it says which ones are the same. Values are bytes, and the
 * texts of the properties that `texts` names; other texts, numbers and booleans decide what is built.
 *
 * For a new shape the query is built from two sets of made-up values. Where the two statements differ, a value is bound, and
 * nowhere else. Where what differs is no value of the input but was made from one, no statement is kept, and each input of the
 * shape is built for itself. So a value of one caller cannot stay in the statement of another.
 *
 * The object under `scope`, if there is one, must not change: it is read once for all inputs that have it.
 */
export function compileOnce<I extends object>(
  build: (input: I) => Knex.QueryBuilder | undefined,
  texts: readonly string[] = [],
): (input: I) => Statement | undefined {
  const shapes = new LRUCache<string, Shape>({ max: maxShapes });
  const valueTexts = new Set(texts);
  const scopes = new WeakMap<object, { readonly shape: string; readonly reading: Reading }>();
  const begin = (scope: object) => {
    const reading = new Reading(valueTexts);
    const begun = { shape: reading.shapeOf(scope), reading };
    scopes.set(scope, begun);
    return begun;
  };
  return (input) => {
    const { scope } = input as { readonly scope?: object };
    const begun = scope && (scopes.get(scope) ?? begin(scope));
    const reading = new Reading(valueTexts, begun?.reading);
    let key = `${begun?.shape}`;
    for (const name in input) if (name !== 'scope') key += `${name}:${reading.shapeOf(input[name], valueTexts.has(name))},`;
    let shape = shapes.get(key);
    if (shape === undefined) {
      const values = reading.values;
      shape = shapeFrom(
        compile(build(reading.with(madeUp(values, 'a'), input) as I)),
        compile(build(reading.with(madeUp(values, 'b'), input) as I)),
        values,
      );
      shapes.set(key, shape);
    }
    if (shape === 'as it comes') return compile(build(input));
    return shape === 'nothing' ? undefined : { sql: shape.sql, values: shape.bound.map((value) => bind(value, reading.values)) };
  };
}

/** A statement in which each value is the place of one in the input, or a word. */
type Shape = { readonly sql: string; readonly bound: readonly (number | string)[] } | 'as it comes' | 'nothing';

/** What is met while an input is read: each value once, in its order. */
class Reading {
  readonly values: Value[];
  readonly #places = new Map<string, number>();
  readonly #texts: ReadonlySet<string>;
  readonly #before: Reading | undefined;

  /** @param before what has been read already; it stays as it is. */
  constructor(texts: ReadonlySet<string>, before?: Reading) {
    this.#texts = texts;
    this.#before = before;
    this.values = before === undefined ? [] : [...before.values];
  }

  /** A text that two inputs have in common when they differ in their values alone. */
  shapeOf(input: unknown, textIsValue = false): string {
    if (Buffer.isBuffer(input)) return `b${this.#place(`b${input.toString('latin1')}`, input)}`;
    if (typeof input === 'string') return textIsValue ? `t${this.#place(`t${input}`, input)}` : JSON.stringify(input);
    if (typeof input !== 'object' || input === null) return String(input);
    let shape = '';
    if (Array.isArray(input)) {
      for (const one of input) shape += `${this.shapeOf(one, textIsValue)},`;
      return `[${shape}]`;
    }
    for (const name in input) {
      shape += `${name}:${this.shapeOf((input as Record<string, unknown>)[name], this.#texts.has(name))},`;
    }
    return `{${shape}}`;
  }

  /** The input that has been read, with other values in the places of its own. */
  with(values: readonly Value[], input: unknown, textIsValue = false): unknown {
    if (Buffer.isBuffer(input)) return values[this.#place(`b${input.toString('latin1')}`, input)];
    if (typeof input === 'string') return textIsValue ? values[this.#place(`t${input}`, input)] : input;
    if (typeof input !== 'object' || input === null) return input;
    if (Array.isArray(input)) return input.map((one) => this.with(values, one, textIsValue));
    return Object.fromEntries(Object.entries(input).map(([name, one]) => [name, this.with(values, one, this.#texts.has(name))]));
  }

  placeOf(key: string): number | undefined {
    return this.#places.get(key);
  }

  #place(key: string, value: Value): number {
    let place = this.#before?.placeOf(key) ?? this.placeOf(key);
    if (place === undefined) {
      place = this.values.push(value) - 1;
      this.#places.set(key, place);
    }
    return place;
  }
}

/** Values of the same types. Those of two sets have nothing in common, not even a length. */
function madeUp(values: readonly Value[], set: 'a' | 'b'): readonly Value[] {
  return values.map((value, place) => {
    const text = `${set}${place}`.padEnd(set === 'a' ? 16 : 23, set);
    return typeof value === 'string' ? text : Buffer.from(text);
  });
}

/** What two statements from made-up values have in common. */
function shapeFrom(a: Statement | undefined, b: Statement | undefined, values: readonly Value[]): Shape {
  if (a === undefined && b === undefined) return 'nothing';
  if (a === undefined || b === undefined || a.sql !== b.sql || a.values.length !== b.values.length) return 'as it comes';
  const ofA = madeUp(values, 'a');
  const ofB = madeUp(values, 'b');
  const bound: (number | string)[] = [];
  for (const [index, value] of a.values.entries()) {
    const other = b.values[index];
    const place = ofA.findIndex((made, at) => isSame(made, value) && isSame(ofB[at], other));
    if (place >= 0) bound.push(place);
    else if (typeof value === 'string' && value === other) bound.push(value);
    else return 'as it comes';
  }
  return { sql: a.sql, bound };
}

function bind(value: number | string, values: readonly Value[]): Value {
  return typeof value === 'string' ? value : (values[value] as Value);
}

/** Has Knex write the statement, and puts the numbers into its text: the driver would send them as floating-point ones. */
function compile(query: Knex.QueryBuilder | undefined): Statement | undefined {
  if (query === undefined) return undefined;
  const { sql, bindings } = query.toSQL();
  const parts = sql.split('?');
  if (parts.length !== bindings.length + 1) throw new Error('a ? in the statement stands for no value');
  const values: Value[] = [];
  let text = parts[0] ?? '';
  for (const [index, value] of (bindings as readonly unknown[]).entries()) {
    if (typeof value === 'string' || Buffer.isBuffer(value)) {
      values.push(value);
      text += '?';
    } else if (Number.isSafeInteger(value) || typeof value === 'boolean') text += String(value);
    else throw new TypeError(`a statement cannot have a value of the type ${typeof value}`);
    text += parts[index + 1] ?? '';
  }
  return { sql: text, values };
}

function isSame(a: Value | undefined, b: Value | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b) : a === b;
}
