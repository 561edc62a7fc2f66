import { CommandError } from '../../src/commands/command-error.ts';
import { progressBar } from '../../src/commands/progress-bar.ts';
import type { Config } from '../../src/config.ts';
import type { Database } from '../../src/db/connection.ts';
import { projectAll } from '../../src/projection/rebuild.ts';
import { migrateUp } from '../../src/schema/migrations.ts';
import { readSyncState } from '../../src/sync/sync-state.ts';
import { loadDemo } from './demo.ts';
import { generateTasks } from './generate.ts';

/** Loads the demo data into a database, or generates tasks, and completes the read model. */
export async function fillDatabase(
  database: Database,
  config: Config,
  generated: { readonly tasks: number; readonly seed: number } | undefined,
): Promise<void> {
  await migrateUp(database, { triggers: config.MIGRATE_TRIGGERS });
  if ((await readSyncState(database)).phase !== 'none')
    throw new CommandError('the database is a copy of a Coder, and takes no demo data');
  if (generated === undefined) {
    const loaded = await loadDemo(database, { now: new Date() });
    if (loaded) await projectAll(database);
    console.log(loaded ? 'demo data loaded' : 'the demo data was loaded before');
    return;
  }
  const bar = progressBar(process.stderr);
  await generateTasks(database, { ...generated, onProgress: bar.show });
  bar.end();
  console.log(`the database has ${generated.tasks} tasks of seed ${generated.seed}`);
}
