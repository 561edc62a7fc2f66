import { type JSX, type SyntheticEvent, useEffect, useState, useSyncExternalStore } from 'react';
import { inBase } from './base-path.ts';
import { demoSecret, onDemoSecret } from './demo-secret.ts';
import { LogoIcon } from './icons.tsx';
import { isAccepted } from './service.ts';
import { signIn } from './session.ts';
import { settings } from './settings.ts';
import { ThemeButton } from './theme.tsx';

/** Descriptions of the demo's users. Others are shown without one. */
const demoUsers: Readonly<Record<string, string>> = {
  developer: 'has tasks of her own',
  teammate: 'is on the same team',
  admin: 'sees everyone’s tasks',
  outsider: 'is of another organization',
};

/** The sign-in form for a session token; with demo data it also has a button for each demo user. */
export function SignIn({ message }: { readonly message?: string | undefined }): JSX.Element {
  const [token, setToken] = useState('');
  const [problem, setProblem] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const demoTokens = useDemoTokens();

  const enter = async (given: string): Promise<void> => {
    setBusy(true);
    setProblem(undefined);
    try {
      if (await isAccepted(given)) signIn(given);
      else setProblem('This token is not accepted: it is misspelled, has expired or was revoked.');
    } catch {
      setProblem('The service cannot be reached. Try again in a moment.');
    } finally {
      setBusy(false);
    }
  };
  const onSubmit = (event: SyntheticEvent): void => {
    event.preventDefault();
    const given = token.trim();
    if (given === '') setProblem('Paste a session token first.');
    else void enter(given);
  };

  return (
    <main className="sign-in">
      <div className="sign-in-theme">
        <ThemeButton />
      </div>
      <LogoIcon />
      <h1>Tasks</h1>
      <p className="muted">Which AI coding tasks run in our workspaces, and how are they doing?</p>
      {message !== undefined && (
        <p className="banner asking" role="status">
          {message}
        </p>
      )}
      {demoTokens?.length === 0 && (
        <p className="banner asking" role="status">
          This is a demo. To look around as one of its users, open the whole address that <code>npm start</code> has printed, with
          what stands behind the <code>#</code>, on the machine where it runs.
        </p>
      )}
      {demoTokens !== undefined && demoTokens.length > 0 && (
        <section aria-labelledby="demo-title">
          <h2 id="demo-title">Look around as</h2>
          <ul className="demo-users">
            {demoTokens.map(([username, demoToken]) => (
              <li key={username}>
                <button type="button" className="button demo-user" disabled={isBusy} onClick={() => void enter(demoToken)}>
                  <strong>{username}</strong>
                  <span>{demoUsers[username]}</span>
                </button>
              </li>
            ))}
          </ul>
          <p className="or">or</p>
        </section>
      )}
      <form onSubmit={onSubmit} noValidate>
        <label htmlFor="token">Session token</label>
        <input
          id="token"
          type="password"
          autoComplete="off"
          spellCheck={false}
          value={token}
          aria-invalid={problem !== undefined}
          aria-describedby={problem === undefined ? 'token-help' : 'token-problem'}
          onChange={(event) => setToken(event.target.value)}
        />
        {problem === undefined ? (
          <p id="token-help" className="help">
            The one your Coder client uses, or one made with <code>keys create</code>. It stays in this browser until its last tab
            of this page is closed.
          </p>
        ) : (
          <p id="token-problem" className="help problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" className="button primary" disabled={isBusy}>
          {isBusy ? 'Signing in…' : 'Sign in'}
        </button>
      </form>
    </main>
  );
}

/** The session tokens of the demo users by username. */
type DemoTokens = readonly (readonly [username: string, token: string])[];

/** The tokens of the demo users, which the service gives to a tab that was opened with the secret; undefined until it is known. */
function useDemoTokens(): DemoTokens | undefined {
  const secret = useSyncExternalStore(onDemoSecret, demoSecret);
  const [tokens, setTokens] = useState<DemoTokens>();
  useEffect(() => {
    if (!settings.demo) return;
    const stop = new AbortController();
    void readDemoTokens(secret, stop.signal)
      .catch(() => []) // without buttons a token can still be pasted
      .then((read) => {
        if (!stop.signal.aborted) setTokens(read);
      });
    return () => stop.abort();
  }, [secret]);
  return tokens;
}

async function readDemoTokens(secret: string | null, signal: AbortSignal): Promise<DemoTokens> {
  // Only this machine is given them: on the way to another one the secret would be told for nothing.
  if (secret === null || !/^(?:localhost|127\.[\d.]+|\[::1\])$/.test(location.hostname)) return [];
  const response = await fetch(inBase('/demo/tokens'), { headers: { 'demo-secret': secret }, signal, credentials: 'omit' });
  if (!response.ok) return [];
  const { tokens } = (await response.json()) as { tokens: Record<string, string> };
  const order = Object.keys(demoUsers);
  return Object.entries(tokens).sort(([one], [other]) => order.indexOf(one) - order.indexOf(other));
}
