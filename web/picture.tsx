import { type JSX, useState } from 'react';
import { colorOf, initialsOf, pictureAddress } from './picture-address.ts';
import { settings } from './settings.ts';

/** The number of colors for initials in task-list.css. */
const colors = 6;

/** The picture of a user or a template, or its initials. Screen readers skip it: the name stands beside it. */
export function Picture({ address, name, shape }: { address: string; name: string; shape: 'round' | 'square' }): JSX.Element {
  const [failed, setFailed] = useState('');
  const source = pictureAddress(address, settings.imageOrigins);
  if (source === undefined || failed === source) {
    return (
      <span aria-hidden="true" className={`picture ${shape} color-${colorOf(name, colors)}`}>
        {initialsOf(name)}
      </span>
    );
  }
  return (
    <img
      className={`picture ${shape}`}
      src={source}
      alt=""
      loading="lazy"
      referrerPolicy="no-referrer"
      onError={() => setFailed(source)}
    />
  );
}
