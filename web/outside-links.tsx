import type { JSX } from 'react';
import type { Task } from '../src/gen/tasks/v1/tasks_pb.ts';
import { AppIcon, OutsideIcon, WorkspaceIcon } from './icons.tsx';
import { settings } from './settings.ts';
import { webLink } from './web-link.ts';

/** A link from a task to something that is not of this page. */
export interface OutsideLink {
  readonly href: string;
  readonly text: string;
  readonly icon: JSX.Element;
}

/** Where a task leads to: the link that its agent reported, its app and its workspace. The last two need the address of Coder. */
export function outsideLinks(task: Task, coderUrl = settings.coderUrl): readonly OutsideLink[] {
  const reported = webLink(task.currentState?.uri ?? '');
  const owner = encodeURIComponent(task.ownerName);
  const coder = coderUrl?.replace(/\/+$/, '');
  const app = { href: `${coder}/tasks/${owner}/${task.id}`, text: 'App', icon: <AppIcon /> };
  const workspace = {
    href: `${coder}/@${owner}/${encodeURIComponent(task.workspaceName)}`,
    text: 'Workspace',
    icon: <WorkspaceIcon />,
  };
  return [
    ...(reported === undefined ? [] : [{ href: reported, text: reportedText(reported), icon: <OutsideIcon /> }]),
    ...(coder === undefined ? [] : [app, ...(task.workspaceName === '' ? [] : [workspace])]),
  ];
}

/** The links of a task as icons, for its row. */
export function LinkIcons({ task }: { readonly task: Task }): JSX.Element {
  return (
    <>
      {outsideLinks(task).map(({ href, text, icon }) => (
        <a
          key={text}
          className="icon-button"
          href={href}
          target="_blank"
          rel="noopener noreferrer"
          title={`${text}: ${href}`}
          aria-label={`${text} of ${task.name}`}
        >
          {icon}
        </a>
      ))}
    </>
  );
}

function reportedText(link: string): string {
  return /\/(?:pull|merge_requests)\/\d+/.test(link) ? 'Pull request' : 'Link';
}
