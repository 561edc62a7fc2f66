import { echo } from '../call/errors.ts';
import { formatDatetime } from '../db/datetime.ts';
import { parseUuid } from '../db/uuid.ts';
import { TaskPhase, TaskState, WorkspaceStatus } from '../gen/tasks/v1/tasks_pb.ts';
import type { TaskFilter } from './store/task-filter.ts';

/** Whose tasks a query means. */
export type OwnerTerm =
  | { readonly kind: 'me' }
  | { readonly kind: 'everyone' }
  | { readonly kind: 'id'; readonly id: Buffer }
  | { readonly kind: 'username'; readonly username: string };

/** What a query names, which must be looked up. All names are lower-cased. */
export interface QueryNames {
  readonly template?: string;
  readonly organization?: string;
  /** A username, or `me`. */
  readonly sharedWithUser?: string;
  /** A group of an organization, or of the default one. */
  readonly sharedWithGroup?: { readonly organization?: string; readonly name: string };
}

/** What a query says, while it is being read. */
export interface TermsDraft {
  /** What needs no looking up. */
  readonly filter: { -readonly [Key in keyof TaskFilter]: TaskFilter[Key] };
  readonly names: { -readonly [Key in keyof QueryNames]: QueryNames[Key] };
  owner?: OwnerTerm;
}

/** What is wrong with the values of a key, and with which of them. */
export interface InvalidValue {
  readonly description: string;
  /** The index of the value. */
  readonly value: number;
}

/** A key of the query: how its values are read into the terms. */
export interface QueryKey {
  /** Whether it may be given several times, and each value may be a list with commas. */
  readonly many: boolean;
  /** Whether a value may have `:` outside quotations, as times do. */
  readonly hasColons: boolean;
  /** Reads the values, at least one. Returns what is wrong with them, if anything is. */
  read(values: readonly [string, ...string[]], terms: TermsDraft): InvalidValue | undefined;
  /** What the key means without a value. Most mean nothing then. */
  readonly byDefault?: (terms: TermsDraft) => void;
}

/** Fewest characters to look for in prompts: fewer are in nearly all of them. */
const minPromptCharacters = 3;

/** Most ids, or other words, in one list of a query. */
export const maxListSize = 200;

/** The words of `status:`, which are Coder's and the lower-cased names of the enum. */
export const statusWords = wordsOf(WorkspaceStatus);
/** The words of `phase:`. */
export const phaseWords = wordsOf(TaskPhase);
/** The words of `state:`, and Coder's word for the last one. */
export const stateWords: ReadonlyMap<string, TaskState> = new Map([...wordsOf(TaskState), ['failure', TaskState.FAILED]]);

