import type { Config } from '../config.ts';
import { loadDemo } from '../demo/demo.ts';
import { generateTasks } from '../demo/generate.ts';
import { projectAll } from '../projection/rebuild.ts';
import { migrateUp } from '../schema/migrations.ts';
import { progressBar } from './progress-bar.ts';
import { withDatabase } from './with-database.ts';

/** Loads the demo data, or with `tasks` makes so many tasks beside them, and leaves a complete read model. */
export function generateDemo(config: Config, options: { readonly tasks?: number; readonly seed: number }): Promise<void> {
  return withDatabase(config, async (database) => {
    await migrateUp(database, { triggers: config.MIGRATE_TRIGGERS });
    if (options.tasks === undefined) {
      const loaded = await loadDemo(database, { now: new Date() });
      if (loaded) await projectAll(database);
      console.log(loaded ? 'the demo data are loaded' : 'the demo data were there already');
      return;
    }
    const { tasks, seed } = options;
    const bar = progressBar(process.stderr);
    await generateTasks(database, { tasks, seed, onProgress: bar.show });
    bar.end();
    console.log(`${tasks} tasks are there, made from the seed ${seed}`);
  });
}
