import type { JSX } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { ToneIcon } from './icons.tsx';
import { markOfState, markOfStatus, milliseconds, wordOfPhase } from './task-words.ts';
import { TimeSince } from './time-ago.tsx';

/** The agent's state, as a colored label, and of a task that waits since when. */
export function StateMark({ task }: { readonly task: Task }): JSX.Element {
  const mark = markOfState(task);
  if (mark === undefined) return <span className="muted">No report</span>;
  return (
    <span className="state-mark">
      <span className={`label ${mark.tone}`} title={mark.about}>
        <ToneIcon tone={mark.tone} />
        {mark.word}
      </span>
      {task.waitingSince !== undefined && <TimeSince at={milliseconds(task.waitingSince)} />}
    </span>
  );
}

/** The workspace's status, and the task's phase where it adds information. */
export function StatusMark({ task }: { readonly task: Task }): JSX.Element {
  const mark = markOfStatus(task.status);
  const phase = wordOfPhase(task.phase);
  return (
    <>
      <span className={`status ${mark.tone}`} title={mark.about}>
        <ToneIcon tone={mark.tone} />
        {mark.word}
      </span>
      {phase !== mark.word && (
        <span className="phase" title="Phase of the task">
          {phase}
        </span>
      )}
    </>
  );
}
