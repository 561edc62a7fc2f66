/** The URL of a link if it is http or https. Anything else, such as `javascript:`, must be shown as text. */
export function webLink(text: string): string | undefined {
  const url = URL.parse(text);
  return url !== null && (url.protocol === 'https:' || url.protocol === 'http:') ? url.href : undefined;
}
