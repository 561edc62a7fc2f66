/** Copies a text. @throws where the browser does not allow that. */
export async function copyText(text: string): Promise<void> {
  // Browsers have the clipboard only for pages from HTTPS or localhost.
  if (navigator.clipboard === undefined) throw new Error('no clipboard');
  await navigator.clipboard.writeText(text);
}
