import { create } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { createConnectQueryKey, useQuery } from '@connectrpc/connect-query';
import { useQueryClient } from '@tanstack/react-query';
import { type JSX, type ReactNode, useEffect, useMemo, useState } from 'react';
import { GetTaskResponseSchema, type Task, TasksService } from '../src/gen/tasks/v1/tasks_pb.ts';
import { taskPath } from './address.ts';
import { CopyButton } from './copy-button.tsx';
import { copyText } from './copy-text.ts';
import { ErrorNotice } from './error-notice.tsx';
import { grpcurlCommand } from './grpcurl-command.ts';
import { BackIcon, OutsideIcon } from './icons.tsx';
import { KeyboardHelp, taskKeys } from './keyboard-help.tsx';
import { pollMs } from './live-indicator.tsx';
import { StateMark, StatusMark } from './marks.tsx';
import { goBack, Link, replaceWith } from './navigation.tsx';
import { useLookingAt } from './notifications.ts';
import { outsideLinks } from './outside-links.tsx';
import { PageHeader } from './page-header.tsx';
import { Picture } from './picture.tsx';
import { isCode } from './service.ts';
import { useService } from './service-context.ts';
import { settings } from './settings.ts';
import { changedTimeOf, milliseconds, titleOf, wordOfLifecycle } from './task-words.ts';
import { localTime, TimeAgo } from './time-ago.tsx';
import { setTitle } from './title.ts';
import { useKeys } from './use-keys.ts';
import { useVisible, useWatch } from './use-watch.ts';
import { webLink } from './web-link.ts';

const { getTask } = TasksService.method;
const numbers = new Intl.NumberFormat();

/** The view of one task with all of its fields. */
export function TaskView({ asked }: { readonly asked: TaskName }): JSX.Element {
  const { transport, seen } = useService();
  const answers = useQueryClient();
  const input = useMemo(() => ({ identifier: identifierOf(asked) }), [asked]);
  const key = useMemo(
    () => createConnectQueryKey({ schema: getTask, input, transport, cardinality: 'finite' }),
    [input, transport],
  );
  const answer = useQuery(getTask, input, {
    // What the list has is shown at once.
    placeholderData: () => {
      const listed = 'id' in asked ? seen.lastList().find(({ id }) => id === asked.id) : undefined;
      return listed && create(GetTaskResponseSchema, { task: listed });
    },
  });
  const reload = (): void => void answers.invalidateQueries({ queryKey: key, exact: true });
  const task = answer.data?.task;
  const isAbsent = isCode(answer.error, Code.NotFound, Code.InvalidArgument) && task === undefined;
  const live = useWatch(task === undefined ? undefined : `id:${task.id}`, {
    onEvents(events) {
      const last = events.at(-1);
      if (last === undefined) return;
      if ('upserted' in last) answers.setQueryData(key, create(GetTaskResponseSchema, { task: last.upserted }));
      else reload(); // deleted tasks can still be read
    },
    onGap: reload,
  });
  useEffect(() => {
    if (live.status !== 'polling') return;
    const timer = setInterval(reload, pollMs);
    return () => clearInterval(timer);
  });
  useLookingAt(task?.id, useVisible());
  useEffect(() => {
    setTitle(task === undefined ? 'Tasks' : `${titleOf(task)} · Tasks`);
    if (task !== undefined) seen.noteViewed(task.id);
  }, [task, seen]);

  const { previous, next } = neighbours(seen.lastList(), task);
  const goToTask = (other: Task | undefined): void => {
    if (other !== undefined) replaceWith(taskPath(other.id));
  };
  useKeys({
    Escape: goBack,
    j: () => goToTask(next),
    k: () => goToTask(previous),
    y: () => void copyText(location.href).catch(() => {}),
  });

  return (
    <div className="page">
      <PageHeader live={task === undefined && answer.error !== null ? { status: isAbsent ? 'idle' : 'reconnecting' } : live} />
      <main className="task-view">
        <div className="task-bar">
          <button type="button" className="button quiet back" onClick={goBack}>
            <BackIcon />
            Back
          </button>
          {task !== undefined && <CopyButton text={location.href} what="the link" />}
          {previous !== undefined && <Neighbour task={previous} word="Previous" onGo={goToTask} />}
          {next !== undefined && <Neighbour task={next} word="Next" onGo={goToTask} />}
        </div>
        {task !== undefined && <TaskFields task={task} />}
        {task === undefined && answer.error === null && (
          <p className="muted" role="status">
            Loading the task…
          </p>
        )}
        {isAbsent && <NoTask />}
        {answer.error !== null && task === undefined && !isAbsent && <ErrorNotice error={answer.error} onRetry={reload} />}
      </main>
      <KeyboardHelp keys={taskKeys} />
    </div>
  );
}

