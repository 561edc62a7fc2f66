import { type JSX, useState } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { taskPath } from './address.ts';
import { inBase } from './base-path.ts';
import { copyText } from './copy-text.ts';
import type { Selection } from './use-selection.ts';

/** Most tasks that are opened at once: each is a tab. */
const maxOpened = 20;

/** The address of a task's view, to be sent. */
export function addressOf({ id }: Pick<Task, 'id'>): string {
  return new URL(inBase(taskPath(id)), location.href).href;
}

/** What can be done with the selected tasks: their names and links are copied, or they are opened. Nothing changes a task. */
export function SelectionBar({ selection }: { readonly selection: Selection }): JSX.Element | null {
  const { tasks, clear } = selection;
  /** What was done last, and with which tasks. */
  const [done, setDone] = useState<{ readonly text: string; readonly tasks: readonly Task[] }>();
  if (tasks.length === 0) return null;
  const say = (text: string): void => setDone({ text, tasks });
  const copy = (texts: readonly string[], what: string): void => {
    copyText(texts.join('\n')).then(
      () => say(`${texts.length} ${what}${texts.length === 1 ? '' : 's'} copied`),
      () => say('The browser does not allow that here'),
    );
  };
  const open = (): void => {
    // Without `noopener`, which would hide whether it was opened: it is our own page.
    const opened = tasks.slice(0, maxOpened).filter((task) => window.open(addressOf(task), '_blank') !== null);
    if (opened.length < Math.min(tasks.length, maxOpened))
      say(`The browser opened ${opened.length}: allow pop-ups for this page`);
    else if (opened.length < tasks.length) say(`The first ${opened.length} are open`);
  };
  return (
    <div className="selection-bar" role="region" aria-label="Selected tasks">
      <strong role="status">{tasks.length} selected</strong>
      <button
        type="button"
        className="button"
        onClick={() =>
          copy(
            tasks.map(({ name }) => name),
            'name',
          )
        }
      >
        Copy names
      </button>
      <button type="button" className="button" onClick={() => copy(tasks.map(addressOf), 'link')}>
        Copy links
      </button>
      <button type="button" className="button" onClick={open}>
        Open
      </button>
      <button type="button" className="button quiet" onClick={clear}>
        Clear
      </button>
      <span role="status">{done?.tasks === tasks && done.text}</span>
    </div>
  );
}
