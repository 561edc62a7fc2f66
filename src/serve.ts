import { Registry } from 'prom-client';
import { createApiKeyRepository } from './auth/api-key-repository.ts';
import { createAuthenticate } from './auth/authenticate.ts';
import { createFindUser } from './auth/user-lookup.ts';
import { createFindTasksHaveRights, createFindUserRights } from './auth/user-rights.ts';
import { createVerifyJwt, type RightsLookup, type VerifyJwt } from './auth/verify-jwt.ts';
import type { RateLimitOf } from './call/admission.ts';
import { createRateLimit } from './call/rate-limit.ts';
import { type Config, listenHost, requireDatabaseUrl } from './config.ts';
import { isClusterNode } from './db/cluster.ts';
import { closeDatabase, connectionsOf, type Database, openDatabase, type PoolOptions, requireDatabase } from './db/connection.ts';
import type { ConnectionPool } from './db/connection-pool.ts';
import { keepLooking, Membership } from './db/membership.ts';
import { addPoolMetrics } from './db/pool-metrics.ts';
import { addReplicaMetrics, openReplica, preferReplica, type Replica } from './db/replica.ts';
import { readPageTokenKey } from './db/settings.ts';
import { measureStatements, withStatements } from './db/statements.ts';
import type { Development } from './development.ts';
import { createLog, type Logger } from './platform/log.ts';
import { version } from './platform/process-metrics.ts';
import { aborted, stopSignal } from './platform/stop-signal.ts';
import { openTracing } from './platform/tracing.ts';
import { createProjector } from './projection/projector.ts';
import { addProjectorMetrics } from './projection/projector-metrics.ts';
import { readinessChecks } from './readiness-checks.ts';
import { migrateUp, requireNewestSchema } from './schema/migrations.ts';
import { createMeasuredSync } from './sync/measured-sync.ts';
import { copyScopeOf } from './sync/source-version.ts';
import { createCountTasks } from './tasks/count-tasks.ts';
import { createCountTasksOverTime } from './tasks/count-tasks-over-time.ts';
import { createGetTask } from './tasks/get-task.ts';
import { createListQueryValues } from './tasks/list-query-values.ts';
import { createListTasks } from './tasks/list-tasks.ts';
import { createPageTokens } from './tasks/page-token.ts';
import { createResolveQuery } from './tasks/resolve-query.ts';
import { createNameLookup } from './tasks/store/name-lookup.ts';
import { createTaskRepository } from './tasks/store/task-repository.ts';
import { createTaskMessages } from './tasks/task-messages.ts';
import { type Certificates, createCertificates } from './transport/certificates.ts';
import { pageFolder } from './transport/page/page.ts';
import { createServer } from './transport/server.ts';
import { tasksMethods } from './transport/tasks-methods.ts';
import { createFeedRepository } from './watch/feed-repository.ts';
import { clusterLagMs, TaskFeed } from './watch/task-feed.ts';
import { createWatchFrom } from './watch/watch-from.ts';
import { addWatchMetrics } from './watch/watch-metrics.ts';
import { createWatchTasks } from './watch/watch-tasks.ts';

/**
 * Runs the service until SIGINT or SIGTERM: on the database of `DATABASE_URL`, or without one on the private database of a
 * checkout. Parts start in the order of their needs and stop in reverse, the listeners first.
 *
 * @throws {ConfigError} when there is neither.
 */
