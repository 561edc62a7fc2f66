import type { JSX } from 'react';
import { listPath } from './address.ts';
import { ordersOf } from './list-order.ts';
import { goTo, Link } from './navigation.tsx';
import { keyHelp } from './query-completion.ts';
import { queryScopeOf, quoteValue, valueOf, withScope, withTerm } from './query-text.ts';
import { tabOf, tabs, withTab } from './tabs.ts';
import { type Counts, countText } from './use-counts.ts';
import { ValuePicker, WordPicker } from './value-picker.tsx';

/** The tabs with their counts, and buttons for whose tasks and for the order. All of them only edit the query and the order. */
export function ListControls(props: {
  readonly query: string;
  readonly orderBy: string;
  readonly counts: Counts | undefined;
  /** The number of tasks of the present list in words, if it is known. */
  readonly total: string | undefined;
}): JSX.Element {
  const { query, orderBy, counts, total } = props;
  const scope = queryScopeOf(query);
  const chosen = tabOf(query);
  const orders = ordersOf(query);
  /** The path of another query, in the same order if it can have that. */
  const pathOf = (next: string): string => {
    // Each tab of its own has a default.
    const isKept = ordersOf(next).some(([value]) => value === orderBy) && !orderBy.startsWith('current_state');
    return listPath(next, isKept ? orderBy : '');
  };

  return (
    <>
      <div className="controls">
        <div className="segments" role="group" aria-label="Whose tasks">
          <button type="button" aria-pressed={scope === 'mine'} onClick={() => goTo(pathOf(withScope(query, 'mine')))}>
            My tasks
          </button>
          <button type="button" aria-pressed={scope === 'all'} onClick={() => goTo(pathOf(withScope(query, 'all')))}>
            All tasks
          </button>
        </div>
        <Pickers query={query} onQuery={(next) => goTo(pathOf(next))} />
        <span className="total">{total}</span>
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
      <nav className="tabs" aria-label="Tasks by what they do">
        {tabs.map(({ name, word, about }) => (
          <Link
            key={name}
            className={name === 'waiting' && (counts?.waiting.count ?? 0) > 0 ? 'tab asking' : 'tab'}
            href={pathOf(withTab(query, name))}
            title={about}
            aria-current={name === chosen ? 'page' : undefined}
          >
            {word}
            {counts !== undefined && <span className="count">{countText(counts[name])}</span>}
          </Link>
        ))}
      </nav>
    </>
  );
}

/** Boxes to choose owner, template, status and state: terms of the query, too. */
function Pickers({ query, onQuery }: { readonly query: string; onQuery(query: string): void }): JSX.Element {
  const owner = queryScopeOf(query) === 'other' ? valueOf(query, 'owner') : undefined;
  const choose =
    (key: string) =>
    (value: string | undefined): void =>
      onQuery(withTerm(query, key, value && quoteValue(value)));
  return (
    <>
      <ValuePicker
        of="owner"
        label="Owner"
        none="Owner"
        value={owner}
        onChoose={(value) => (value === undefined ? onQuery(withScope(query, 'all')) : choose('owner')(value))}
      />
      <ValuePicker
        of="template"
        label="Template"
        none="Template"
        value={valueOf(query, 'template')}
        onChoose={choose('template')}
      />
      {(['status', 'state'] as const).map((key) => (
        <WordPicker
          key={key}
          label={key === 'status' ? 'Status' : 'State'}
          none={key === 'status' ? 'Status' : 'State'}
          words={keyHelp[key]?.values ?? []}
          value={valueOf(query, key)}
          onChoose={choose(key)}
        />
      ))}
    </>
  );
}
