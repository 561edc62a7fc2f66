import type { CSSProperties, JSX } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { taskPath } from './address.ts';
import { StarIcon } from './icons.tsx';
import { StateMark, StatusMark } from './marks.tsx';
import { Link } from './navigation.tsx';
import { Picture } from './picture.tsx';
import { changedAt, titleOf } from './task-words.ts';
import { TimeAgo } from './time-ago.tsx';

/** The columns of the list. */
export const columns = ['Task', 'State', 'Status', 'Owner', 'Template', 'Changed'] as const;

/** A row of the list. All of it is a link to the task's view. */
export function TaskListRow(props: {
  readonly task: Task;
  /** Its index in the whole list. */
  readonly index: number;
  readonly style: CSSProperties;
  /** Whether the task was removed from the list and its row is held back. */
  readonly hasLeft: boolean;
  readonly isFresh: boolean;
  onFocus(): void;
}): JSX.Element {
  const { task, index, style, hasLeft, isFresh, onFocus } = props;
  const title = titleOf(task);
  const template = task.templateDisplayName === '' ? task.templateName : task.templateDisplayName;
  return (
    <div
      role="row"
      aria-rowindex={index + 2} // the column headers are row 1
      data-id={task.id}
      className={`row${hasLeft ? ' left' : ''}${isFresh ? ' fresh' : ''}`}
      style={style}
    >
      <div role="cell" className="cell task">
        <Link
          className="title"
          href={taskPath(task.id)}
          note={{ opened: task.id }}
          title={task.initialPrompt.slice(0, 600)}
          onFocus={onFocus}
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
      <div role="cell" className="cell owner">
        <Picture address={task.ownerAvatarUrl} name={task.ownerName} shape="round" />
        <bdi>{task.ownerName}</bdi>
      </div>
      <div role="cell" className="cell template">
        <Picture address={task.templateIcon} name={template} shape="square" />
        <bdi>{template}</bdi>
      </div>
      <div role="cell" className="cell changed">
        <TimeAgo at={changedAt(task)} />
      </div>
    </div>
  );
}