/** How an address names a task: by its id, or by its owner and name. */
type TaskName = { readonly id: string } | { readonly owner: string; readonly name: string };

function identifierOf(asked: TaskName) {
  return 'id' in asked
    ? { case: 'id' as const, value: asked.id }
    : { case: 'name' as const, value: { owner: asked.owner, name: asked.name } };
}

/** The tasks before and after one in a list. */
function neighbours(tasks: readonly Task[], task: Task | undefined): { readonly previous?: Task; readonly next?: Task } {
  const index = tasks.findIndex(({ id }) => id === task?.id);
  const [previous, next] = index === -1 ? [] : [tasks[index - 1], tasks[index + 1]];
  return { ...(previous && { previous }), ...(next && { next }) };
}

/** The button to the previous or next task of the list. */
function Neighbour(props: { readonly task: Task; readonly word: string; onGo(task: Task): void }): JSX.Element {
  return (
    <button type="button" className="button quiet" title={titleOf(props.task)} onClick={() => props.onGo(props.task)}>
      {props.word}
    </button>
  );
}

/** The view of a task that does not exist or may not be read, which the service does not distinguish. */
function NoTask(): JSX.Element {
  return (
    <div className="notice" role="alert">
      <h1>There is no such task, or you may not see it</h1>
      <p>Its owner can share the workspace with you, or someone with a role in its organization can look for you.</p>
      <Link className="button" href="/">
        To your tasks
      </Link>
    </div>
  );
}

function TaskFields({ task }: { readonly task: Task }): JSX.Element {
  const state = task.currentState;
  const link = state === undefined ? undefined : webLink(state.uri);
  const template = task.templateDisplayName === '' ? task.templateName : task.templateDisplayName;
  const health = task.workspaceAgentHealth;
  return (
    <article>
      <h1>
        <bdi>{titleOf(task)}</bdi>
      </h1>
      <p className="subtitle">
        <span className="owner">
          <Picture address={task.ownerAvatarUrl} name={task.ownerName} shape="round" />
          <bdi>{task.ownerName}</bdi>
        </span>
        <span className="name">
          <bdi>{task.name}</bdi>
          <CopyButton text={task.name} what="the name" />
        </span>
        {task.favorite && <span className="muted">One of your favorites</span>}
      </p>

      <section className="card current" aria-label="Current state" aria-live="polite">
        <div className="current-marks">
          <StateMark task={task} />
          <StatusMark task={task} />
          {state !== undefined && (
            <span className="muted">
              reported <TimeAgo at={milliseconds(state.timestamp)} />
            </span>
          )}
        </div>
        {state !== undefined && state.message !== '' && (
          <p className="current-message">
            <bdi>{state.message}</bdi>
          </p>
        )}
        {link !== undefined && (
          <a className="outside" href={link} target="_blank" rel="noopener noreferrer">
            <OutsideIcon />
            <bdi>{link}</bdi>
          </a>
        )}
        {outsideLinks(task)
          .filter(({ href }) => href !== link)
          .map(({ href, text, icon }) => (
            <a key={text} className="outside" href={href} target="_blank" rel="noopener noreferrer">
              {icon}
              {text} in Coder
            </a>
          ))}
        {link === undefined && state !== undefined && state.uri !== '' && (
          <p className="muted">
            <bdi>{state.uri}</bdi>
          </p>
        )}
      </section>

      {task.initialPrompt !== '' && <Prompt text={task.initialPrompt} />}

      <div className="columns">
        <section aria-labelledby="workspace-title">
          <h2 id="workspace-title">Workspace</h2>
          <dl>
            <Field name="Name">
              <bdi>{task.workspaceId === undefined ? 'None yet' : task.workspaceName}</bdi>
            </Field>
            {task.workspaceBuildNumber > 0 && <Field name="Build">{task.workspaceBuildNumber}</Field>}
            <Field name="Template">
              <Picture address={task.templateIcon} name={template} shape="square" />
              <bdi>{template}</bdi>
            </Field>
            <Field name="Organization">
              <bdi>{task.organizationName}</bdi>
            </Field>
            {task.workspaceAgentLifecycle !== undefined && (
              <Field name="Agent">
                {wordOfLifecycle(task.workspaceAgentLifecycle)}
                {health !== undefined && (health.healthy ? ', healthy' : `, not healthy: ${health.reason ?? 'no reason given'}`)}
              </Field>
            )}
          </dl>
        </section>
        <section aria-labelledby="times-title">
          <h2 id="times-title">Times</h2>
          <dl>
            <Moment name="Created" time={task.createdAt} />
            <Moment name="Changed" time={changedTimeOf(task)} />
            <Moment name="Last used" time={task.lastUsedAt} />
            <Moment name="Dormant since" time={task.dormantAt} />
          </dl>
        </section>
      </div>

      <section aria-labelledby="ids-title">
        <h2 id="ids-title">Ids</h2>
        <dl className="ids">
          <Id name="Task" value={task.id} />
          <Id name="Owner" value={task.ownerId} />
          <Id name="Organization" value={task.organizationId} />
          <Id name="Template" value={task.templateId} />
          <Id name="Template version" value={task.templateVersionId} />
          <Id name="Workspace" value={task.workspaceId} />
          <Id name="Agent" value={task.workspaceAgentId} />
          <Id name="App" value={task.workspaceAppId} />
        </dl>
      </section>

      <Grpcurl id={task.id} />
    </article>
  );
}

