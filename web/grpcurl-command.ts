/** The command that gets a task by grpcurl, as the README writes it. Whoever runs it has a token in `TOKEN`. */
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

/** A word as a POSIX shell takes it literally. */
export function quoteForShell(word: string): string {
  return /^[\w.:/-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
