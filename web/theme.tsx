import { type JSX, useState } from 'react';
import { ThemeIcon } from './icons.tsx';

const themes = ['system', 'light', 'dark'] as const;
type Theme = (typeof themes)[number];

const storageKey = 'tasks-service.theme';

/** Applies the stored color theme. */
export function applyTheme(theme: Theme = chosenTheme()): void {
  document.documentElement.dataset['theme'] = theme;
}

/** The button that switches between the system's theme, light and dark. */
export function ThemeButton(): JSX.Element {
  const [theme, setTheme] = useState(chosenTheme);
  const next = themes[(themes.indexOf(theme) + 1) % themes.length] ?? 'system';
  return (
    <button
      type="button"
      className="icon-button"
      title={`Colors: ${theme}. Change to ${next}`}
      aria-label={`Colors: ${theme}. Change to ${next}`}
      onClick={() => {
        localStorage.setItem(storageKey, next);
        applyTheme(next);
        setTheme(next);
      }}
    >
      <ThemeIcon theme={theme} />
    </button>
  );
}

function chosenTheme(): Theme {
  const stored = localStorage.getItem(storageKey);
  return themes.find((theme) => theme === stored) ?? 'system';
}