/** A longer prompt is cut until the user asks for the rest: the browser takes seconds to lay out a megabyte. */
const shownCharacters = 20_000;

function Prompt({ text }: { readonly text: string }): JSX.Element {
  const [isWhole, setWhole] = useState(text.length <= shownCharacters);
  return (
    <section aria-labelledby="prompt-title">
      <h2 id="prompt-title">Prompt</h2>
      {/* Focusable, since it scrolls. */}
      <pre className="card prompt" dir="auto" tabIndex={0} aria-labelledby="prompt-title">
        {isWhole ? text : text.slice(0, shownCharacters).toWellFormed()}
      </pre>
      {!isWhole && (
        <button type="button" className="button" onClick={() => setWhole(true)}>
          Show all {numbers.format(text.length)} characters
        </button>
      )}
    </section>
  );
}

/** The grpcurl command that gets the task, without the token. */
function Grpcurl({ id }: { readonly id: string }): JSX.Element {
  const command = grpcurlCommand({ ...settings.grpc, host: location.hostname }, id);
  return (
    <section aria-labelledby="grpcurl-title">
      <h2 id="grpcurl-title">By grpcurl</h2>
      <div className="card command">
        {/* Focusable, since it scrolls. */}
        <pre tabIndex={0} aria-label="Command">
          {command}
        </pre>
        <CopyButton text={command} what="the command" />
      </div>
      <p className="help">
        With a session token in <code>$TOKEN</code>.
      </p>
    </section>
  );
}

function Field({ name, children }: { readonly name: string; readonly children: ReactNode }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Moment({ name, time }: { name: string; time: Task['createdAt'] }): JSX.Element | null {
  if (time === undefined) return null;
  const at = milliseconds(time);
  return (
    <Field name={name}>
      <TimeAgo at={at} />
      <span className="exact">{localTime(at)}</span>
    </Field>
  );
}

function Id({ name, value }: { readonly name: string; readonly value: string | undefined }): JSX.Element | null {
  if (value === undefined || value === '') return null;
  return (
    <Field name={name}>
      <code>{value}</code>
      <CopyButton text={value} what={`the id: ${name}`} />
    </Field>
  );
}
