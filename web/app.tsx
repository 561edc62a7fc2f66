import { TransportProvider } from '@connectrpc/connect-query';
import { QueryClientProvider } from '@tanstack/react-query';
import { type JSX, useMemo } from 'react';
import type { Address } from './address.ts';
import { Attention } from './attention.tsx';
import { useAddress } from './navigation.tsx';
import { NotFound } from './not-found.tsx';
import { connectService } from './service.ts';
import { ServiceContext } from './service-context.ts';
import { useSession } from './session.ts';
import { SignIn } from './sign-in.tsx';
import { TaskList } from './task-list.tsx';
import { TaskView } from './task-view.tsx';

/** The page: the view that the URL names for a signed-in user, else the sign-in. */
export function App(): JSX.Element {
  const session = useSession();
  // This is so whoever asks.
  if (useAddress().view === 'nowhere') return <NotFound />;
  switch (session.status) {
    case 'looking':
      return <main aria-busy="true" />;
    case 'signed-out':
      return <SignIn message={session.message} />;
    case 'signed-in':
      return <SignedIn key={session.token} token={session.token} />;
    default:
      return session satisfies never;
  }
}

function SignedIn({ token }: { readonly token: string }): JSX.Element {
  const service = useMemo(() => connectService(token), [token]);
  const address = useAddress();
  return (
    <ServiceContext value={service}>
      <TransportProvider transport={service.transport}>
        <QueryClientProvider client={service.answers}>
          <Attention address={address} />
          <View address={address} />
        </QueryClientProvider>
      </TransportProvider>
    </ServiceContext>
  );
}

function View({ address }: { readonly address: Address }): JSX.Element {
  switch (address.view) {
    case 'list':
      return <TaskList query={address.query} orderBy={address.orderBy} />;
    case 'task':
      return <TaskView key={JSON.stringify(address)} asked={address} />;
    case 'nowhere':
      return <NotFound />;
    default:
      return address satisfies never;
  }
}