export async function serve(config: Config, development: Development | undefined): Promise<void> {
  const stop = stopSignal();
  const log = createLog(config.LOG_LEVEL);
  const registry = new Registry();
  await using parts = new AsyncDisposableStack();

  const certificates = openCertificates(config, log);
  if (certificates !== undefined) parts.defer(() => certificates.close());

  const privateDatabase =
    config.DATABASE_URL === undefined ? parts.use(await development?.startDatabase(config, log)) : undefined;
  const address = privateDatabase?.address ?? requireDatabaseUrl(config);
  const database = parts.adopt(openDatabase(address, poolOptions(config)), closeDatabase);
  await requireDatabase(database, {
    signal: stop,
    onWait: (why) => log.warn({ why }, 'the database cannot be reached: waiting for it, with all ports closed'),
  });
  if (stop.aborted) return;
  if (privateDatabase !== undefined || config.MIGRATE_ON_START) await migrateUp(database, { triggers: config.MIGRATE_TRIGGERS });
  else await requireNewestSchema(database);

  const demo = parts.use(await privateDatabase?.loadDemo?.(database));
  if (stop.aborted) return;

  // Readiness has connections of its own: a busy pool must not make the service look unready.
  const watched = parts.adopt(
    openDatabase(address, { size: config.DATABASE_REPLICA_URL === undefined ? 1 : 2, statementTimeoutMs: 1000 }),
    closeDatabase,
  );
  const membership = new Membership(log);
  let notServing = await membership.look(watched).catch(() => undefined);
  const left = new AbortController();
  parts.defer(() => left.abort());
  void keepLooking(membership, watched, left.signal, (why) => {
    notServing = why;
  });
  const whyNotServing = (): string | undefined => notServing;
  const replica = openReplicaOf(config, watched, log);
  if (replica !== undefined) {
    parts.defer(() => replica.close());
    await replica.start();
  }
  addPoolMetrics(registry, { primary: database, ...(replica === undefined ? {} : { replica: replica.database }) });

  const tracing = await openTracing(process.env, version);
  if (tracing !== undefined) parts.defer(() => tracing.close());
  const run = measureStatements(registry, tracing?.statement);

  // The reader of the feed has a connection of its own, so that watchers get events while the pool is busy.
  const feedDatabase = parts.adopt(
    openDatabase(address, { size: 1, statementTimeoutMs: config.STATEMENT_TIMEOUT_MS }),
    closeDatabase,
  );
  const feedRepository = (from: Database) =>
    withStatements(createFeedRepository(from, config.AGENT_INACTIVE_SECONDS), feedStatements, run);
  // What another node has committed may show on this one a moment later.
  const isCluster = await isClusterNode(database);
  const mayLagMs = isCluster ? clusterLagMs : 0;
  const feed = parts.adopt(new TaskFeed(feedRepository(feedDatabase), log, { mayLagMs }), (feed) => feed.stop());
  let onWritten = (): void => {};
  if (config.PROJECTOR) {
    const onBatch = tracing === undefined ? {} : { onBatch: tracing.batch };
    const projector = createProjector({ address, log, onEvents: () => feed.wake(), ...onBatch });
    addProjectorMetrics(registry, projector);
    projector.start();
    onWritten = () => projector.wake();
    parts.defer(() => projector.stop());
  }

  if (config.CODER_DATABASE_URL !== undefined) {
    const url = config.CODER_DATABASE_URL;
    const sync = createMeasuredSync(config, registry, { address, url, log, scope: copyScopeOf(config), onWritten });
    sync.start();
    parts.defer(() => sync.stop());
  }

  const taskRepository = (from: Database) =>
    withStatements(createTaskRepository(from, config.AGENT_INACTIVE_SECONDS), taskStatements, run);
  const tasks = taskRepository(database);
  const reads =
    replica === undefined
      ? tasks
      : preferReplica(tasks, taskRepository(replica.database), replica, addReplicaMetrics(registry, replica));
  const resolveQuery = createResolveQuery(createNameLookup(database, config.AUTH_CACHE_SECONDS, run));
  const tokenKeys = await tokenKeysOf(config, database);
  const feedOfCalls = feedRepository(database);
  const listTasks = createListTasks({
    tasks: reads,
    resolveQuery,
    pageTokens: createPageTokens(tokenKeys),
    watched: { tasks, watchFrom: createWatchFrom(feedOfCalls, tokenKeys) },
  });
  const countTasks = createCountTasks({ tasks: reads, resolveQuery });
  const countTasksOverTime = createCountTasksOverTime({ tasks: reads, resolveQuery });
  const listQueryValues = createListQueryValues({ tasks: reads });
  const getTask = createGetTask({ tasks: reads });
  // Always the primary: the rows that an event is about may not have reached a replica.
  const watchTasks = createWatchTasks({
    tasks,
    feed,
    feedRepository: feedOfCalls,
    resolveQuery,
    tokenKeys,
    watchesPerCaller: config.WATCHES_PER_CALLER,
    metrics: addWatchMetrics(registry, feed),
    whyNotServing,
  });

  const keys = withStatements(
    createApiKeyRepository(database),
    { find: 'find_session', findSecrets: 'find_session_secrets', noteUse: 'note_session_use' },
    run,
  );
  const findUser = createFindUser(database);
  const findRights = createFindUserRights(database);
  const findTasksHaveRights = createFindTasksHaveRights(database);
  const rightsLookup: RightsLookup = {
    findUser: (user) => run('find_jwt_user', () => findRights(user)),
    tasksHaveRights: () => run('find_rights_on_tasks', findTasksHaveRights),
  };
  const verifyJwt = jwtCallers(config, rightsLookup, log);
  const host = listenHost(config);
  const server = createServer({
    methods: tasksMethods({ listTasks, countTasks, countTasksOverTime, listQueryValues, getTask, watchTasks }),
    tasks: createTaskMessages(listTasks, getTask),
    findUser: (...user) => run('find_user', () => findUser(...user)),
    coderUrl: config.CODER_URL,
    authenticate: createAuthenticate(keys, config.AUTH_CACHE_SECONDS, {
      log,
      verifyJwt,
      lookupLimits: { lookAgainMs: isCluster ? tokenLagMs : 0 },
      withoutSharing: config.CODER_DISABLE_WORKSPACE_SHARING,
    }),
    host,
    ports: { grpc: config.GRPC_PORT, web: config.WEB_PORT, ops: config.OPS_PORT },
    certificates,
    trustedProxies: config.TRUSTED_PROXIES,
    webOrigins: config.WEB_ORIGINS,
    page: { folder: pageFolder, imageOrigins: config.IMAGE_ORIGINS, coderUrl: config.CODER_URL, demo },
    basePath: config.BASE_PATH,
    reflection: { grpc: config.REFLECTION ?? true, web: config.REFLECTION ?? false },
    readiness: readinessChecks(watched, config, replica, whyNotServing),
    rateLimitOf: rateLimits(config, demo !== undefined),
    isOverloaded: () => isTooLong(connectionsOf(database)) || replica?.isOverloaded() === true,
    whyNotServing,
    log,
    registry,
    trace: tracing?.call,
  });
  const addresses = await server.start();
  parts.defer(() => server.stop());

  if (demo === undefined) {
    privateDatabase?.announce(addresses);
    log.info({ ...addresses, host }, 'listening');
  } else demo.announce(addresses);

  await aborted(stop);
  log.info('stopping');
}

