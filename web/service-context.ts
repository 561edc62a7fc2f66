import { createContext, useContext } from 'react';
import type { Service } from './service.ts';

/** Provides the service to the views of a signed-in user. */
export const ServiceContext = createContext<Service | undefined>(undefined);

/** The service, for a view of a signed-in user. */
export function useService(): Service {
  const service = useContext(ServiceContext);
  if (service === undefined) throw new Error('only a signed-in person has the service');
  return service;
}
