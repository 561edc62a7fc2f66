import type { JSX } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { ToneIcon } from './icons.tsx';
import { type Mark, markOfState, markOfStatus, wordOfPhase } from './task-words.ts';

/** The agent's state, as a colored label. */
export function StateMark({ task }: { readonly task: Task }): JSX.Element {
  if (task.currentState === undefined) return <span className="muted">No report</span>;
  return <Label mark={markOfState(task.currentState.state)} />;
}

/** The workspace's status, and the task's phase where it adds information. */
export function StatusMark({ task }: { readonly task: Task }): JSX.Element {
  const mark = markOfStatus(task.status);
  const phase = wordOfPhase(task.phase);
  return (
    <>
      <span className={`status ${mark.tone}`}>
        <ToneIcon tone={mark.tone} />
        {mark.word}
      </span>
      {phase !== mark.word && <span className="phase">{phase}</span>}
    </>
  );
}

function Label({ mark: { word, tone } }: { readonly mark: Mark }): JSX.Element {
  return (
    <span className={`label ${tone}`}>
      <ToneIcon tone={tone} />
      {word}
    </span>
  );
}