/** The certificates of the settings, if there are any. */
function openCertificates(config: Config, log: Logger): Certificates | undefined {
  const { TLS_CERT_FILE: cert, TLS_KEY_FILE: key, TLS_CLIENT_CA_FILE: clientCa } = config;
  return cert === undefined || key === undefined ? undefined : createCertificates({ cert, key, clientCa }, log);
}

/** The options of the pools that calls read from. */
function poolOptions(config: Config): PoolOptions {
  return {
    size: config.DATABASE_POOL_SIZE,
    statementTimeoutMs: config.STATEMENT_TIMEOUT_MS,
    acquireTimeoutMs,
    // Shorter than the statement limit, so that a table locked by ALTER TABLE is reported as such and not as a slow query.
    session: { lock_wait_timeout: Math.max(1, Math.ceil(config.STATEMENT_TIMEOUT_MS / 1000) - 1) },
  };
}

/** The replica of the settings, if there is one. */
function openReplicaOf(config: Config, primary: Database, log: Logger): Replica | undefined {
  const { DATABASE_REPLICA_URL: address, REPLICA_MAX_STALENESS_SECONDS: maxStalenessSeconds } = config;
  return address && openReplica(address, { primary, pool: poolOptions(config), maxStalenessSeconds, log });
}

/** The keys of page and resume tokens: the one that signs new tokens, and those that are still accepted. */
async function tokenKeysOf(config: Config, database: Database): Promise<[Buffer, ...Buffer[]]> {
  const key = config.PAGE_TOKEN_KEY ?? (await readPageTokenKey(database));
  return config.PAGE_TOKEN_KEY_OLD === undefined ? [key] : [key, config.PAGE_TOKEN_KEY_OLD];
}

/** The names of the task repository's statements in metrics and traces. */
const taskStatements = {
  list: 'list_tasks',
  count: 'count_tasks',
  countKinds: 'count_task_kinds',
  countOverTime: 'count_tasks_over_time',
  values: 'list_query_values',
  getById: 'get_task_by_id',
  getByName: 'get_task_by_name',
  ids: 'list_task_ids',
} as const;

/** The verifier of JSON Web Tokens, if an issuer is set. */
function jwtCallers(config: Config, rights: RightsLookup, log: Logger): VerifyJwt | undefined {
  const { JWT_ISSUER: issuer, JWT_AUDIENCE: audience, JWT_JWKS: jwks, JWT_ROLES_CLAIM: rolesClaim } = config;
  if (issuer === undefined || audience === undefined || jwks === undefined) return undefined;
  return createVerifyJwt({ issuer, audience, jwks, rolesClaim }, rights, log);
}

/** The names of the feed repository's statements in metrics and traces. */
const feedStatements = { state: 'read_feed_state', events: 'read_feed_events', tasks: 'read_changed_tasks' } as const;

/**
 * The limits of overload, in milliseconds. New calls are refused while the oldest request for a connection has waited this long.
 * They are also refused when they would have to wait this long themselves, as soon as the queue has existed for a while: so the
 * queue is never longer than what is served in that time, however slow that is. Of a burst that arrives at once, what is left
 * after the last number is refused.
 */
const maxWaitMs = 500;
const standingMs = 100;

function isTooLong({ longestWaitMs, expectedWaitMs }: ConnectionPool): boolean {
  return longestWaitMs > maxWaitMs || (longestWaitMs > standingMs && expectedWaitMs > maxWaitMs);
}

const acquireTimeoutMs = 1000;

/** After so long, in milliseconds, a cluster's node that is well has what was committed on another one. */
const tokenLagMs = 250;

/** Coder's limit, for clients of its endpoints (coderd/coderd.go). */
const coderCallsPerMinute = 512;

/** One limit for all protocols if it is set; else one for the Coder-shaped JSON alone, and none on one's own machine. */
function rateLimits({ RATE_LIMIT_PER_MINUTE: set }: Config, isDemo: boolean): RateLimitOf {
  const perMinute = set ?? (isDemo ? 0 : coderCallsPerMinute);
  const limit = perMinute === 0 ? undefined : createRateLimit(perMinute);
  return (protocol) => (set !== undefined || protocol === 'coder-json' ? limit : undefined);
}
