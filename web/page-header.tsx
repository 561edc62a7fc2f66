import type { JSX, ReactNode } from 'react';
import { AwayBanner } from './away-banner.tsx';
import { LogoIcon } from './icons.tsx';
import { LiveIndicator } from './live-indicator.tsx';
import { Link } from './navigation.tsx';
import { NotificationButton } from './notification-button.tsx';
import { signOut } from './session.ts';
import type { LiveState } from './task-stream.ts';
import { ThemeButton } from './theme.tsx';

/** The header of every view: a link to the list, the status of updates, notifications, the color theme, and the button to sign out. */
export function PageHeader({ live, children }: { readonly live: LiveState; readonly children?: ReactNode }): JSX.Element {
  return (
    <header className="page-header">
      <Link className="home" href="/">
        <LogoIcon />
        <span>Tasks</span>
      </Link>
      {children}
      <div className="page-header-end">
        <LiveIndicator status={live.status} />
        <NotificationButton />
        <ThemeButton />
        <button type="button" className="button quiet" onClick={signOut}>
          Sign out
        </button>
      </div>
      <AwayBanner live={live} />
    </header>
  );
}
