/** Names of files: a plain name denotes a file directly in the folder, on every platform. */

const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]|(?! )\p{Zs}/u;
const SEPARATOR = /[/\\:]/;

export function isPlainName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && !SEPARATOR.test(name) && !UNPRINTABLE.test(name);
}
