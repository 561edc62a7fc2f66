import type { JSX, ReactNode } from 'react';
import { LogoIcon } from './icons.tsx';
import { LiveIndicator } from './live-indicator.tsx';
import { Link } from './navigation.tsx';
import { NotificationButton } from './notification-button.tsx';
import { signOut } from './session.ts';
import type { LiveStatus } from './task-stream.ts';
import { ThemeButton } from './theme.tsx';

/** The header of every view: a link to the list, the status of updates, notifications, the color theme, and the button to sign out. */
export function PageHeader({ status, children }: { readonly status: LiveStatus; readonly children?: ReactNode }): JSX.Element {
  return (
    <header className="page-header">
      <Link className="home" href="/">
        <LogoIcon />
        <span>Tasks</span>
      </Link>
      {children}
      <div className="page-header-end">
        <LiveIndicator status={status} />
        <NotificationButton />
        <ThemeButton />
        <button type="button" className="button quiet" onClick={signOut}>
          Sign out
        </button>
      </div>
    </header>
  );
}
