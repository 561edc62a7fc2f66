import { settings } from './settings.ts';

/** The path of the page's root, with a slash at both ends: `/`, or wherever a proxy has put the service. */
export const basePath: string = new URL(settings.root, location.href).pathname;

/** A path of the page, such as `/tasks/1`, as browsers must ask for it. */
export function inBase(path: string): string {
  return basePath + path.slice(1);
}
