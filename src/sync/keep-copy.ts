import type { Logger } from '../platform/log.ts';
import { keepByPolling, pollingLimits } from './poll.ts';
import { replicationNames } from './publication.ts';
import { keepByReplication, type ReplicationSettings } from './replicate.ts';
import type { KeepCopy } from './sync.ts';

/** The settings of keeping a copy. */
export interface KeepSettings {
  /** How often Coder's tables are polled; undefined for replication. */
  readonly CODER_POLL_SECONDS?: number | undefined;
  readonly CODER_SLOT: string;
}

/** Chooses replication or polling by the settings; the limits of polling are logged. */
export function keepBySettings(
  { CODER_POLL_SECONDS: seconds, CODER_SLOT: slot }: KeepSettings,
  log: Pick<Logger, 'info'>,
  listener: Omit<ReplicationSettings, 'names'> = {},
): KeepCopy {
  if (seconds === undefined) return keepByReplication({ names: replicationNames(slot), ...listener });
  log.info(pollingLimits({ seconds }));
  return keepByPolling({ seconds });
}
