import type { JSX } from 'react';
import { listPath } from './address.ts';
import { Link } from './navigation.tsx';
import { queryScopeOf, withScope } from './query-text.ts';

/** An empty list: possible reasons, and what the user can do. */
export function NoTasks({ query, orderBy }: { readonly query: string; readonly orderBy: string }): JSX.Element {
  const isMine = queryScopeOf(query) === 'mine';
  const isPlain = query === '' || query === 'owner:me';
  return (
    <div className="notice">
      <h2>{isPlain ? 'You have no tasks yet' : 'No task matches'}</h2>
      <p>
        {isPlain ? 'Tasks appear here as soon as you start one in Coder.' : 'Tasks show here when they match, without a reload.'}{' '}
        You see your own tasks, those shared with you, and those your roles let you read.
      </p>
      <div className="notice-actions">
        {isMine && (
          <Link className="button" href={listPath(withScope(query, 'all'), '')}>
            Look among all tasks
          </Link>
        )}
        {!isPlain && (
          <Link className="button" href={listPath('', orderBy)}>
            Clear the query
          </Link>
        )}
      </div>
    </div>
  );
}

/** Grey placeholder rows while tasks are loading. */
export function LoadingRows(): JSX.Element {
  return (
    <div className="loading" role="status">
      <span className="unseen">Loading the tasks</span>
      {Array.from({ length: 8 }, (_, index) => (
        <div key={index} className="loading-row" aria-hidden="true">
          <span />
          <span />
          <span />
        </div>
      ))}
    </div>
  );
}
