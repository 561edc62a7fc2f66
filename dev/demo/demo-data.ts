import { readFileSync } from 'node:fs';
import * as z from 'zod';
import { type Situation, situations } from './situations.ts';

const situation = z.enum(Object.keys(situations) as Situation[]);

/** An age: a number and one of s, m, h, d, w. */
const age = z.templateLiteral([z.number(), z.enum(['s', 'm', 'h', 'd', 'w'])]);

/** A text; one of several lines is an array of lines. */
const text = z.union([z.string(), z.array(z.string()).transform((lines) => lines.join('\n'))]);

/** A state and a message of at most 160 bytes, optionally followed by ` | ` and a link. */
const report = z.templateLiteral([z.enum(['working', 'idle', 'complete', 'failure']), ' ', z.string()]);

/** The actions of Coder's sharing role `use`, and all actions. */
const roles = { use: ['application_connect', 'read', 'ssh', 'start', 'stop'], all: ['*'] } as const;

/**
 * Who else may do what: a username, `@group`, or `@organization` for its group Everyone, and a role or a list of actions. Without
 * `read` among these, a task is in no list of theirs.
 */
const shared = z.record(
  z.string(),
  z.union([z.enum(['use', 'all']).transform((role): readonly string[] => roles[role]), z.array(z.string()).readonly()]),
);

/** The fields that tasks and other workspaces have in common. */
const workspace = z.strictObject({
  /** The key of a template. */
  template: z.string(),
  /** Its history. */
  situation,
  /** The age of its latest build. */
  age,
  favorite: z.literal(true).exactOptional(),
  /** How long it has been dormant. */
  dormant: age.exactOptional(),
  shared: shared.exactOptional(),
  /** Whether its builds are of the template's oldest version. */
  outdated: z.literal(true).exactOptional(),
});

const task = workspace.extend({
  /** The name of the workspace is `task-<name>-<four hex digits>`, of at most 32 characters. */
  name: z.string().max(22),
  prompt: text,
  /** The agent's reports, oldest first. */
  says: z.array(report).readonly().exactOptional(),
  /** Whether a dev container with an agent of its own runs inside. */
  subAgent: z.literal(true).exactOptional(),
});

const workspaces = workspace.extend({
  owner: z.string(),
  names: z.array(z.string()),
  /** An empty prompt, for a template that runs agents. */
  prompt: z.literal('').exactOptional(),
});

/** A task with explicit id, name and times. */
const exampleTask = z.strictObject({
  id: z.uuid(),
  name: z.string(),
  prompt: z.string(),
  createdAt: z.iso.datetime(),
  report: z.strictObject({
    at: z.iso.datetime(),
    state: z.enum(['working', 'idle', 'complete', 'failure']),
    message: z.string(),
  }),
});

/** An id is derived from the name where none is given. */
const id = z.uuid().exactOptional();

const organization = z.strictObject({ name: z.string(), displayName: z.string(), icon: z.string(), id });

const user = z.strictObject({
  username: z.string(),
  name: z.string(),
  avatar: z.string(),
  /** `active` where absent. */
  status: z.enum(['suspended', 'dormant']).exactOptional(),
  /** Site roles besides `member`. */
  roles: z.array(z.string()).exactOptional(),
  /** The organizations the user belongs to, with the roles there besides `organization-member`. */
  organizations: z.record(z.string(), z.array(z.string())),
  groups: z.array(z.string()).exactOptional(),
  id,
});

const template = z.strictObject({
  /** Its key in the other files; unlike the name it is unique over all organizations. */
  key: z.string(),
  organization: z.string(),
  name: z.string(),
  displayName: z.string(),
  icon: z.string(),
  /** Its versions; the last is the active one. */
  versions: z.array(z.string()).nonempty(),
  /** Whether it runs agents. */
  agent: z.boolean(),
  deleted: z.literal(true).exactOptional(),
  /** Parameters that each build has, besides the prompt. */
  parameters: z.record(z.string(), z.string()),
  /** Type and name of the resource that a build creates. */
  resource: z.tuple([z.string(), z.string()]),
  id,
});

const people = z.strictObject({
  organizations: z.array(organization),
  /** Groups by organization; each organization also has its group Everyone, whose id is the organization's. */
  groups: z.record(z.string(), z.array(z.string())),
  users: z.array(user),
  templates: z.array(template),
});

/** An age: a number and one of s, m, h, d, w. */
export type Age = z.output<typeof age>;

/** A state and a message of at most 160 bytes, optionally followed by ` | ` and a link. */
export type ReportText = z.output<typeof report>;

/** A task of the demo. */
export type DemoTask = z.output<typeof task>;

/** A template of the demo. */
export type DemoTemplate = z.output<typeof template>;

/**
 * A company that ships a shop, and the consultants who work with it: the five personas of the documentation, an organization's
 * admin, colleagues who make lists look alive, and templates, of which one is deleted while a task still runs on it.
 */
export const demoPeople = read('people.json', people);

/** The example of Coder's change that introduced task lists (coder/coder #19468), value by value: tasks of `developer`. */
export const exampleTasks = read('example-tasks.json', z.array(exampleTask));

/** The other tasks by owner; developer has every status, phase and state. */
export const demoTasks = read('tasks.json', z.record(z.string(), z.array(task)));

/** Workspaces beside the tasks: plain ones, and some of templates of agents that were started without a prompt. */
export const demoWorkspaces = read('workspaces.json', z.array(workspaces));

/** Reads a file beside this one. @throws {Error} that says what is wrong with it, and where. */
function read<Schema extends z.ZodType>(name: string, schema: Schema): z.output<Schema> {
  const { data, error } = schema.safeParse(JSON.parse(readFileSync(new URL(name, import.meta.url), 'utf8')));
  if (error !== undefined) throw new Error(`${name}:\n${z.prettifyError(error)}`);
  return data as z.output<Schema>;
}
