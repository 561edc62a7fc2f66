import type { DatabaseAddress } from '../../../src/config.ts';
import { createLog } from '../../../src/platform/log.ts';
import { replicationNames } from '../../../src/sync/publication.ts';
import { keepByReplication } from '../../../src/sync/replicate.ts';
import { createSync } from '../../../src/sync/sync.ts';

/** Copies from Coder and follows it by replication, until it is killed. */
const { url, address, slot } = JSON.parse(process.argv[2] ?? '') as { url: string; address: DatabaseAddress; slot: string };
createSync({ address, url, log: createLog('debug'), keep: keepByReplication({ names: replicationNames(slot) }) }).start();
setInterval(() => {}, 60_000);
