import type { Database } from '../../src/db/connection.ts';
import type { Logger } from '../../src/platform/log.ts';
import { connectedDemoAgents, demoRows } from './demo-rows.ts';
import { insertRows } from './source-rows.ts';

/** The row of `service_settings` that says the demo data are there; its value is the `now` they were loaded for. */
const marker = 'demo_loaded';

/** When demo data are loaded. */
interface LoadDemoOptions {
  /** What all times but those of the two example tasks are relative to. They age from there on. */
  readonly now: Date;
}

/**
 * Loads the demo data once: about 200 workspaces, of which about 120 are tasks. Returns whether it did; false means that they
 * were there.
 *
 * One transaction begins with the marker and ends with everything, so that an interrupted load leaves nothing and is redone,
 * and a second process waits for the first and then finds its work done. Rows of people are not looked for: on a database that
 * already has a user `admin`, it fails and changes nothing. Session tokens are not part of the data.
 *
 * Only source tables are written; the triggers note the changes for the projector.
 */
export async function loadDemo(database: Database, { now }: LoadDemoOptions): Promise<boolean> {
  return await database.transaction(async (transaction) => {
    const [{ affectedRows }] = (await transaction.raw('insert ignore into `service_settings` (`name`, `value`) values (?, ?)', [
      marker,
      now.toISOString(),
    ])) as [{ affectedRows: number }];
    if (affectedRows === 0) return false;
    const rows = demoRows(now);
    // `migrate down` takes the marker away, and leaves the source tables.
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

/** How the demo's agents are kept connected. */
interface KeepConnectedOptions {
  /** Milliseconds between two reports, 10,000 by default. */
  readonly intervalMs?: number;
  readonly log?: Logger;
}

/** What keeps the demo's agents connected. */
interface AgentKeeper {
  /** Ends it; resolves when nothing of it runs any more. */
  stop(): Promise<void>;
}

/**
 * Keeps the agents that the demo says are connected so, by reporting for them at once and then every ten seconds; without it
 * they would count as disconnected half a minute after the load.
 *
 * The others stay as they are, and so does one that was disconnected by hand (`disconnected_at` is set) or deleted. An error is
 * logged at debug and the next turn tries again: the database may be restarting. The timer does not keep the process alive.
 *
 *   update `workspace_agents` set `workspace_agents`.`last_connected_at` = utc_timestamp(6)
 *   where `workspace_agents`.`id` in (…) and `workspace_agents`.`disconnected_at` is null and `workspace_agents`.`deleted` = 0
 *
 * No task depends on the column, so the triggers note nothing.
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
