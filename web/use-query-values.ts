import { useQuery } from '@tanstack/react-query';
import { type ListQueryValuesResponse, QueryKey } from '../src/gen/tasks/v1/tasks_pb.ts';
import { isNamed, type KnownValue } from './query-completion.ts';
import type { Service } from './service.ts';
import { useService } from './service-context.ts';

/** A key whose values only the service knows. */
export type ListedKey = 'owner' | 'template';

/** How long values are taken for the present ones, in milliseconds. */
const freshMs = 60_000;

/** All values of a key that the user may see and that begin with a text: the service is asked again only where it has more than it told. */
export function useQueryValues(key: ListedKey | undefined, beginning: string): readonly KnownValue[] {
  const service = useService();
  const options = { staleTime: freshMs, retry: false };
  const all = useQuery({
    ...options,
    queryKey: ['values', key, ''],
    queryFn: ({ signal }) => readValues(service, key, '', signal),
    enabled: key !== undefined,
  });
  const prefix = beginning.toLowerCase();
  const narrowed = useQuery({
    ...options,
    queryKey: ['values', key, prefix],
    queryFn: ({ signal }) => readValues(service, key, prefix, signal),
    enabled: key !== undefined && prefix !== '' && all.data?.incomplete === true,
  });
  // The first ones are there by how people know them, too.
  const found = prefix === '' || narrowed.data === undefined ? [] : narrowed.data.values;
  const byValue = new Map([...(all.data?.values ?? []), ...found].map(({ value, displayName }) => [value, displayName]));
  return Array.from(byValue, ([value, about]) => ({ value, about })).filter((known) => isNamed(known, prefix));
}

function readValues(
  { client }: Service,
  key: ListedKey | undefined,
  prefix: string,
  signal: AbortSignal,
): Promise<ListQueryValuesResponse> {
  return client.listQueryValues({ key: key === 'owner' ? QueryKey.OWNER : QueryKey.TEMPLATE, prefix }, { signal });
}
