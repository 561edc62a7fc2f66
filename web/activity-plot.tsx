import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { type JSX, useId, useState } from 'react';
import {
  type Activity,
  type ActivityHistory,
  activities,
  activityHistory,
  hourlyOf,
  linesOf,
  mostOf,
  plotSize,
} from './activity.ts';
import { useService } from './service-context.ts';
import { localTime } from './time-ago.tsx';
import { countText } from './use-counts.ts';

/** How often it is asked for, in milliseconds. A hidden tab does not ask. */
const everyMs = 60_000;

const storageKey = 'tasks-service.plot';

const clockTime = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });

/** How many tasks of a query waited, worked and were failed over the last 24 hours. It can be folded, and then asks for nothing. */
export function ActivityPlot({ query, mayLoad }: { readonly query: string; readonly mayLoad: boolean }): JSX.Element | null {
  const [isOpen, setOpen] = useState(() => localStorage.getItem(storageKey) !== 'folded');
  const { client } = useService();
  const { data, isError } = useQuery({
    queryKey: ['activity', query],
    queryFn: async ({ signal }) => activityHistory(await client.countTasksOverTime({ query }, { signal })) ?? null,
    enabled: isOpen && mayLoad,
    placeholderData: keepPreviousData,
    staleTime: everyMs,
    refetchInterval: everyMs,
    retry: false,
  });
  const history = data ?? undefined;
  // The list says what is wrong.
  if (isError && history === undefined) return null;
  return (
    <details
      className="activity"
      open={isOpen}
      onToggle={({ currentTarget: { open } }) => {
        if (open === isOpen) return;
        setOpen(open);
        if (open) localStorage.removeItem(storageKey);
        else localStorage.setItem(storageKey, 'folded');
      }}
    >
      <summary>Last 24 hours</summary>
      <div className="activity-room">{history !== undefined && isOpen && <Plot history={history} />}</div>
    </details>
  );
}

function Plot({ history }: { readonly history: ActivityHistory }): JSX.Element {
  const title = useId();
  const { points, since, capped } = history;
  const lines = linesOf(history);
  const last = points.at(-1) ?? points[0];
  const text = (count: number, of: Activity): string => countText({ count, isCapped: capped[of] });
  const mostText = (of: Activity): string => text(Math.max(...points.map((point) => point[of])), of);
  const { width, height } = plotSize;
  return (
    <figure>
      <ul className="activity-legend">
        {activities.map((of) => (
          <li key={of}>
            <svg className={`line ${of}`} viewBox="0 0 24 8" aria-hidden="true">
              <polyline points="0,4 24,4" />
            </svg>
            {text(last[of], of)} {of}
          </li>
        ))}
      </ul>
      <svg
        className="activity-lines"
        viewBox={`0 0 ${width} ${height}`}
        preserveAspectRatio="none"
        role="img"
        aria-labelledby={title}
      >
        <title id={title}>
          {`Tasks over the last 24 hours. ${activities
            .map((of) => `${of}: ${text(last[of], of)} now, at most ${mostText(of)}`)
            .join('; ')}`}
        </title>
        {activities.map((of) => (
          <polyline key={of} className={`line ${of}`} points={lines[of]} />
        ))}
      </svg>
      <span className="activity-most" aria-hidden="true">
        {countText({ count: mostOf(points), isCapped: false })}
      </span>
      <figcaption className="activity-times">
        <span>{since === undefined ? '24 h ago' : `Known since ${localTime(since)}`}</span>
        <Table history={history} />
        <span>now</span>
      </figcaption>
    </figure>
  );
}

/** The same as numbers, by the hour. */
function Table({ history }: { readonly history: ActivityHistory }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  return (
    <details className="activity-table" onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>As a table</summary>
      {isOpen && (
        <table>
          <caption className="unseen">Tasks that were waiting, working and failed, by the hour</caption>
          <thead>
            <tr>
              {['time', ...activities].map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {hourlyOf(history)
              .toReversed()
              .map((point) => (
                <tr key={point.at}>
                  <th scope="row" title={localTime(point.at)}>
                    {clockTime.format(point.at)}
                  </th>
                  {activities.map((of) => (
                    <td key={of}>{countText({ count: point[of], isCapped: history.capped[of] })}</td>
                  ))}
                </tr>
              ))}
          </tbody>
        </table>
      )}
    </details>
  );
}
