import { Counter, Histogram, type Registry } from 'prom-client';

/** The names of statements in metrics and traces. The list is closed, so that clients cannot create labels. */
export const statementNames = [
  'list_tasks',
  'count_tasks',
  'count_task_kinds',
  'count_tasks_over_time',
  'list_query_values',
  'get_task_by_id',
  'get_task_by_name',
  'list_task_ids',
  'read_feed_state',
  'read_feed_events',
  'read_changed_tasks',
  'find_session',
  'find_session_secrets',
  'note_session_use',
  'find_jwt_user',
  'find_rights_on_tasks',
  'find_user',
  'find_users',
  'find_organizations',
  'find_templates',
  'find_group',
  'share_organization',
] as const;

/** One of {@link statementNames}. */
export type StatementName = (typeof statementNames)[number];

/** Runs a statement under its name. */
export type RunStatement = <T>(name: StatementName, run: () => Promise<T>) => Promise<T>;

/** Runs a statement without metrics or traces. */
export const runUnmeasured: RunStatement = (_name, run) => run();

/** Buckets from 0.25 ms, the time of a read by key, to 5 s, more than the statement limit. */
const secondsBuckets = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];

/**
 * Adds `tasks_db_statement_seconds` and `tasks_db_statement_failures_total` to the metrics, and returns the function that runs and
 * measures a statement, including its wait for a connection (`tasks_db_pool_acquire_seconds` has that wait alone).
 *
 * @param run runs the statement, for example within a trace.
 */
export function measureStatements(registry: Registry, run: RunStatement = runUnmeasured): RunStatement {
  const seconds = new Histogram({
    name: 'tasks_db_statement_seconds',
    help: 'How long statements of calls took, from asking for a connection to the last row, in seconds.',
    labelNames: ['statement'],
    buckets: secondsBuckets,
    registers: [registry],
  });
  const failures = new Counter({
    name: 'tasks_db_statement_failures_total',
    help: 'Statements of calls that failed, for whatever reason, their limit and a client that left among them.',
    labelNames: ['statement'],
    registers: [registry],
  });
  const measures = new Map(
    statementNames.map((statement) => {
      seconds.zero({ statement });
      failures.inc({ statement }, 0);
      return [statement, { seconds: seconds.labels({ statement }), failures: failures.labels({ statement }) }] as const;
    }),
  );
  return async (name, work) => {
    const started = performance.now();
    try {
      return await run(name, work);
    } catch (error) {
      measures.get(name)?.failures.inc();
      throw error;
    } finally {
      measures.get(name)?.seconds.observe((performance.now() - started) / 1000);
    }
  };
}

/** The methods of `T` that run a statement. */
type Statements<T> = { readonly [K in keyof T]?: StatementName };

/** An object whose methods run their statements under these names; its other methods are as they were. */
export function withStatements<T extends object>(object: T, names: Statements<T>, run: RunStatement): T {
  const named = Object.entries(names as Record<string, StatementName>).map(([method, name]) => {
    const call = (object as Record<string, (...args: unknown[]) => Promise<unknown>>)[method];
    return [method, (...args: unknown[]) => run(name, () => call?.apply(object, args) as Promise<unknown>)] as const;
  });
  return { ...object, ...(Object.fromEntries(named) as Partial<T>) };
}
