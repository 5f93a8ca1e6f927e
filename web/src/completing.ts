// What Tab makes of the candidates that the main offers.
import type { Completion } from "./api";
import { dim } from "./event_lines";
import { safeLine } from "./safe_text";
import { textWidth } from "./widths";

const MOST_LISTED = 40;

function commonStart(words: readonly string[]): string {
  let common = words[0] ?? "";
  for (const word of words) while (!word.startsWith(common)) common = common.slice(0, -1);
  return common;
}

/** What to put in place of the word; null where Tab cannot go on by itself. */
export function completed(found: Completion, word: string): string | null {
  const texts = found.candidates.map((each) => each.text);
  if (texts.length === 1) {
    const only = texts[0] as string;
    const more = only.endsWith("=") ? only : `${only} `;
    return more === word ? null : more;
  }
  const common = commonStart(texts);
  return common.length > word.length && common.startsWith(word) ? common : null;
}

/** The candidates with what they mean, one a line where they have a meaning, else side by side. */
export function candidateLines(candidates: Completion["candidates"], columns: number): string {
  const shown = candidates.slice(0, MOST_LISTED);
  const widest = Math.max(...shown.map((each) => textWidth(each.text)));
  const more = candidates.length > shown.length ? `${dim(`… and ${candidates.length - shown.length} more`)}\n` : "";
  if (shown.some((each) => each.doc)) return shown.map((each) => described(each, widest, columns)).join("") + more;
  const perLine = Math.max(1, Math.floor(columns / (widest + 2)));
  let lines = "";
  shown.forEach((each, at) => {
    const last = at === shown.length - 1 || (at + 1) % perLine === 0;
    lines += last ? `${safeLine(each.text)}\n` : safeLine(each.text) + " ".repeat(widest + 2 - textWidth(each.text));
  });
  return lines + more;
}

function described(each: { text: string; doc: string }, widest: number, columns: number): string {
  const doc = safeLine(each.doc);
  const room = columns - widest - 4;
  const cut = room < 8 ? "" : textWidth(doc) > room ? `${doc.slice(0, room - 1)}…` : doc;
  return `  ${safeLine(each.text)}${" ".repeat(widest - textWidth(each.text))}  ${dim(cut)}\n`;
}