/** Every key that a query may have, by its name (coderd/searchquery/search.go, and our own). */
export const queryKeys: ReadonlyMap<string, QueryKey> = new Map<string, QueryKey>([
  [
    'owner',
    single((value, terms) => {
      const id = parseUuid(value);
      if (value === 'me') terms.owner = { kind: 'me' };
      else if (value === '*') terms.owner = { kind: 'everyone' };
      else terms.owner = id === undefined ? { kind: 'username', username: value } : { kind: 'id', id };
    }),
  ],
  ['name', single((value, terms) => void (terms.filter.name = value))],
  [
    'prompt',
    single((value, terms) => {
      if ([...value].length < minPromptCharacters) return `must have at least ${minPromptCharacters} characters`;
      terms.filter.prompt = value;
      return undefined;
    }),
  ],
  ['template', single((value, terms) => void (terms.names.template = value))],
  [
    'organization',
    single((value, terms) => {
      const id = parseUuid(value);
      if (id === undefined) terms.names.organization = value;
      else terms.filter.organizationId = id;
    }),
  ],
  [
    'id',
    list((words, terms) => {
      const ids = words.map(({ text }) => parseLooseUuid(text)); // an empty word is not a UUID, as in Coder
      const wrong = words.filter((_, index) => ids[index] === undefined);
      const [first] = wrong;
      if (first !== undefined) {
        const shown = wrong.slice(0, 3).map(({ text }) => `"${echo(text)}"`);
        return { description: `has invalid values: ${shown.join(', ')}`, value: first.value };
      }
      terms.filter.ids = ids.filter((id) => id !== undefined);
      return undefined;
    }),
  ],
  ['status', oneOf(statusWords, (status, terms) => void (terms.filter.status = status))],
  ['phase', oneOf(phaseWords, (phase, terms) => void (terms.filter.phase = phase))],
  ['state', oneOf(stateWords, (state, terms) => void (terms.filter.state = state))],
  ['waiting', boolean((waiting, terms) => void (terms.filter.waiting = waiting))],
  [
    'has-agent',
    list((words, terms) => {
      terms.filter.agentStatuses = [...(terms.filter.agentStatuses ?? []), ...present(words).map(({ text }) => text)];
      return undefined;
    }),
  ],
  [
    'healthy',
    boolean((healthy, terms) => {
      terms.filter.agentStatuses = [
        ...(terms.filter.agentStatuses ?? []),
        ...(healthy ? ['connected'] : ['disconnected', 'timeout']),
      ];
    }),
  ],
  // `dormant:false` is no filter in Coder: it does not mean active ones.
  ['dormant', boolean((dormant, terms) => void (dormant && (terms.filter.dormant = true)))],
  [
    'outdated',
    {
      ...boolean((outdated, terms) => void (terms.filter.outdated = outdated)),
      byDefault: (terms) => void (terms.filter.outdated = true),
    },
  ],
  ['has_external_agent', boolean((external, terms) => void (terms.filter.externalAgent = external))],
  // Coder overrides it, so that everything listed is a task: only its form is checked.
  ['has-ai-task', boolean(() => {})],
  ['shared', boolean((shared, terms) => void (terms.filter.shared = shared))],
  [
    'shared_with_user',
    single((value, terms) => {
      const id = parseUuid(value);
      if (id === undefined) terms.names.sharedWithUser = value;
      else terms.filter.sharedWithUserId = id;
    }),
  ],
  ['shared_with_group', single(readGroup)],
  ['param', list(readParameters)],
  ['created_after', time((at, terms) => void (terms.filter.createdAfter = at))],
  ['created_before', time((at, terms) => void (terms.filter.createdBefore = at))],
  ['last_used_after', time((at, terms) => void (terms.filter.lastUsedAfter = at))],
  ['last_used_before', time((at, terms) => void (terms.filter.lastUsedBefore = at))],
]);

/** A group: its id, `organization/name`, or a name in the default organization. */
function readGroup(value: string, terms: TermsDraft): string | undefined {
  const id = parseUuid(value);
  const [first = '', second, ...more] = value.split('/');
  if (more.length > 0 || first === '' || second === '')
    return `"${echo(value)}" must be a group's id, organization/group, or group`;
  if (id !== undefined) terms.filter.sharedWithGroupId = id;
  else terms.names.sharedWithGroup = second === undefined ? { name: first } : { organization: first, name: second };
  return undefined;
}

/** Parameters: `name` for its presence, `name=value` for its value. */
function readParameters(words: readonly Word[], terms: TermsDraft): InvalidValue | undefined {
  for (const { text, value } of present(words)) {
    const [name = '', given, ...more] = text.split('=');
    if (more.length > 0) return { description: `"${echo(text)}" can only contain 1 '='`, value };
    if (given === '') {
      return { description: `"${echo(text)}" has an empty value: omit the '=' to match just on the parameter name`, value };
    }
    if (given === undefined) terms.filter.parameterNames = [...(terms.filter.parameterNames ?? []), name];
    else terms.filter.parameterValues = [...(terms.filter.parameterValues ?? []), [name, given]];
  }
  return undefined;
}

function single(read: (value: string, terms: TermsDraft) => string | undefined | void): QueryKey {
  return {
    many: false,
    hasColons: false,
    read([text], terms) {
      const description = read(text, terms) ?? undefined;
      return description === undefined ? undefined : { description, value: 0 };
    },
  };
}

