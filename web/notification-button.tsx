import type { JSX } from 'react';
import { BellIcon } from './icons.tsx';
import { chooseNotifications, type NotificationChoice, useNotificationChoice } from './notifications.ts';

const texts: Readonly<Record<Exclude<NotificationChoice, 'impossible'>, string>> = {
  on: 'Notifications are on: one for each of your tasks that begins to wait. Switch them off',
  off: 'Notifications are off. Notify me when one of my tasks begins to wait',
  refused: 'Notifications are blocked in the settings of the browser',
};

/** The button that switches notifications on and off, where the browser has them. */
export function NotificationButton(): JSX.Element | null {
  const choice = useNotificationChoice();
  if (choice === 'impossible') return null;
  return (
    <button
      type="button"
      className="icon-button"
      title={texts[choice]}
      aria-label={texts[choice]}
      aria-pressed={choice === 'on'}
      disabled={choice === 'refused'}
      onClick={() => void chooseNotifications(choice === 'off')}
    >
      <BellIcon isOn={choice === 'on'} />
    </button>
  );
}
