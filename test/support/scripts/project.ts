import type { DatabaseAddress } from '../../../src/config.ts';
import type { LeaseTiming } from '../../../src/db/active-process.ts';
import { createLog } from '../../../src/platform/log.ts';
import { createProjector } from '../../../src/projection/projector.ts';

/** Runs a projector until it is killed, without the sweep, which would hide a change that was lost. */
const { lease = {}, ...address } = JSON.parse(process.argv[2] ?? '') as DatabaseAddress & { lease?: Partial<LeaseTiming> };
createProjector({ address, lease, log: createLog('debug'), sweepPassMs: Number.POSITIVE_INFINITY }).start();
setInterval(() => {}, 60_000);
