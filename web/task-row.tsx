import { type JSX, type MouseEvent, memo } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { taskPath } from './address.ts';
import { StarIcon } from './icons.tsx';
import type { TimeColumn } from './list-order.ts';
import { StateMark, StatusMark } from './marks.tsx';
import { Link } from './navigation.tsx';
import { LinkIcons } from './outside-links.tsx';
import { Picture } from './picture.tsx';
import { titleOf } from './task-words.ts';
import { TimeAgo } from './time-ago.tsx';

/** The columns of a list: those that not every list has depend on its tasks and its order. */
export interface Columns {
  readonly withOwner: boolean;
  readonly time: TimeColumn;
}

/** The names of the columns. */
export function columnNames({ withOwner, time }: Columns): readonly string[] {
  return ['Task', 'State', 'Status', ...(withOwner ? ['Owner'] : []), 'Template', time.name, 'Links'];
}

/** A row of the list. All of it is a link to the task's view. */
export const TaskListRow = memo(
  (props: {
    readonly task: Task;
    readonly columns: Columns;
    /** Its index in the whole list. */
    readonly index: number;
    /** Where it stands and how high it is, in pixels. */
    readonly top: number;
    readonly height: number;
    /** Whether the task was removed from the list and its row is held back. */
    readonly hasLeft: boolean;
    readonly isFresh: boolean;
    readonly isSelected: boolean;
    onFocus(id: string): void;
    /** Selects the task, or with `isRange` all up to it. */
    onSelect(id: string, isRange: boolean): void;
  }): JSX.Element => {
    const { task, columns, index, top, height, hasLeft, isFresh, isSelected, onFocus, onSelect } = props;
    const title = titleOf(task);
    const template = task.templateDisplayName === '' ? task.templateName : task.templateDisplayName;
    const time = columns.time.at(task);
    return (
      <div
        role="row"
        aria-rowindex={index + 2} // the column headers are row 1
        data-id={task.id}
        className={`row${hasLeft ? ' left' : ''}${isFresh ? ' fresh' : ''}${isSelected ? ' selected' : ''}`}
        style={{ height, transform: `translateY(${top}px)` }}
        onClick={openFromMark}
      >
        <div role="cell" className="cell task">
          <label className="select" title="Select, with Shift all up to here">
            <input
              type="checkbox"
              aria-label={`Select ${task.name}`}
              checked={isSelected}
              onFocus={() => onFocus(task.id)}
              // The event of a change does not say whether Shift is held; one of a click comes from the keyboard, too.
              onChange={() => {}}
              onClick={(event) => onSelect(task.id, event.shiftKey)}
            />
          </label>
          <Link
            className="title"
            href={taskPath(task.id)}
            note={{ opened: task.id }}
            title={task.initialPrompt.slice(0, 600)}
            onFocus={() => onFocus(task.id)}
          >
            <bdi>{title}</bdi>
          </Link>
          <span className="name">
            {task.favorite && (
              <span className="favorite" title="One of your favorites">
                <StarIcon />
                <span className="unseen">Favorite</span>
              </span>
            )}
            <bdi>{task.name}</bdi>
          </span>
        </div>
        <div role="cell" className="cell state">
          {hasLeft ? <span className="label calm">Not in this list any more</span> : <StateMark task={task} />}
          {task.currentState !== undefined && task.currentState.message !== '' && (
            <span className="message" title={task.currentState.message.slice(0, 600)}>
              <bdi>{task.currentState.message}</bdi>
            </span>
          )}
        </div>
        <div role="cell" className="cell workspace">
          <StatusMark task={task} />
        </div>
        {columns.withOwner && (
          <div role="cell" className="cell owner">
            <Picture address={task.ownerAvatarUrl} name={task.ownerName} shape="round" />
            <bdi>{task.ownerName}</bdi>
          </div>
        )}
        <div role="cell" className="cell template">
          <Picture address={task.templateIcon} name={template} shape="square" />
          <bdi>{template}</bdi>
        </div>
        <div role="cell" className="cell time">
          {time > 0 && <TimeAgo at={time} />}
        </div>
        <div role="cell" className="cell links">
          <LinkIcons task={task} />
        </div>
      </div>
    );
  },
);

/** Marks and times lie above the link of the row, for what they say on hover: a click on them is one on the link. */
function openFromMark({ target, currentTarget, nativeEvent }: MouseEvent<HTMLElement>): void {
  if (target instanceof Element && target.closest('a, label') === null) {
    currentTarget.querySelector('a.title')?.dispatchEvent(new window.MouseEvent('click', nativeEvent));
  }
}