/** A word of a list with commas, and the index of the value it is of. */
interface Word {
  readonly text: string;
  readonly value: number;
}

function list(read: (words: readonly Word[], terms: TermsDraft) => InvalidValue | undefined): QueryKey {
  return {
    many: true,
    hasColons: false,
    read(values, terms) {
      const words = values.flatMap((list, value) => list.split(',').map((word) => ({ text: word.trim(), value })));
      const tooMany = words[maxListSize];
      if (tooMany === undefined) return read(words, terms);
      return { description: `has ${words.length} values, more than ${maxListSize}`, value: tooMany.value };
    },
  };
}

/** The words that are not empty. */
function present(words: readonly Word[]): Word[] {
  return words.filter(({ text }) => text !== '');
}

function oneOf<Value>(words: ReadonlyMap<string, Value>, set: (value: Value, terms: TermsDraft) => void): QueryKey {
  return single((word, terms) => {
    const value = words.get(word);
    if (value === undefined) return `"${echo(word)}" is not a valid value: use ${[...words.keys()].join(', ')}`;
    set(value, terms);
    return undefined;
  });
}

/** Go's strconv.ParseBool, for lower-cased words. */
const booleans: ReadonlyMap<string, boolean> = new Map([
  ['1', true],
  ['t', true],
  ['true', true],
  ['0', false],
  ['f', false],
  ['false', false],
]);

function boolean(set: (value: boolean, terms: TermsDraft) => void): QueryKey {
  return single((word, terms) => {
    const value = booleans.get(word);
    if (value === undefined) return `"${echo(word)}" must be a valid boolean: true or false`;
    set(value, terms);
    return undefined;
  });
}

function time(set: (at: string, terms: TermsDraft) => void): QueryKey {
  return {
    ...single((text, terms) => {
      const at = parseTime(text);
      if (at === undefined) return `"${echo(text)}" must be a valid date: 2026-11-23, or 2026-11-23T10:00:00Z`;
      // Coder's zero time: as if the term were not there.
      if (at !== '0001-01-01 00:00:00.000000') set(at, terms);
      return undefined;
    }),
    hasColons: true,
  };
}

/** An RFC 3339 time in either case, or a day, as DATETIME(6) in UTC; what is below a microsecond is cut off. */
function parseTime(text: string): string | undefined {
  const [, day, clock = '00:00:00', fraction = '', zone = 'Z'] =
    /^(\d{4}-\d\d-\d\d)(?:t(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(z|[+-]\d\d:\d\d))?$/i.exec(text) ?? [];
  if (day === undefined || clock.startsWith('24') || /^[+-](?:2[4-9]|[3-9])/.test(zone)) return undefined;
  const milliseconds = Date.parse(`${day}T${clock}${zone.toUpperCase()}`);
  // Date.parse takes 2026-02-31 for March; the day must come back as it went in.
  if (Number.isNaN(milliseconds) || new Date(Date.parse(`${day}T00:00:00Z`)).toISOString().slice(0, 10) !== day) return undefined;
  const seconds = BigInt(milliseconds / 1000);
  if (seconds < -62_135_596_800n || seconds > 253_402_300_799n) return undefined; // years 1 to 9999, as the database has them
  return formatDatetime({ seconds, nanos: Number(fraction.padEnd(9, '0')) });
}

/** A UUID in any form that Coder takes in a query: plain, 32 digits, with `urn:uuid:` in front, or between two characters. */
export function parseLooseUuid(text: string): Buffer | undefined {
  if (/^[0-9a-f]{32}$/i.test(text)) return Buffer.from(text, 'hex');
  return (
    parseUuid(text) ??
    parseUuid(text.replace(/^urn:uuid:/i, '')) ??
    (text.length === 38 ? parseUuid(text.slice(1, -1)) : undefined)
  );
}

function wordsOf<Value extends number>(values: Readonly<Record<string, Value>>): ReadonlyMap<string, Value> {
  return new Map(
    Object.entries(values)
      .filter(([name]) => name !== 'UNSPECIFIED')
      .map(([name, value]) => [name.toLowerCase(), value]),
  );
}
