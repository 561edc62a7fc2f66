/** The grpcurl command that gets a task, as in the README. It reads the token from the variable `TOKEN`. */
export function grpcurlCommand(
  grpc: { readonly host: string; readonly port: number; readonly secure: boolean },
  id: string,
): string {
  const options = grpc.secure ? '' : '-plaintext ';
  return [
    `grpcurl ${options}-H "coder-session-token: $TOKEN" \\`,
    `  -d ${quoteForShell(JSON.stringify({ id }))} \\`,
    `  ${quoteForShell(`${grpc.host}:${grpc.port}`)} tasks.v1.TasksService/GetTask`,
  ].join('\n');
}

/** A word quoted for a POSIX shell. */
export function quoteForShell(word: string): string {
  return /^[\w.:/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
