import type { JSX } from 'react';
import { listPath } from './address.ts';
import { ToneIcon } from './icons.tsx';
import { goTo } from './navigation.tsx';
import { queryScopeOf, valueOf, withScope, withTerm } from './query-text.ts';
import type { WaitingCount } from './use-task-list.ts';

const numbers = new Intl.NumberFormat();

/** Buttons for the most common queries and orders. All of them only edit the query and the order. */
export function ListControls(props: {
  readonly query: string;
  readonly orderBy: string;
  readonly waiting: WaitingCount | undefined;
}): JSX.Element {
  const { query, orderBy, waiting } = props;
  const scope = queryScopeOf(query);
  const isWaiting = valueOf(query, 'waiting') === 'true';
  const show = (nextQuery: string): void => {
    // Names order one owner's tasks only.
    const isOneOwners = queryScopeOf(nextQuery) !== 'all';
    goTo(listPath(nextQuery, isOneOwners || !orderBy.startsWith('name') ? orderBy : ''));
  };
  const ordersByName = scope === 'all' ? [] : [['name', 'Name, A to Z'] as const, ['name desc', 'Name, Z to A'] as const];
  const orders = [
    ['', scope === 'all' ? 'Newest first' : 'Running first'],
    ...(scope === 'all' ? [] : [['created_at desc', 'Newest first'] as const]),
    ['created_at', 'Oldest first'],
    ...ordersByName,
  ] as const;

  return (
    <div className="controls">
      <div className="segments" role="group" aria-label="Whose tasks">
        <button type="button" aria-pressed={scope === 'mine'} onClick={() => show(withScope(query, 'mine'))}>
          My tasks
        </button>
        <button type="button" aria-pressed={scope === 'all'} onClick={() => show(withScope(query, 'all'))}>
          All tasks
        </button>
      </div>
      <button
        type="button"
        className="toggle asking"
        aria-pressed={isWaiting}
        onClick={() => show(withTerm(query, 'waiting', isWaiting ? undefined : 'true'))}
      >
        <ToneIcon tone="asking" />
        Waiting for input
        {waiting !== undefined && (
          <span className="count">
            {numbers.format(waiting.count)}
            {waiting.isCapped && '+'}
          </span>
        )}
      </button>
      <label className="order">
        <span className="unseen">Order</span>
        <select
          value={orders.some(([value]) => value === orderBy) ? orderBy : ''}
          onChange={(event) => goTo(listPath(query, event.target.value))}
        >
          {orders.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
