import type { CoderErrorBody } from '../../src/transport/coder/coder-error.ts';
import type { CoderTask } from '../../src/transport/coder/coder-task.ts';
import { type CoderAnswer, coderRows } from './coder-rows.ts';

/** What the service answered to the request of a recorded answer. */
export interface OurAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** A difference on purpose: the point of docs/coder-differences.md, or of docs/coder-json.md for texts of errors. */
export type KnownDifference =
  | 'what is a task, in a list'
  | 'what is a task, got by its id'
  | 'what is a task, where the list failed as a whole'
  | 'template deleted or unreadable'
  | 'deleted workspaces'
  | 'pages of a list that is longer here'
  | 'initial prompt'
  | 'current state'
  | 'texts of validations'
  | 'text of a 401'
  | 'text of a 404';

/** The fields of Coder's first version. */
const fields = [
  ...(['id', 'organization_id', 'owner_id', 'name', 'template_id', 'workspace_id', 'initial_prompt', 'status'] as const),
  ...(['current_state', 'created_at', 'updated_at'] as const),
];

type Row = Record<string, string | null>;
type ListBody = { readonly tasks: readonly CoderTask[]; readonly count: number };

/**
 * Compares answers with recorded ones of the seed, field by field. What differs on purpose is recognized by the rows: a task is listed
 * more only if its latest build is not flagged, and so on.
 */
