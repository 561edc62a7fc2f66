import { create } from '@bufbuild/protobuf';
import { Code } from '@connectrpc/connect';
import { createConnectQueryKey, useQuery } from '@connectrpc/connect-query';
import { useQueryClient } from '@tanstack/react-query';
import { type JSX, type ReactNode, useEffect, useMemo, useState } from 'react';
import { GetTaskResponseSchema, type Task, TasksService } from '../src/gen/tasks/v1/tasks_pb.ts';
import { CopyButton } from './copy-button.tsx';
import { ErrorNotice } from './error-notice.tsx';
import { grpcurlCommand } from './grpcurl-command.ts';
import { BackIcon, OutsideIcon } from './icons.tsx';
import { pollMs } from './live-indicator.tsx';
import { StateMark, StatusMark } from './marks.tsx';
import { goBack, Link } from './navigation.tsx';
import { useLookingAt } from './notifications.ts';
import { PageHeader } from './page-header.tsx';
import { Picture } from './picture.tsx';
import { isCode } from './service.ts';
import { useService } from './service-context.ts';
import { settings } from './settings.ts';
import { milliseconds, titleOf, wordOfLifecycle } from './task-words.ts';
import { localTime, TimeAgo } from './time-ago.tsx';
import { setTitle } from './title.ts';
import { useVisible, useWatch } from './use-watch.ts';
import { webLink } from './web-link.ts';

const { getTask } = TasksService.method;
const numbers = new Intl.NumberFormat();

/** The view of one task with all of its fields. */
export function TaskView({ id }: { readonly id: string }): JSX.Element {
  const { transport } = useService();
  const answers = useQueryClient();
  const input = useMemo(() => ({ identifier: { case: 'id' as const, value: id } }), [id]);
  const key = useMemo(
    () => createConnectQueryKey({ schema: getTask, input, transport, cardinality: 'finite' }),
    [input, transport],
  );
  const answer = useQuery(getTask, input);
  const reload = (): void => void answers.invalidateQueries({ queryKey: key, exact: true });
  const status = useWatch(answer.data === undefined ? undefined : `id:${id}`, {
    onEvents(events) {
      const last = events.at(-1);
      if (last === undefined) return;
      if ('upserted' in last) answers.setQueryData(key, create(GetTaskResponseSchema, { task: last.upserted }));
      else reload(); // deleted tasks can still be read
    },
    onGap: reload,
  });
  useEffect(() => {
    if (status !== 'polling') return;
    const timer = setInterval(reload, pollMs);
    return () => clearInterval(timer);
  });
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.key === 'Escape' && !event.defaultPrevented) goBack();
    };
    document.addEventListener('keydown', onKeyDown);
    return () => document.removeEventListener('keydown', onKeyDown);
  }, []);
  const task = answer.data?.task;
  useLookingAt(id, useVisible());
  useEffect(() => {
    setTitle(task === undefined ? 'Tasks' : `${titleOf(task)} · Tasks`);
  }, [task]);

  return (
    <div className="page">
      <PageHeader status={status} />
      <main className="task-view">
        <button type="button" className="button quiet back" onClick={goBack}>
          <BackIcon />
          Back
        </button>
        {task !== undefined && <TaskFields task={task} />}
        {task === undefined && answer.error === null && (
          <p className="muted" role="status">
            Loading the task…
          </p>
        )}
        {isCode(answer.error, Code.NotFound, Code.InvalidArgument) && task === undefined && <NoTask />}
        {answer.error !== null && task === undefined && !isCode(answer.error, Code.NotFound, Code.InvalidArgument) && (
          <ErrorNotice error={answer.error} onRetry={reload} />
        )}
      </main>
    </div>
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
            <bdi>{link}</bdi>
            <OutsideIcon />
          </a>
        )}
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
              <bdi>{task.workspaceName}</bdi>
            </Field>
            <Field name="Build">{task.workspaceBuildNumber}</Field>
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
            <Moment name="Changed" time={task.updatedAt} />
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
