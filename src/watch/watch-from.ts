import type { WatchFrom } from '../tasks/list-tasks.ts';
import { scopeOf } from '../tasks/scope.ts';
import { readWatchQuery } from '../tasks/task-query.ts';
import type { FeedRepository } from './feed-repository.ts';
import { createResumeTokens, shortDigest } from './resume-token.ts';
import { createWatchScope } from './watch-scope.ts';
import type { WatchParts } from './watch-tasks.ts';

/**
 * Makes what gives lists their resume tokens.
 *
 * The position is read from the database each time. That of the reader, in memory, can be ahead of what a page shows: when its
 * connection has come to a cluster's node that is behind the one before.
 */
export function createWatchFrom(feed: Pick<FeedRepository, 'state'>, tokenKeys: WatchParts['tokenKeys']): WatchFrom {
  return async (query, filter, caller) => {
    if (readWatchQuery(query).queryViolations.length > 0) return undefined;
    const { seq, generation } = await feed.state();
    const { digest: rights } = createWatchScope(scopeOf(caller), filter);
    const tokens = createResumeTokens(tokenKeys, { callerId: caller.userId, query });
    return tokens.encode({ seq, generation: shortDigest(generation), rights });
  };
}