export class CoderComparison {
  readonly #workspaces = byId(coderRows('seed', 'workspaces'));
  readonly #templates = byId(coderRows('seed', 'templates'));
  readonly #owners = new Set(
    coderRows('seed', 'users')
      .filter(({ rbac_roles }) => rbac_roles?.includes('owner'))
      .map(({ id }) => id),
  );
  readonly #builds = Map.groupBy(
    coderRows('seed', 'workspace_builds').toSorted((a, b) => Number(b['build_number']) - Number(a['build_number'])),
    ({ workspace_id }) => workspace_id,
  );
  readonly #prompts = new Map(
    coderRows('seed', 'workspace_build_parameters')
      .filter(({ name }) => name === 'AI Prompt')
      .map(({ workspace_build_id, value }) => [workspace_build_id, value]),
  );

  /**
   * The differences on purpose between two answers, each as often as it is there.
   *
   * @param callerId who asked.
   * @param whole what the service answered without `limit` and `offset`, if the request has them.
   * @throws {Error} with the first difference that is not among them.
   */
  compare(recorded: CoderAnswer, ours: OurAnswer, callerId: string, whole?: OurAnswer): KnownDifference[] {
    const { status, body } = recorded;
    if (status === 200 && ours.status === 200) {
      if (!isList(body)) return this.#compareTask(body as CoderTask, ours.body as CoderTask);
      return whole === undefined
        ? this.#compareLists(body, ours.body as ListBody, recorded.path, callerId)
        : this.#comparePages(recorded, ours.body as ListBody, whole.body as ListBody);
    }
    if (status === 500 && ours.status === 200) {
      const { detail = '' } = body as CoderErrorBody;
      const culprit = (ours.body as ListBody).tasks.find(({ id }) => detail.includes(id));
      if (culprit === undefined || this.#isFlagged(culprit.id)) throw new Error('the list failed for another reason');
      return ['what is a task, where the list failed as a whole'];
    }
    if (status === 404 && ours.status === 200) {
      if (this.#isFlagged((ours.body as CoderTask).id)) throw new Error('a flagged task was 404');
      return ['what is a task, got by its id'];
    }
    if (status !== ours.status) throw new Error(`is ${ours.status}, was ${status}`);
    return compareErrors(status, body as CoderErrorBody, ours.body as CoderErrorBody);
  }

  #compareLists(recorded: ListBody, ours: ListBody, path: string, callerId: string): KnownDifference[] {
    const known = new Map(recorded.tasks.map((task) => [task.id, task]));
    const both = ours.tasks.filter(({ id }) => known.has(id));
    requireSame('the tasks in their order', both.map(name), recorded.tasks.map(name));
    requireSame('count', ours.count, ours.tasks.length);
    requireSame('count', recorded.count, recorded.tasks.length);
    const more = ours.tasks.filter(({ id }) => !known.has(id)).map(({ id }) => this.#whyMore(id, path, callerId));
    return [...more, ...both.flatMap((task) => this.#compareTask(known.get(task.id) ?? task, task))];
  }

  /** Coder's page is a slice of its list, and ours is one of ours, which the answer for the whole list was compared for. */
  #comparePages({ path, body }: CoderAnswer, ours: ListBody, whole: ListBody): KnownDifference[] {
    const parameters = new URLSearchParams(path.split('?')[1]);
    const offset = Number(parameters.get('offset') ?? 0);
    const limit = Number(parameters.get('limit') ?? 0);
    requireSame('the page', ours.tasks, whole.tasks.slice(offset, limit === 0 ? undefined : offset + limit));
    if (JSON.stringify(ours.tasks.map(name)) === JSON.stringify((body as ListBody).tasks.map(name))) return [];
    return ['pages of a list that is longer here'];
  }

  #whyMore(id: string, path: string, callerId: string): KnownDifference {
    const workspace = this.#workspaces.get(id);
    const template = this.#templates.get(workspace?.['template_id'] ?? '');
    if (workspace?.['deleted'] === 't') {
      if (!path.includes('status%3Adeleted')) throw new Error(`a deleted task is listed: ${workspace['name']}`);
      return 'deleted workspaces';
    }
    if (!this.#isFlagged(id)) return 'what is a task, in a list';
    const isShared = template?.['group_acl'] !== '{}' || template['user_acl'] !== '{}';
    if (template?.['deleted'] === 't' || (!isShared && !this.#owners.has(callerId))) return 'template deleted or unreadable';
    throw new Error(`${workspace?.['name']} is listed, and was not`);
  }

  #compareTask(recorded: CoderTask, ours: CoderTask): KnownDifference[] {
    return fields.flatMap((field) => {
      if (JSON.stringify(recorded[field]) === JSON.stringify(ours[field])) return [];
      const builds = this.#builds.get(ours.id) ?? [];
      if (field === 'initial_prompt' && recorded.initial_prompt === '') {
        const earlier = builds.map(({ id }) => this.#prompts.get(id ?? '')).find((prompt) => prompt !== undefined);
        requireSame(`the prompt of ${ours.name}`, ours.initial_prompt, earlier);
        return ['initial prompt'];
      }
      if (field === 'current_state' && recorded.current_state !== null && ours.current_state === null) {
        const start = builds.find(({ transition }) => transition === 'start')?.['created_at'] ?? '';
        if (Date.parse(recorded.current_state.timestamp) > Date.parse(start)) throw new Error(`${ours.name} has lost its state`);
        return ['current state'];
      }
      throw new Error(`${field} of ${ours.name} is ${JSON.stringify(ours[field])}, was ${JSON.stringify(recorded[field])}`);
    });
  }

  #isFlagged(id: string): boolean {
    return this.#builds.get(id)?.[0]?.['has_ai_task'] === 't';
  }
}

function compareErrors(status: number, recorded: CoderErrorBody, ours: CoderErrorBody): KnownDifference[] {
  if (JSON.stringify(ours) === JSON.stringify(recorded)) return [];
  if (status === 401) return ['text of a 401'];
  if (status === 404) return ['text of a 404'];
  requireSame('the message', ours.message, recorded.message);
  const fieldsOf = ({ validations }: CoderErrorBody) => validations?.map(({ field }) => field);
  requireSame('the fields', fieldsOf(ours), fieldsOf(recorded));
  return ['texts of validations'];
}

function requireSame(what: string, ours: unknown, recorded: unknown): void {
  const [is, was] = [JSON.stringify(ours), JSON.stringify(recorded)];
  if (is !== was) throw new Error(`${what}: is ${is}, was ${was}`);
}

function isList(body: unknown): body is ListBody {
  return typeof body === 'object' && body !== null && 'tasks' in body;
}

function name(task: CoderTask): string {
  return task.name;
}

function byId(rows: readonly Row[]): ReadonlyMap<string, Row> {
  return new Map(rows.map((row) => [row['id'] ?? '', row]));
}
