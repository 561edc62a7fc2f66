import type { Database } from '../../src/db/connection.ts';
import type { Logger } from '../../src/platform/log.ts';
import { connectedDemoAgents, demoRows } from './demo-rows.ts';
import { insertRows } from './source-rows.ts';

/** The row of `service_settings` that marks the demo data as loaded; its value is the `now` that it was loaded for. */
const marker = 'demo_loaded';

/** Options of {@link loadDemo}. */
interface LoadDemoOptions {
  /** The time that all times are relative to, except those of the two example tasks. */
  readonly now: Date;
}

/**
 * Loads the demo data once: about 200 workspaces, of which about 120 are tasks. Returns false when it was loaded before.
 *
 * It is one transaction that begins with the marker: an interrupted load leaves nothing, and a second process waits for the
 * first. On a database that already has a user `admin`, it fails and changes nothing. Session tokens are not part of the data.
 *
 * It writes source tables only; their triggers write the changes to the outbox.
 */
export async function loadDemo(database: Database, { now }: LoadDemoOptions): Promise<boolean> {
  return await database.transaction(async (transaction) => {
    const [{ affectedRows }] = (await transaction.raw('insert ignore into `service_settings` (`name`, `value`) values (?, ?)', [
      marker,
      now.toISOString(),
    ])) as [{ affectedRows: number }];
    if (affectedRows === 0) return false;
    const rows = demoRows(now);
    // `migrate down` removes the marker and keeps the source tables.
    const present = await transaction('users')
      .where('users.id', rows.users[0]?.id ?? '')
      .select<unknown[]>('users.id');
    if (present.length > 0) return false;
    await insertRows(transaction, rows);
    return true;
  });
}

/** How often the demo's agents report, in milliseconds: Coder calls an agent disconnected after 30 s of silence. */
const reportIntervalMs = 10_000;

/** Options of {@link keepDemoAgentsConnected}. */
interface KeepConnectedOptions {
  /** Milliseconds between two reports, 10,000 by default. */
  readonly intervalMs?: number;
  readonly log?: Logger;
}

/** The timer that keeps the demo's agents connected. */
interface AgentKeeper {
  /** Stops it; resolves when no statement runs any more. */
  stop(): Promise<void>;
}

/**
 * Keeps the connected agents of the demo connected, by a report for each of them now and every ten seconds. Without it they would
 * count as disconnected half a minute after the load.
 *
 * It skips agents that were disconnected by hand (`disconnected_at` is set) or deleted. An error is logged at debug, since the
 * database may be restarting, and the next report follows as usual. The timer does not keep the process alive.
 *
 *   update `workspace_agents` set `workspace_agents`.`last_connected_at` = utc_timestamp(6)
 *   where `workspace_agents`.`id` in (…) and `workspace_agents`.`disconnected_at` is null and `workspace_agents`.`deleted` = 0
 *
 * No row of the read model depends on the column, so the triggers ignore it.
 */
export function keepDemoAgentsConnected(database: Database, options: KeepConnectedOptions = {}): AgentKeeper {
  const { intervalMs = reportIntervalMs, log } = options;
  const agents = connectedDemoAgents();
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let running = Promise.resolve();
  const report = async (): Promise<void> => {
    try {
      await database('workspace_agents')
        .whereIn('workspace_agents.id', agents)
        .whereNull('workspace_agents.disconnected_at')
        .where('workspace_agents.deleted', false)
        .update('workspace_agents.last_connected_at', database.raw('utc_timestamp(6)'));
    } catch (error) {
      log?.debug({ err: error }, 'the demo agents could not report');
    }
    if (!stopped) timer = setTimeout(turn, intervalMs).unref();
  };
  const turn = (): void => {
    running = report();
  };
  turn();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await running;
    },
  };
}
