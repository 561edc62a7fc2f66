import type { JSX, ReactNode } from 'react';
import type { Tone } from './task-words.ts';

/** A shape for each tone, so that a mark can be read without its color. */
export function ToneIcon({ tone }: { readonly tone: Tone }): JSX.Element {
  switch (tone) {
    case 'busy':
      return (
        <Icon>
          <circle cx="8" cy="8" r="5.75" />
          <path d="M6.75 5.5v5L10.5 8z" fill="currentColor" />
        </Icon>
      );
    case 'asking':
      return (
        <Icon>
          <path d="M2.5 3.5h11v7.5h-6L4.5 13.5V11h-2z" />
          <path d="M5.5 7.25h.01M8 7.25h.01M10.5 7.25h.01" strokeWidth="1.9" />
        </Icon>
      );
    case 'good':
      return (
        <Icon>
          <circle cx="8" cy="8" r="5.75" />
          <path d="m5.5 8.2 1.8 1.8 3.3-3.7" />
        </Icon>
      );
    case 'bad':
      return (
        <Icon>
          <path d="M5.6 2.25h4.8l3.35 3.35v4.8l-3.35 3.35H5.6L2.25 10.4V5.6z" />
          <path d="M8 5v3.4M8 10.8h.01" strokeWidth="1.9" />
        </Icon>
      );
    case 'calm':
      return (
        <Icon>
          <circle cx="8" cy="8" r="5.75" strokeDasharray="2.4 2.12" />
        </Icon>
      );
    default:
      return tone satisfies never;
  }
}

export const AppIcon = (): JSX.Element => (
  <Icon>
    <rect x="2.25" y="3" width="11.5" height="10" rx="1.5" />
    <path d="m5 6.5 2 1.75L5 10M8.500 10.250H11" />
  </Icon>
);

export const WorkspaceIcon = (): JSX.Element => (
  <Icon>
    <rect x="2.25" y="2.75" width="11.5" height="8" rx="1.5" />
    <path d="M8 10.750v2.5M5.250 13.250h5.500" />
  </Icon>
);

export const HelpIcon = (): JSX.Element => (
  <Icon>
    <circle cx="8" cy="8" r="5.75" />
    <path d="M6.25 6.500a1.750 1.750 0 1 1 2.600 1.500c-.55.32-.85.650-.85 1.250M8 11.250h.01" />
  </Icon>
);

export const SearchIcon = (): JSX.Element => (
  <Icon>
    <circle cx="7" cy="7" r="4.5" />
    <path d="m10.5 10.5 3.5 3.5" />
  </Icon>
);

export const CloseIcon = (): JSX.Element => (
  <Icon>
    <path d="m4 4 8 8M12 4l-8 8" />
  </Icon>
);

export const BackIcon = (): JSX.Element => (
  <Icon>
    <path d="M13 8H3.5M7 4 3 8l4 4" />
  </Icon>
);

export const CopyIcon = (): JSX.Element => (
  <Icon>
    <rect x="5.5" y="5.5" width="8" height="8" rx="1.5" />
    <path d="M10.5 5.5v-2a1 1 0 0 0-1-1h-6a1 1 0 0 0-1 1v6a1 1 0 0 0 1 1h2" />
  </Icon>
);

export const CheckIcon = (): JSX.Element => (
  <Icon>
    <path d="m3 8.5 3.2 3.2L13 5" />
  </Icon>
);

export const OutsideIcon = (): JSX.Element => (
  <Icon>
    <path d="M6.5 3.5h-3v9h9v-3M9 3.5h3.5V7M12.5 3.5l-5 5" />
  </Icon>
);

export const StarIcon = (): JSX.Element => (
  <Icon className="filled">
    <path d="m8 1.9 1.9 3.9 4.2.6-3.05 3 .72 4.25L8 11.6l-3.77 2.05.720-4.25-3.05-3 4.2-.6z" />
  </Icon>
);

export const LogoIcon = (): JSX.Element => (
  <svg className="logo" viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="9" />
    <path d="M8 10.5h9M8 16h6M8 21.5h9" strokeOpacity=".65" />
    <path d="m17.5 16.5 3 3 5-6" />
  </svg>
);

export const BellIcon = ({ isOn }: { readonly isOn: boolean }): JSX.Element => (
  <Icon>
    <path
      d="M8 2.25a4 4 0 0 1 4 4c0 3.5 1.5 4.5 1.5 4.5h-11S4 9.750 4 6.250a4 4 0 0 1 4-4z"
      fill={isOn ? 'currentColor' : undefined}
    />
    <path d={isOn ? 'M6.75 13.5h2.5' : 'M6.75 13.5h2.5M2.5 2.5l11 11'} />
  </Icon>
);

export const ThemeIcon = ({ theme }: { readonly theme: 'system' | 'light' | 'dark' }): JSX.Element => {
  switch (theme) {
    case 'system':
      return (
        <Icon>
          <circle cx="8" cy="8" r="5.75" />
          <path d="M8 2.25a5.75 5.75 0 0 1 0 11.5z" fill="currentColor" />
        </Icon>
      );
    case 'light':
      return (
        <Icon>
          <circle cx="8" cy="8" r="2.75" />
          <path d="M8 1.5v1.2M8 13.3v1.2M1.5 8h1.2M13.3 8h1.2M3.4 3.4l.85.85M11.75 11.75l.85.85M3.4 12.6l.85-.850M11.75 4.25l.85-.850" />
        </Icon>
      );
    case 'dark':
      return (
        <Icon>
          <path d="M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1z" />
        </Icon>
      );
    default:
      return theme satisfies never;
  }
};

/** A decorative icon: the text beside it has the same meaning. */
function Icon({ children, className = '' }: { readonly children: ReactNode; readonly className?: string }): JSX.Element {
  return (
    <svg className={`icon ${className}`} viewBox="0 0 16 16" aria-hidden="true">
      {children}
    </svg>
  );
}
