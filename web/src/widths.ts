// How many cells a character takes: the same answers as the main's renderer gives, so that tables stay aligned.
import type { IUnicodeVersionProvider } from "@xterm/xterm";
import { WIDE, ZERO } from "./width_table";

const NARROW_BELOW = 0x300;

function inside(code: number, ranges: readonly number[]): boolean {
  let low = 0;
  let high = ranges.length / 2 - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (code < (ranges[2 * middle] as number)) high = middle - 1;
    else if (code > (ranges[2 * middle + 1] as number)) low = middle + 1;
    else return true;
  }
  return false;
}

/** 0 for combining marks, 2 for wide characters, else 1. */
export function codeWidth(code: number): 0 | 1 | 2 {
  if (code < NARROW_BELOW) return 1;
  if (inside(code, ZERO)) return 0;
  return inside(code, WIDE) ? 2 : 1;
}

/** Cells of a text without control characters. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += codeWidth(character.codePointAt(0) as number);
  return width;
}

/** The same for xterm.js: marks join the character before them. */
export const WIDTHS: IUnicodeVersionProvider = {
  version: "retirecluster",
  wcwidth: codeWidth,
  charProperties(code, preceding) {
    const before = (preceding >> 1) & 3;
    const own = codeWidth(code);
    const joins = own === 0 && preceding !== 0 && before !== 0;
    return (((joins ? before : own) & 3) << 1) | (joins ? 1 : 0);
  },
};
